"""The law of architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.backends.backend import Backend, make_backend
from burnish.frontends.architecture import Architecture, Config, LoadError, build_module, parameters
from burnish.ir.graph import Graph
from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.ir.ops.attention import Attention
from burnish.ir.parser import copy_module, parse
from burnish.ir.types import Type
from burnish.ir.verify import verify
from burnish.ir.weights import MemoryWeights
from burnish.passes.engine import Context
from burnish.passes.insert_kv_cache import CAPACITY
from burnish.passes.pipelines import parse_pipeline

__all__ = ["check_architecture", "logits_by_steps"]


def check_architecture(
    architecture: type[Architecture], config: Mapping[str, Any], backend: str = "numpy", within: float = 2e-5
) -> None:
    """Raise AssertionError unless the architecture obeys the laws of every architecture, for this config.

    No checkpoint is needed: the shapes of its tensors are those that it asks for, the numbers are made up. Keep the
    config small. Its graphs verify, and their text reads back equal; a tensor too many or one too few is an error
    that names it; the default pipeline changes no output by more than `within` of the largest. Padding changes
    nothing, and where it attends causally, so do caches: the whole sequence at once, prefill and decode, chunks, and
    sequences of different lengths agree token by token.
    """
    name = architecture.__name__
    assert architecture.names, f"{name} has no names: no config.json would find it"
    types = parameters(architecture, Config(config))
    module = build_module(architecture.names[0], Config(config), types, MemoryWeights(_made_up(types)))
    verify(module)
    text = str(module)
    again = parse(text, module.constants())
    assert again == module and str(again) == text, f"{name}: its text does not read back equal"
    for tensor in types:
        _check_refused(architecture, config, {k: t for k, t in types.items() if k != tensor}, tensor)
    _check_refused(architecture, config, types | {"one_too_many": Type("f32", (1,))}, "one_too_many")

    plain, optimized = make_backend(backend, module), make_backend(backend, _passed(module, "default"))
    ids, counts = np.random.default_rng(1).integers(0, 8, (3, 7)).astype("i4"), [7, 4, 1]
    graph = "encoder" if "encoder" in module.graphs else "forward"
    expected = _forward(plain, module, graph, ids, counts)
    for k, after in _forward(optimized, module, graph, ids, counts).items():
        for b, n in enumerate(counts):
            alone = _forward(plain, module, graph, ids[b : b + 1, :n], [n])[k][0]
            rows = slice(None) if alone.ndim < 2 else slice(n)
            _check_near(alone, expected[k][b, rows], within, f"{name}: {k} of sequence {b}, alone and padded")
            _check_near(after[b, rows], expected[k][b, rows], within, f"{name}: {k}, after and before optimization")
    decoder = module.graphs.get("decoder") or module.graphs["forward"]
    if any(isinstance(node.op, Attention) and node.op.causal for node in decoder):
        _check_steps(name, module, decoder.name, backend, ids, counts, within)


def _made_up(types: Mapping[str, Type]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {k: t.sizes for k, t in types.items()}
    return {
        k: (rng.standard_normal(s) / s[-1] ** 0.5 if len(s) > 1 else rng.random(s) + 0.5).astype("f4")
        for k, s in sizes.items()
    }


def _check_refused(
    architecture: type[Architecture], config: Mapping[str, Any], types: Mapping[str, Type], tensor: str
) -> None:
    try:
        build_module(architecture.names[0], Config(config), types)
    except LoadError as e:
        assert repr(tensor) in str(e), f"{architecture.__name__}: {tensor} is not named in the message: {e}"
        return
    raise AssertionError(f"{architecture.__name__}: loads with {tensor} too many or too few")


def _passed(module: Module, pipeline: str) -> Module:
    context = Context(copy_module(module))
    for pass_ in parse_pipeline(pipeline):
        context.run(pass_)
    return context.module


def _forward(
    backend: Backend, module: Module, graph: str, ids: np.ndarray, counts: Sequence[int], **fixed: Array
) -> dict[str, np.ndarray]:
    given = {"ids": ids, "count": np.array(counts, "i4"), **fixed}
    results = backend(graph, {v.name: given[v.name] for v in module.graphs[graph].inputs})
    return {k: backend.to_numpy(r) for k, r in results.items()}


def _check_steps(
    name: str, module: Module, graph: str, backend: str, ids: np.ndarray, counts: Sequence[int], within: float
) -> None:
    """The whole sequence at once against every way to feed it into caches, with and without the other passes."""
    sequences = [row[:n].tolist() for row, n in zip(ids, counts, strict=True)]
    plain = make_backend(backend, module)
    encoded = _encoded(plain, module, ids[:, ::-1], [3, 7, 5])
    expected = _forward(plain, module, graph, ids, counts, **encoded)["logits"]
    for pipeline in ("insert-kv-cache", "default,stateful"):
        stateful = _passed(module, pipeline)
        runner = make_backend(backend, stateful)
        fixed = _encoded(runner, stateful, ids[:, ::-1], [3, 7, 5])
        for how, steps in _feedings(counts).items():
            for (b, i), row in logits_by_steps(runner, stateful.graphs[graph], sequences, steps, fixed).items():
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


def _encoded(backend: Backend, module: Module, ids: np.ndarray, counts: Sequence[int]) -> dict[str, Array]:
    """What a decoder reads of its encoder, by the decoder's names."""
    if "encoder" not in module.graphs:
        return {}
    count = np.array(counts, "i4")
    results = backend("encoder", {"ids": np.ascontiguousarray(ids), "count": count})
    names = {v.name for v in module.graphs["decoder"].inputs}
    found = {n: r for k, r in results.items() for n in (k, f"encoder_{k}") if n in names}
    return found | {"encoder_count": count}


def logits_by_steps(
    backend: Backend,
    graph: Graph,
    sequences: Sequence[Sequence[int]],
    steps: Sequence[Sequence[int]],
    fixed: Mapping[str, Array] | None = None,
) -> dict[tuple[int, int], np.ndarray]:
    """Feed sequences into a graph with caches: `steps` says how many tokens of each sequence go in together.

    Gives the logits that come out by (sequence, token): every token's or, after last-row, those of the last in each
    step. `fixed` are an encoder's results.
    """
    past = np.zeros(len(sequences), "i4")
    capacity = backend.length(max(map(len, sequences)))
    sizes = {str(graph.inputs[0].shape[0]): len(sequences), str(CAPACITY): capacity}
    state = {v.name: backend.zeros(v.type.bind(sizes)) for v in graph.inputs if v.name in graph.outputs}
    found = {}
    for step in steps:
        ids = np.zeros((len(sequences), backend.length(max(step))), "i4")
        for row, tokens, at, n in zip(ids, sequences, past, step, strict=True):
            row[:n] = tokens[at : at + n]
        last = graph.find_input("count") is not None
        counts = {"count": np.array(step, "i4")} if last else {}
        results = backend(graph.name, {"ids": ids, "past": past, **counts, **state, **(fixed or {})})
        state = {k: results[k] for k in state}
        logits = backend.to_numpy(results["logits"])
        for b, n in enumerate(step):
            for i in range(max(n - 1, 0) if last else 0, n):
                found[b, int(past[b]) + i] = logits[b, 0 if last else i]
        past = past + np.array(step, "i4")
    return found


def _check_near(ours: np.ndarray, theirs: np.ndarray, within: float, where: str) -> None:
    error, largest = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    assert error <= within * largest, f"{where}: {error / largest:.2e} of the largest apart, more than {within:.0e}"
