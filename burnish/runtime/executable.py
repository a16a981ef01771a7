"""A module made ready to run: target passes applied, state kept, prefill and decode bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from burnish.backends.backend import Backend, make_backend
from burnish.ir.dims import Dim, Sym
from burnish.ir.graph import Graph
from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.ir.types import NUMPY
from burnish.runtime.doors import optimize

__all__ = ["Executable", "State", "greedy", "sampler"]

CHUNK = 512  # tokens of a prompt that go through the graph at once


@dataclass
class State:
    """What a batch of B sequences has behind it: `past[b]` tokens in caches of `capacity` rows."""

    past: np.ndarray
    capacity: int
    arrays: dict[str, Array]  # written by every step
    fixed: Mapping[str, Array] = field(default_factory=dict)  # an encoder's results


class Executable:
    """Runs a module on a backend.

    `forward` gives every output of a plain graph. A model that makes text also has `start`, `prefill`, `decode` and
    `generate`, on the same graph with caches inserted.
    """

    def __init__(self, module: Module, backend: str = "numpy", activations: str = "") -> None:
        if activations not in ("", "int8", "float"):
            raise ValueError(f"activations are int8 or float, not {activations!r}")
        self.module, self.backend_name = module, backend
        self._target = ",".join([*_activation_passes(backend, activations), backend])
        self._plain: Backend | None = None
        self._stateful: Backend | None = None
        self._name = "decoder" if "decoder" in module.graphs else "forward"

    @property
    def is_generative(self) -> bool:
        """Whether the model makes text: its graph attends causally and has logits."""
        graph = self.module.graphs.get(self._name)
        causal = (getattr(node.op, "causal", False) for node in graph or ())
        return graph is not None and "logits" in graph.outputs and any(causal)

    @property
    def context(self) -> int | None:
        """The number of tokens that the model was made for, where it says so."""
        value = self.module.attributes.get("context")
        return value if isinstance(value, int) else None

    @property
    def plain(self) -> Backend:
        """The backend of the plain graphs."""
        if self._plain is None:
            self._plain = make_backend(self.backend_name, optimize(self.module, self._target))
        return self._plain

    @property
    def stateful(self) -> Backend:
        """The backend of the graphs with caches. Raises ValueError for a model that makes no text."""
        if self._stateful is None:
            if not self.is_generative:
                raise ValueError("the model makes no text: it has no causal attention that leads to logits")
            self._stateful = make_backend(self.backend_name, optimize(self.module, f"stateful,{self._target}"))
        return self._stateful

    def plan_text(self) -> str:
        """What runs how, graph by graph: one line for each way, with the reason where something has no kernel."""
        backend = self.stateful if self.is_generative else self.plain
        return "\n".join(f"{name}:\n{backend.plan_text(name)}" for name in self.module.graphs)

    def fallbacks(self) -> list[str]:
        """The products with quantized weights that are dequantized as a whole first: which, and why."""
        backend = self.stateful if self.is_generative else self.plain
        return [f"{name}: {line}" for name in self.module.graphs for line in backend.fallbacks(name)]

    def forward(self, ids: np.ndarray, count: np.ndarray | None = None, graph: str = "", **more: Any) -> dict[str, Any]:
        """All outputs of a plain graph for ids[B, S], right-padded; `count[b]` of them are real (all, unless given).

        An exported graph may ask for what follows from those as `attention_mask` and `token_type_ids`.
        """
        name = graph or ("encoder" if "encoder" in self.module.graphs else "forward")
        real = _counts(ids, count)
        mask = np.arange(ids.shape[1]) < real[:, None]
        known = {"ids": ids, "count": real, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        types = {v.name: NUMPY[v.dtype] for v in self.module.graphs[name].inputs if v.name in known}
        inputs = {k: known[k].astype(dtype) for k, dtype in types.items()}
        return self._numpy(self.plain, self.plain(name, inputs | more))

    def start(
        self,
        batch: int,
        tokens: int,
        encoder_ids: np.ndarray | None = None,
        encoder_count: np.ndarray | None = None,
        probe: Any = None,
    ) -> State:
        """An empty state for `batch` sequences of up to `tokens`; an encoder-decoder reads its source here, once."""
        graph = self._graph(self.stateful)
        fixed: dict[str, Array] = {}
        if encoder_ids is not None:
            count = _counts(encoder_ids, encoder_count)
            padded = _padded(encoder_ids, self.stateful.length(encoder_ids.shape[1]))
            results = self.stateful("encoder", {"ids": padded, "count": count}, probe)
            known = {v.name for v in graph.inputs}
            fixed = {n: a for k, a in results.items() for n in (k, f"encoder_{k}") if n in known}
            fixed["encoder_count"] = count
        capacity = self.stateful.length(tokens)
        sizes = {d.text: n for d, n in self._symbols(graph, batch, capacity).items()}
        arrays = {
            v.name: self.stateful.zeros(v.type.bind(sizes)) for v in graph.inputs if v.name in graph.outputs
        }
        return State(np.zeros(batch, np.int32), capacity, arrays, fixed)

    def prefill(
        self, ids: np.ndarray, state: State, count: np.ndarray | None = None, probe: Any = None
    ) -> np.ndarray:
        """Put ids[B, S] (right-padded) behind what the state holds -> f32 logits[B, V] of each last real token.

        A long prompt goes in chunks. Raises ValueError where the state has no room.
        """
        counts = _counts(ids, count)
        if int((state.past + counts).max()) > state.capacity:
            raise ValueError(f"{state.past + counts} tokens do not fit a state of {state.capacity}")
        logits: np.ndarray | None = None
        for at in range(0, ids.shape[1], CHUNK):
            real = np.clip(counts - at, 0, min(CHUNK, ids.shape[1] - at)).astype(np.int32)
            step = self._step(ids[:, at : at + CHUNK], real, state, probe)
            logits = step if logits is None else np.where((real > 0)[:, None], step, logits)
        assert logits is not None, "no tokens"
        return logits

    def decode(self, tokens: np.ndarray, state: State, probe: Any = None) -> np.ndarray:
        """One token a sequence, tokens[B] -> f32 logits[B, V]."""
        return self.prefill(np.asarray(tokens)[:, None], state, probe=probe)

    def generate(
        self,
        prompt: Sequence[int],
        max_new_tokens: int,
        choose: Callable[[np.ndarray], int] | None = None,
        stop: Sequence[int] | None = None,
        watch: Callable[[int, np.ndarray], None] | None = None,
    ) -> Iterator[int]:
        """Token after token behind `prompt`, until one of `stop` (the module's `eos`, unless given) or the limit.

        `choose(logits[V]) -> token` is greedy unless given; `watch(step, logits[V])` sees them first. The prompt of
        an encoder-decoder is its encoder's input.
        """
        choose = choose or greedy
        ends = set(self.module.attributes.get("eos", ()) if stop is None else stop)
        ids = np.array([list(prompt)], np.int32)
        if "encoder" in self.module.graphs:
            state = self.start(1, max_new_tokens + 1, encoder_ids=ids)
            ids = np.array([[self.module.attributes.get("decoder_start", 0)]], np.int32)
        else:
            state = self.start(1, ids.shape[1] + max_new_tokens)
        for i in range(max_new_tokens):
            logits = self.prefill(ids, state)[0]
            if watch is not None:
                watch(i, logits)
            token = int(choose(logits))
            if token in ends:
                return
            yield token
            ids = np.array([[token]], np.int32)

    def _step(self, ids: np.ndarray, count: np.ndarray, state: State, probe: Any) -> np.ndarray:
        backend = self.stateful
        padded = _padded(ids, backend.length(ids.shape[1]))
        inputs = {"ids": padded, "past": state.past, "count": count, **state.arrays, **state.fixed}
        results = backend(self._name, inputs, probe)
        state.arrays = {k: results[k] for k in state.arrays}
        state.past = (state.past + count).astype(np.int32)
        return backend.to_numpy(results["logits"])[:, 0].astype(np.float32)

    def _graph(self, backend: Backend) -> Graph:
        return backend.module.graphs[self._name]

    def _symbols(self, graph: Graph, batch: int, capacity: int) -> dict[Sym, int]:
        from burnish.passes.insert_kv_cache import CAPACITY

        dim: Dim = graph.inputs[0].shape[0]
        if isinstance(dim, int) and dim != batch:
            raise ValueError(f"the graph is fixed to a batch of {dim}, not {batch}")
        return {CAPACITY: capacity} | ({dim: batch} if isinstance(dim, Sym) else {})

    @staticmethod
    def _numpy(backend: Backend, results: Mapping[str, Array]) -> dict[str, np.ndarray]:
        return {k: backend.to_numpy(v) for k, v in results.items()}


def _activation_passes(backend: str, activations: str) -> list[str]:
    """What brings int8 activations, and on NumPy the weights of kernels that take them, into place.

    Where nothing is asked for, activations are rounded just where a kernel gains by it.
    """
    if activations == "float":
        return []
    from burnish.backends.kernels import layouts_for

    layouts = layouts_for("linear") if backend == "numpy" else {}
    rounded = ["quantize-activations"] if activations else [f"quantize-activations{{format={f}}}" for f in layouts]
    return rounded + [f"set-layouts{{layout={layout}}}" for layout in dict.fromkeys(layouts.values())]


def _padded(ids: np.ndarray, length: int) -> np.ndarray:
    padded = np.zeros((ids.shape[0], length), np.int32)
    padded[:, : ids.shape[1]] = ids
    return padded


def _counts(ids: np.ndarray, count: np.ndarray | None) -> np.ndarray:
    return np.full(ids.shape[0], ids.shape[1], np.int32) if count is None else np.asarray(count, np.int32)


def greedy(logits: np.ndarray) -> int:
    """The likeliest token; the first of equals."""
    return int(np.argmax(logits))


def sampler(temperature: float, seed: int) -> Callable[[np.ndarray], int]:
    """`choose` for `generate`: greedy at temperature 0, else softmax(logits / temperature), reproducible by seed."""
    if temperature == 0:
        return greedy
    rng = np.random.default_rng(seed)

    def choose(logits: np.ndarray) -> int:
        scaled = logits.astype(np.float64) / temperature
        p = np.exp(scaled - scaled.max())
        return int(np.searchsorted(np.cumsum(p) / p.sum(), rng.random(), side="right").clip(0, len(p) - 1))

    return choose
