"""A module made ready to run on a target: its passes applied, its backends made, the doors to run it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from burnish.backends.backend import Backend
from burnish.backends.binding import BindError
from burnish.backends.static import Static
from burnish.backends.target import TARGETS, make_backend
from burnish.ir.graph import Graph
from burnish.ir.module import Module
from burnish.ir.ops.control import Repeat
from burnish.ir.signature import LOGITS, TOKENS
from burnish.passes.pipelines import run_passes
from burnish.runtime.generate import Watch, generate, prefill
from burnish.runtime.progress import Progress
from burnish.runtime.prompt_lookup import generate_by_lookup
from burnish.runtime.rules import Ruled
from burnish.runtime.sampling import Sampler, greedy
from burnish.runtime.session import Session, counts_of, feed, read_source
from burnish.runtime.targets import read_pipeline

__all__ = ["Executable"]


class Executable:
    """Runs a module on a target.

    `forward` gives every output of a plain graph. A model that makes text also has `start`, `prefill`, `decode` and
    `generate`, on the same graph made stateful. Both forms hold the module's weights, and what is made of them, once.
    """

    def __init__(
        self, module: Module, backend: str = "numpy", activations: str = "", progress: Progress | None = None
    ) -> None:
        if activations not in ("", "int8", "float"):
            raise ValueError(f"activations are int8 or float, not {activations!r}")
        self.module, self.backend_name, self.asked_activations = module, backend, activations
        self.static = Static(progress=progress)
        target = TARGETS.find(backend, ValueError)
        self._passes = ",".join([*target.activation_passes(activations), backend])
        self._plain: Backend | None = None
        self._stateful: Backend | None = None
        self._every_row: Backend | None = None

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
    def vocabulary(self) -> int | None:
        """The rows of the table that tokens are looked up in, where there is one."""
        for graph in self.module.graphs.values():
            tokens = graph.input_for(TOKENS)
            for node in tokens.users if tokens is not None else ():
                if node.op.name == "embedding":
                    size = node["w"].shape[0]
                    return size if isinstance(size, int) else None
        return None

    def check_ids(self, ids: Sequence[int]) -> None:
        """Raise BindError for a token that the model does not have."""
        rows = self.vocabulary
        if bad := [i for i in ids if i < 0 or (rows is not None and i >= rows)]:
            raise BindError(f"token {bad[0]} is not in the vocabulary of {rows}")

    @property
    def plain(self) -> Backend:
        """The backend of the plain graphs."""
        if self._plain is None:
            self._plain = self._made(self._passes)
        return self._plain

    @property
    def stateful(self) -> Backend:
        """The backend of the stateful graphs.

        Raises BindError for a model that makes no text, PassError for one that cannot be run in steps.
        """
        if self._stateful is None:
            if not self.is_generative:
                facts = self.module.facts
                task = f"its task is {facts.task}" if facts.task else "it does not say what it is for: state its task"
                raise BindError(f"the model makes no text: {task if not facts.makes_text else 'it has no logits'}")
            self._stateful = self._made(f"stateful,{self._passes}")
        return self._stateful

    @property
    def every_row(self) -> Backend:
        """The backend of the stateful graphs with the logits of every token of a step; its states are `stateful`'s."""
        if self._every_row is None:
            self._every_row = self._made(f"from-start,insert-state,{self._passes}")
        return self._every_row

    def _made(self, pipeline: str) -> Backend:
        module = run_passes(self.module.copy(), read_pipeline(pipeline)).module
        return make_backend(self.backend_name, module, self.static)

    @property
    def rounded_products(self) -> int:
        """How many products with quantized weights take inputs that were rounded to int8 though nobody asked for it.

        The target chose so because it has kernels for them; `activations="float"` rounds none.
        """
        if self.asked_activations:
            return 0
        prepared = self.stateful if self.is_generative else self.plain
        now, before = (sum(map(_takes_packed, m.graphs.values())) for m in (prepared.module, self.module))
        return now - before

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
            raise BindError("the model has no graph that reads tokens")
        inputs = feed(given, ids, counts_of(ids, count), np.zeros(len(ids), np.int32), more=more)
        with np.errstate(all="ignore"):  # whoever uses the results looks at them
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
                raise BindError(f"graph {', '.join(feeders)} needs its source: give encoder_ids")
            given = read_source(backend, feeders, encoder_ids, encoder_count, probe)
        return Session.start(backend, main.name, batch, tokens, given)

    def prefill(
        self, ids: np.ndarray, session: Session, count: np.ndarray | None = None, probe: Any = None
    ) -> np.ndarray:
        """Put ids[B, S] (right-padded) behind what the session holds -> f32 logits[B, V] of each last real token.

        A long prompt goes in chunks. Raises BindError where the session has no room, or there is no token.
        """
        return prefill(session, ids, count, probe)

    def decode(self, tokens: np.ndarray, session: Session, probe: Any = None) -> np.ndarray:
        """One token a sequence, tokens[B] -> f32 logits[B, V]."""
        return prefill(session, np.asarray(tokens)[:, None], probe=probe)

    def generate(
        self,
        prompt: Sequence[int],
        max_new_tokens: int,
        sampler: Sampler = greedy,
        stop: Collection[int] | None = None,
        watch: Watch | None = None,
        session: Session | None = None,
        prompt_lookup_num_tokens: int = 0,
    ) -> Iterator[int]:
        """Token after token behind `prompt`, until one of `stop` (the module's `eos`, unless given) or the limit.

        `sampler(logits[V], ids) -> token` is given the tokens so far, the prompt's among them, and is greedy unless
        given; `watch(step, logits[V])` sees the logits first. The prompt of an encoder-decoder is its encoder's input.
        A `session` holds the beginning of the prompt: what it has read is not read again.

        With `prompt_lookup_num_tokens`, up to so many tokens that stood behind the last ones before are tried at once:
        the same text, in fewer steps. Raises BindError for a model, or on a backend, where that cannot be.
        """
        if prompt_lookup_num_tokens:
            begun = self._begin([prompt], [max_new_tokens], [sampler], stop, session, prompt_lookup_num_tokens)
            yield from generate_by_lookup(*begun, self.every_row, max_new_tokens, prompt_lookup_num_tokens, watch)
            return
        for tokens in self._generate([prompt], [max_new_tokens], [sampler], stop, watch, session):
            yield from (t for t in tokens if t is not None)

    def generate_batch(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: Sequence[int],
        sampler: Sampler = greedy,
        stop: Collection[int] | None = None,
    ) -> list[list[int]]:
        """The new tokens behind each prompt, as `generate` gives them, all at once; each has a copy of the sampler."""
        found: list[list[int]] = [[] for _ in prompts]
        for tokens in self._generate(prompts, max_new_tokens, [deepcopy(sampler) for _ in prompts], stop):
            for text, token in zip(found, tokens, strict=True):
                text += [] if token is None else [token]
        return found

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        limits: Sequence[int],
        samplers: Sequence[Sampler],
        stop: Collection[int] | None,
        watch: Watch | None = None,
        session: Session | None = None,
    ) -> Iterator[list[int | None]]:
        session, ids, count, samplers, ends = self._begin(prompts, limits, samplers, stop, session)
        return generate(session, ids, count, limits, samplers, ends, watch)

    def _begin(
        self,
        prompts: Sequence[Sequence[int]],
        limits: Sequence[int],
        samplers: Sequence[Sampler],
        stop: Collection[int] | None,
        session: Session | None,
        tried: int = 0,
    ) -> tuple[Session, np.ndarray, np.ndarray, Sequence[Sampler], Collection[int]]:
        """A session, what it reads first, ids[B, S] and count[B], the samplers under the model's rules, the ends.

        There is room for `tried` tokens behind the limits, where the model was made for so many.
        """
        facts, count = self.module.facts, np.array([len(p) for p in prompts], np.int32)
        ids = np.zeros((len(prompts), int(count.max())), np.int32)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = prompt
        if self.has_encoder:
            session = self.start(len(ids), max(limits), ids, count)  # the last one is not read again
            ids, count = np.full((len(ids), 1), facts.decoder_start or 0, np.int32), np.ones(len(ids), np.int32)
        elif session is None:
            needed = int((count + limits).max())
            session = self.start(len(ids), max(needed, min(needed + tried, self.context or 0)))
        ends = facts.eos if stop is None else stop
        if facts.rules:
            each = zip(prompts, count.tolist(), limits, samplers, strict=True)
            samplers = [Ruled(facts.rules, ends, *one) for one in each]
        return session, ids, count, samplers, ends


def _takes_packed(graph: Graph) -> int:
    """The number of products whose input, and not their weight alone, is quantized; in a loop, of all its runs."""
    count = 0
    for node in graph:
        count += node.op.kind == "linear" and node["x"].type.format is not None
        times = node.op.count if isinstance(node.op, Repeat) else 1
        count += times * sum(map(_takes_packed, node.bodies))
    return count
