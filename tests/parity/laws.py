"""Whether a model computes here what it computes in transformers, however it is fed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import burnish
from burnish.backends.target import make_backend
from burnish.ir.module import Module
from burnish.ir.signature import LOGITS, TOKEN_TYPES
from burnish.runtime.session import feed, read_source
from burnish.testing import logits_by_steps
from tests.parity.model_type import COUNTS, LENGTH, Oracle

Feeding = list[list[int]]


def forward_error(module: Module, oracle: Oracle, backend: str = "numpy") -> float:
    """How far the plain forward of three sequences of different lengths is from the oracle, of the largest number."""
    runner, graph, types = make_backend(backend, module), module.main, oracle.token_types()
    assert graph is not None
    ids, counts = oracle.ids(), np.array(COUNTS, "i4")
    given = read_source(runner, module.feeders, *oracle.source()) if oracle.two_texts else {}
    more = {v.name: types for v in graph.inputs if v.role == TOKEN_TYPES}
    results = runner(graph.name, feed(graph, ids, counts, np.zeros(len(ids), "i4"), given, more))
    names = [k for k, role in graph.roles.items() if role == LOGITS and k in results] or list(results)[:1]
    several = [runner.to_numpy(results[name]) for name in names]
    found = several[0] if len(several) == 1 else np.stack(several, axis=-1)
    expected = all_expected(oracle)
    return _apart(((found[b, :n], e) for b, (n, e) in enumerate(zip(COUNTS, expected, strict=True))), expected)


def feeding_error(module: Module, oracle: Oracle, pipeline: str, backend: str = "numpy") -> tuple[float, str]:
    """The same of the stateful form, fed in every way, and the worst way.

    What a step says of a token is what the oracle says of it at the end of the text that is known then: where the
    rotation depends on the length, that is not what it says of it in a longer text.
    """
    stateful = burnish.optimize(module, pipeline)
    runner = make_backend(backend, stateful)
    assert stateful.main is not None
    given = read_source(runner, stateful.feeders, *oracle.source()) if oracle.two_texts else {}
    largest = np.abs(_expected(oracle, 0, LENGTH)).max()
    worst, how = 0.0, ""
    for name, steps in _feedings().items():
        ends = np.cumsum(steps, axis=0)
        sequences = [row[:n].tolist() for row, n in zip(oracle.ids(), ends[-1], strict=True)]
        for (b, i), row in logits_by_steps(runner, stateful.main.name, sequences, steps, given).items():
            end = int(next(at for at in ends[:, b] if at > i))
            error = float(np.abs(row - _expected(oracle, b, end)[i]).max() / largest)
            worst, how = max((worst, how), (error if error == error else np.inf, name))
    return worst, how


def _feedings() -> dict[str, Feeding]:
    """Ways to feed the three sequences: for each step, how many tokens of each."""
    long = max(COUNTS)
    return {
        "all at once": [list(COUNTS)],
        "prefill, then one a step": [[n // 2 for n in COUNTS]]
        + [[int(n // 2 + i < n) for n in COUNTS] for i in range(long - long // 2)],
        "chunks of 5": [[max(0, min(5, n - at)) for n in COUNTS] for at in range(0, long, 5)],
    }


def all_expected(oracle: Oracle) -> list[np.ndarray]:
    """What the oracle says of each of the three sequences."""
    return [_expected(oracle, b, n) for b, n in enumerate(COUNTS)]


def _expected(oracle: Oracle, b: int, n: int) -> np.ndarray:
    """What the oracle says of the first n tokens of sequence b."""
    source, counts = oracle.source()
    of = source[b, : counts[b]].tolist() if oracle.two_texts else None
    types = oracle.token_types()[b, :n].tolist() if oracle.types else None
    return oracle.says(oracle.ids()[b, :n].tolist(), types, of)


def _apart(pairs: Any, expected: list[np.ndarray]) -> float:
    error = max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
    return (error if error == error else np.inf) / max(float(np.abs(e).max()) for e in expected)


#: by name: what is compared
LAWS: dict[str, Callable[[Module, Oracle], float]] = {
    "forward": forward_error,
    "default": lambda m, o: forward_error(burnish.optimize(m), o),
    "in steps": lambda m, o: feeding_error(m, o, "insert-state")[0] if m.facts.makes_text else 0.0,
    "both": lambda m, o: feeding_error(m, o, "default,stateful")[0] if m.facts.makes_text else 0.0,
}
#: the same on XLA, for graphs of a new kind
XLA_LAWS: dict[str, Callable[[Module, Oracle], float]] = {
    "forward on XLA": lambda m, o: forward_error(burnish.optimize(m), o, "xla"),
    "in steps on XLA": lambda m, o: feeding_error(m, o, "default,stateful", "xla")[0] if m.facts.makes_text else 0.0,
}
