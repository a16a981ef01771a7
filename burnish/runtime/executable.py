"""A module made ready to run: target passes applied, state kept, prefill and decode bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from burnish.backends.backend import Backend, make_backend
from burnish.ir.module import Module
from burnish.ir.signature import LOGITS
from burnish.passes.pipelines import run_passes
from burnish.runtime.session import Session, counts_of, feed, read_source

__all__ = ["Executable", "greedy", "sampler"]

CHUNK = 512  # tokens of a prompt that go through the graph at once


class Executable:
    """Runs a module on a backend.

    `forward` gives every output of a plain graph. A model that makes text also has `start`, `prefill`, `decode` and
    `generate`, on the same graph made stateful.
    """

    def __init__(self, module: Module, backend: str = "numpy", activations: str = "") -> None:
        if activations not in ("", "int8", "float"):
            raise ValueError(f"activations are int8 or float, not {activations!r}")
        self.module, self.backend_name = module, backend
        self._target = ",".join([*_activation_passes(backend, activations), backend])
        self._plain: Backend | None = None
        self._stateful: Backend | None = None

    @property
    def is_generative(self) -> bool:
        """Whether the model makes text: its task says so, and its graph gives logits."""
        graph = self.module.main
        return graph is not None and graph.output_for(LOGITS) is not None and self.module.facts.makes_text

    @property
    def has_encoder(self) -> bool:
        """Whether another graph reads a source first."""
        return bool(self.module.feeders)

    @property
    def context(self) -> int | None:
        """The number of tokens that the model was made for, where it says so."""
        return self.module.facts.context

    @property
    def plain(self) -> Backend:
        """The backend of the plain graphs."""
        if self._plain is None:
            self._plain = make_backend(self.backend_name, run_passes(self.module.copy(), self._target).module)
        return self._plain

    @property
    def stateful(self) -> Backend:
        """The backend of the stateful graphs.

        Raises ValueError for a model that makes no text, PassError for one that cannot be run in steps.
        """
        if self._stateful is None:
            if not self.is_generative:
                facts = self.module.facts
                task = f"its task is {facts.task}" if facts.task else "it does not say what it is for: state its task"
                raise ValueError(f"the model makes no text: {task if not facts.makes_text else 'it has no logits'}")
            module = run_passes(self.module.copy(), f"stateful,{self._target}").module
            self._stateful = make_backend(self.backend_name, module)
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

        `more` are the inputs that are neither tokens nor follow from them, by name.
        """
        given = self.module.graphs[graph] if graph else next(iter(self.module.feeders.values()), self.module.main)
        if given is None:
            raise ValueError("the model has no graph that reads tokens")
        inputs = feed(given, ids, counts_of(ids, count), np.zeros(len(ids), np.int32), more=more)
        return {k: self.plain.to_numpy(v) for k, v in self.plain(given.name, inputs).items()}

    def start(
        self,
        batch: int,
        tokens: int,
        encoder_ids: np.ndarray | None = None,
        encoder_count: np.ndarray | None = None,
        probe: Any = None,
    ) -> Session:
        """An empty session for `batch` sequences of up to `tokens`; an encoder reads its source here, once."""
        backend, main = self.stateful, self.module.main
        assert main is not None
        given = {}
        if feeders := backend.module.feeders:
            if encoder_ids is None:
                raise ValueError(f"graph {', '.join(feeders)} needs its source: give encoder_ids")
            given = read_source(backend, feeders, encoder_ids, encoder_count, probe)
        return Session.start(backend, main.name, batch, tokens, given)

    def prefill(
        self, ids: np.ndarray, session: Session, count: np.ndarray | None = None, probe: Any = None
    ) -> np.ndarray:
        """Put ids[B, S] (right-padded) behind what the session holds -> f32 logits[B, V] of each last real token.

        A long prompt goes in chunks. Raises ValueError where the session has no room, or there is no token.
        """
        counts = counts_of(ids, count)
        if int((session.past + counts).max()) > session.capacity:
            raise ValueError(f"{session.past + counts} tokens do not fit a session of {session.capacity}")
        logits: np.ndarray | None = None
        for at in range(0, ids.shape[1], CHUNK):
            real = np.clip(counts - at, 0, min(CHUNK, ids.shape[1] - at)).astype(np.int32)
            results = session.step(ids[:, at : at + CHUNK], real, probe)
            step = session.backend.to_numpy(results[self._logits])[:, 0].astype(np.float32)
            logits = step if logits is None else np.where((real > 0)[:, None], step, logits)
        if logits is None:
            raise ValueError("there is no token to go on from")
        return logits

    def decode(self, tokens: np.ndarray, session: Session, probe: Any = None) -> np.ndarray:
        """One token a sequence, tokens[B] -> f32 logits[B, V]."""
        return self.prefill(np.asarray(tokens)[:, None], session, probe=probe)

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
        facts = self.module.facts
        ends = set(facts.eos if stop is None else stop)
        ids = np.array([list(prompt)], np.int32)
        if self.has_encoder:
            session = self.start(1, max_new_tokens + 1, encoder_ids=ids)
            ids = np.array([[facts.decoder_start or 0]], np.int32)
        else:
            session = self.start(1, ids.shape[1] + max_new_tokens)
        for i in range(max_new_tokens):
            logits = self.prefill(ids, session)[0]
            if watch is not None:
                watch(i, logits)
            token = int(choose(logits))
            if token in ends:
                return
            yield token
            ids = np.array([[token]], np.int32)

    @property
    def _logits(self) -> str:
        """What the output of logits is called."""
        assert self.module.main is not None
        return next(name for name, role in self.module.main.roles.items() if role == LOGITS)


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
