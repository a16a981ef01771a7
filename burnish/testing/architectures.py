"""The law of architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.backends.backend import Backend
from burnish.backends.target import make_backend
from burnish.frontends.architecture import Architecture, build_module, parameters
from burnish.frontends.config import Config, LoadError
from burnish.frontends.stored import Tensors
from burnish.ir.graph import Graph
from burnish.ir.module import Module
from burnish.ir.parser import parse
from burnish.ir.signature import LOGITS, TOKENS
from burnish.ir.types import Type
from burnish.ir.verify import verify
from burnish.ir.weights import MemoryWeights
from burnish.passes.pipelines import run_passes
from burnish.runtime.session import Given, Session, feed, read_source

__all__ = ["check_architecture", "logits_by_steps"]


def check_architecture(
    architecture: type[Architecture],
    config: Mapping[str, Any],
    backend: str = "numpy",
    within: float = 2e-5,
    head: str = "",
) -> None:
    """Raise AssertionError unless the architecture, with `head` or its usual one, obeys the laws of all.

    No checkpoint is needed: the shapes of its tensors are those that it asks for, the numbers are made up. Keep the
    config small. Its graphs verify, and their text reads back equal; a tensor too many or one too few is an error
    that names it; tensors may be in bf16; the default pipeline changes no output by more than `within` of the largest.
    Padding changes nothing, nor do steps, where it makes text: the whole sequence at once, prefill and decode, chunks,
    and sequences of different lengths agree token by token.
    """
    name = architecture.__name__
    assert architecture.names, f"{name} has no names: no config.json would find it"
    types = parameters(architecture, Config(config), head)
    whole = architecture.names[0] + (head or architecture.head)
    module = build_module(whole, Config(config), Tensors(types, MemoryWeights(_made_up(types))))
    verify(module)
    build_module(whole, Config(config), Tensors({k: t.with_dtype("bf16") for k, t in types.items()}))
    text = str(module)
    again = parse(text, module.constants())
    assert again == module and str(again) == text, f"{name}: its text does not read back equal"
    for tensor in types:
        _check_refused(whole, config, {k: t for k, t in types.items() if k != tensor}, tensor)
    more = f"{next(iter(types))}_too_many"
    _check_refused(whole, config, types | {more: Type("f32", (1,))}, more)

    plain, optimized = make_backend(backend, module), make_backend(backend, run_passes(module.copy(), "default").module)
    ids, counts = np.random.default_rng(1).integers(0, 8, (3, 7)).astype("i4"), [7, 4, 1]
    graph = next(iter(module.feeders.values()), module.main)
    assert graph is not None, f"{name}: none of its graphs reads tokens"
    expected = _forward(plain, graph, ids, counts)
    for k, after in _forward(optimized, graph, ids, counts).items():
        for b, n in enumerate(counts):
            alone = _forward(plain, graph, ids[b : b + 1, :n], [n])[k][0]
            rows = slice(n) if _is_of_tokens(graph, k) else slice(None)
            _check_near(alone, expected[k][b, rows], within, f"{name}: {k} of sequence {b}, alone and padded")
            _check_near(after[b, rows], expected[k][b, rows], within, f"{name}: {k}, after and before optimization")
    if module.facts.makes_text:
        _check_steps(name, module, backend, ids, counts, within)


def _is_of_tokens(graph: Graph, output: str) -> bool:
    """Whether an output has a row for each token."""
    tokens = graph.input_for(TOKENS)
    return tokens is not None and graph.outputs[output].shape[:2] == tokens.shape


def _made_up(types: Mapping[str, Type]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {k: t.sizes for k, t in types.items()}
    return {
        k: (rng.standard_normal(s) / s[-1] ** 0.5 if len(s) > 1 else rng.random(s) + 0.5).astype("f4")
        for k, s in sizes.items()
    }


def _check_refused(name: str, config: Mapping[str, Any], types: Mapping[str, Type], tensor: str) -> None:
    try:
        build_module(name, Config(config), Tensors(types))
    except LoadError as e:
        assert repr(tensor) in str(e), f"{name}: {tensor} is not named in the message: {e}"
        return
    raise AssertionError(f"{name}: loads with {tensor} too many or too few")


def _forward(
    backend: Backend, graph: Graph, ids: np.ndarray, counts: Sequence[int], given: Given | None = None
) -> dict[str, np.ndarray]:
    inputs = feed(graph, ids, np.array(counts, "i4"), np.zeros(len(ids), "i4"), given)
    return {k: backend.to_numpy(r) for k, r in backend(graph.name, inputs).items()}


def _check_steps(
    name: str, module: Module, backend: str, ids: np.ndarray, counts: Sequence[int], within: float
) -> None:
    """The whole sequence at once against every way to feed it in steps, with and without the other passes."""
    sequences = [row[:n].tolist() for row, n in zip(ids, counts, strict=True)]
    source = np.ascontiguousarray(ids[:, ::-1]), np.array([3, 7, 5], "i4")
    plain, main = make_backend(backend, module), module.main
    assert main is not None
    logits = next(k for k, role in main.roles.items() if role == LOGITS)
    expected = _forward(plain, main, ids, counts, read_source(plain, module.feeders, *source))[logits]
    for pipeline in ("insert-state", "default,stateful"):
        stateful = run_passes(module.copy(), pipeline).module
        runner = make_backend(backend, stateful)
        given = read_source(runner, stateful.feeders, *source)
        for how, steps in _feedings(counts).items():
            for (b, i), row in logits_by_steps(runner, main.name, sequences, steps, given).items():
                _check_near(row, expected[b, i], within, f"{name}: token {i} of sequence {b}, fed by {how}, {pipeline}")


def _feedings(counts: Sequence[int]) -> dict[str, list[list[int]]]:
    """Ways to feed sequences of these lengths: for each step, how many tokens of each sequence."""
    longest = max(counts)
    return {
        "all at once": [list(counts)],
        "one token a step": [[int(n > i) for n in counts] for i in range(longest)],
        "chunks of 3": [[min(3, max(0, n - i)) for n in counts] for i in range(0, longest, 3)],
        "prefill, then one a step": [[(n + 1) // 2 for n in counts]]
        + [[int(n - (n + 1) // 2 > i) for n in counts] for i in range(longest // 2)],
    }


def logits_by_steps(
    backend: Backend,
    graph: str,
    sequences: Sequence[Sequence[int]],
    steps: Sequence[Sequence[int]],
    given: Given | None = None,
) -> dict[tuple[int, int], np.ndarray]:
    """Feed sequences into a stateful graph: `steps` says how many tokens of each sequence go in together.

    Gives the logits that come out by (sequence, token): every token's or, after last-row, those of the last in each
    step. `given` is what an encoder has: see `burnish.runtime.session.read_source`.
    """
    session = Session.start(backend, graph, len(sequences), max(map(len, sequences)), given)
    name = next(k for k, role in backend.module.graphs[graph].roles.items() if role == LOGITS)
    found = {}
    for step in steps:
        ids, past = np.zeros((len(sequences), max(step)), "i4"), session.past
        for row, tokens, at, n in zip(ids, sequences, past, step, strict=True):
            row[:n] = tokens[at : at + n]
        logits = backend.to_numpy(session.step(ids, np.array(step, "i4"))[name])
        last = logits.shape[1] == 1
        for b, n in enumerate(step):
            for i in range(max(n - 1, 0) if last else 0, n):
                found[b, int(past[b]) + i] = logits[b, 0 if last else i]
    return found


def _check_near(ours: np.ndarray, theirs: np.ndarray, within: float, where: str) -> None:
    error, largest = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    assert error <= within * largest, f"{where}: {error / largest:.2e} of the largest apart, more than {within:.0e}"
