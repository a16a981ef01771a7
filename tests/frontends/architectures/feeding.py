"""How the tests of architectures run a module: all at once, and by every way into caches."""

from __future__ import annotations

import numpy as np

import burnish
from burnish.backends.target import make_backend
from burnish.ir.module import Module
from burnish.runtime.session import counts_of, feed
from burnish.testing import logits_by_steps
from tests import models


def run(module: Module, graph: str, backend: str = "numpy", **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of a graph; what follows from the ids need not be given."""
    runner, ids = make_backend(backend, module), inputs["ids"]
    inputs = feed(module.graphs[graph], ids, counts_of(ids, inputs.get("count")), np.zeros(len(ids), "i4"), more=inputs)
    return {k: runner.to_numpy(v) for k, v in runner(graph, inputs).items()}


def assert_near(ours: np.ndarray, theirs: np.ndarray, what: str = "") -> None:
    """Equal but for rounding."""
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert error < models.WITHIN, f"{what}: {error:.1e} of the largest apart"


def check_forward(module: Module, ids: np.ndarray, expected: np.ndarray, *backends: str) -> None:
    """The plain forward on each of `backends`, as it was loaded and after the default pipeline."""
    for pipeline, m in (("none", module), ("default", burnish.optimize(module))):
        for backend in backends:
            logits = run(m, "forward", backend, ids=ids)["logits"]
            assert_near(logits, expected, f"{backend}, pipeline {pipeline}")


def check_every_feeding(
    module: Module,
    ids: np.ndarray,
    expected: np.ndarray,
    backend: str = "numpy",
) -> None:
    """Logits by prefill and decode, in chunks, and of sequences of different lengths, are those of all at once.

    `expected` are an oracle's, for ids[B, S]. Every token is compared where caches alone are inserted; after the
    other passes, the last of each step.
    """
    long, short = ids.shape[1], ids.shape[1] // 3
    half = long // 2
    lengths = [long, short, *[half] * (len(ids) - 2)]
    feedings = {
        "all at once": [[long] * len(ids)],
        "prefill, then one a step": [[half] * len(ids), *[[1] * len(ids)] * (long - half)],
        "chunks of 5": [[min(5, long - at)] * len(ids) for at in range(0, long, 5)],
        "different lengths, all at once": [lengths],
        "different lengths, in chunks": [[max(0, min(4, n - at)) for n in lengths] for at in range(0, long, 4)],
        "different prefills, then one a step": [lengths, *[[int(n < long) for n in lengths]] * (long - half)],
    }
    for pipeline in ("insert-state", "default,stateful"):
        stateful = burnish.optimize(module, pipeline)
        runner = make_backend(backend, stateful)
        for how, steps in feedings.items():
            fed = np.sum(steps, axis=0)
            sequences = [row[:n].tolist() for row, n in zip(ids, fed, strict=True)]
            found = logits_by_steps(runner, "forward", sequences, steps)
            assert {b for b, _ in found} == set(range(len(ids)))
            for (b, i), row in found.items():
                error = np.abs(row - expected[b, i]).max() / np.abs(expected).max()
                where = f"{how}, {pipeline}: token {i} of sequence {b}"
                assert error < models.WITHIN, f"{where}: {error:.1e} of the largest"
