"""Sessions: what a batch of sequences has behind it, and the steps that go on from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from burnish.backends.backend import Backend
from burnish.backends.binding import BindError
from burnish.ir.budget import check_held
from burnish.ir.dims import Sym
from burnish.ir.graph import Graph, Value
from burnish.ir.op import Array
from burnish.ir.signature import (
    COUNT,
    MASK,
    PAST,
    POSITIONS,
    TOKEN_TYPES,
    TOKENS,
    Earlier,
    Length,
    Linked,
    Ring,
    Role,
    Rows,
    State,
)
from burnish.ir.types import NUMPY, Type

__all__ = ["CHUNK", "Given", "Session", "counts_of", "feed", "read_source"]

CHUNK = 512  # tokens of a text that go through the graph at once

Given = Mapping[tuple[str, str], Array]  # (graph, name) -> what that graph was given under the name, or returned


@dataclass
class Session:
    """`past[b]` tokens of each of B sequences, in states for `capacity` of them, of one graph on one backend.

    The states are those of texts of `length[b]` tokens, of which `past[b]` have been read: `ids[b, :past[b]]`.
    """

    backend: Backend
    graph: str
    past: np.ndarray
    length: np.ndarray
    ids: np.ndarray
    capacity: int
    states: dict[str, Array]  # by the names of the inputs; written by every step
    given: Given = field(default_factory=dict)  # of other graphs, which ran once

    @classmethod
    def start(cls, backend: Backend, graph: str, batch: int, tokens: int, given: Given | None = None) -> Session:
        """An empty session for up to `tokens`.

        Raises BindError where the graph is fixed to fewer or another batch, BudgetError where they do not fit.
        """
        capacity = backend.length(tokens)
        values = backend.module.graphs[graph].states
        types = {name: _state_type(v, batch, capacity) for name, v in values.items()}
        check_held(types.values(), f"what {batch} sequences of {capacity} tokens keep")
        states = {name: backend.zeros(type) for name, type in types.items()}
        none, ids = np.zeros(batch, np.int32), np.zeros((batch, capacity), np.int32)
        return cls(backend, graph, none, none, ids, capacity, states, given or {})

    def step(
        self,
        ids: np.ndarray,
        count: np.ndarray | None = None,
        probe: Any = None,
        beside: Mapping[str, np.ndarray] | None = None,
        length: np.ndarray | None = None,
    ) -> dict[str, Array]:
        """Put ids[B, S] (right-padded) behind what there is -> the outputs that are no states, by name.

        `beside`, by name, are inputs [B, S] too, which `feed` would make up otherwise. `length[b]` is how many tokens
        there will be once all of a text is read, where further steps follow at once. A text that has become so long
        that its states are of no use is read again. Raises BindError where there is no room.
        """
        counts = counts_of(ids, count)
        self.check_room(counts)
        length = self.past + counts if length is None else length
        if self._is_stale(length):
            if beside:
                raise BindError(f"a text of {length.max()} tokens is read again, and not what was given beside it")
            self._read_again(length)
        return self._run(ids, counts, length, probe, beside)

    def _run(
        self,
        ids: np.ndarray,
        counts: np.ndarray,
        length: np.ndarray,
        probe: Any = None,
        beside: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Array]:
        graph = self.backend.module.graphs[self.graph]
        more = self.states | {k: _padded(self.backend, x) for k, x in (beside or {}).items()}
        more |= {v.name: length.astype(np.int32) for v in graph.inputs if isinstance(v.role, Length)}
        inputs = feed(graph, _padded(self.backend, ids), counts, self.past, self.given, more)
        results = self.backend(self.graph, inputs, probe)
        self.states = {name: results.pop(name) for name in self.states}
        for row, new, at, n in zip(self.ids, ids, self.past.tolist(), counts.tolist(), strict=True):
            row[at : at + n] = new[:n]
        self.past, self.length = (self.past + counts).astype(np.int32), length
        return results

    def _is_stale(self, length: np.ndarray) -> bool:
        """Whether texts of `length[b]` tokens need other states than those that there are."""
        roles = [v.role for v in self.backend.module.graphs[self.graph].inputs if isinstance(v.role, Length)]
        return any(((r.regime(length) != r.regime(self.length)) & (self.past > 0)).any() for r in roles)

    def _read_again(self, length: np.ndarray) -> None:
        ids, past = self.ids, self.past
        begun = Session.start(self.backend, self.graph, len(ids), self.capacity, self.given)
        for at in range(0, int(past.max()), CHUNK):
            begun._run(ids[:, at : at + CHUNK], np.clip(past - at, 0, CHUNK), length)
        self.states, self.length = begun.states, length

    def check_room(self, counts: np.ndarray) -> None:
        """Raise ValueError where `counts[b]` more tokens do not fit."""
        if int((self.past + counts).max()) > self.capacity:
            raise BindError(f"{self.past + counts} tokens do not fit a session of {self.capacity}")

    def rewind(self, past: int) -> bool:
        """Go back to the first `past` tokens of each sequence, where the states still hold what they were then.

        False, and nothing done, where they do not: of a ring, rows were overwritten; a carry is replaced in each step.
        """
        values = self.backend.module.graphs[self.graph].states
        most = int(self.past.max())
        whole = all(
            isinstance(r := values[name].role, Rows) or (isinstance(r, Ring) and most <= x.shape[r.axis])
            for name, x in self.states.items()
        )
        if whole or (self.past == past).all():
            self.past = np.minimum(self.past, past).astype(np.int32)
            return True
        return False

    def grown(self, tokens: int) -> Session:
        """The same with room for `tokens`, which are more; its states take over this one's.

        Raises what `start` raises.
        """
        larger = Session.start(self.backend, self.graph, len(self.past), tokens, self.given)
        values = self.backend.module.graphs[self.graph].states
        for name, empty in larger.states.items():
            role, held = values[name].role, self.states[name]
            if isinstance(role, Rows | Ring) and (more := empty.shape[role.axis] - held.shape[role.axis]):
                rest = [slice(None)] * empty.ndim  # rows of positions that were not reached: nothing goes around yet
                rest[role.axis] = slice(empty.shape[role.axis] - more, None)
                held = held.__array_namespace__().concat([held, empty[tuple(rest)]], axis=role.axis)
            larger.states[name] = held
        larger.past, larger.length = self.past.copy(), self.length
        larger.ids[:, : self.capacity] = self.ids
        return larger

    def copy(self) -> Session:
        """The session as it is, to go back to: tokens of a draft may be rejected."""
        states = {k: x.copy() for k, x in self.states.items()}
        return replace(self, past=self.past.copy(), ids=self.ids.copy(), states=states)


def read_source(
    backend: Backend, feeders: Mapping[str, Graph], ids: np.ndarray, count: np.ndarray | None = None, probe: Any = None
) -> dict[tuple[str, str], Array]:
    """What graphs that feed another have, once they have read ids[B, T]."""
    given: dict[tuple[str, str], Array] = {}
    counts, padded = counts_of(ids, count), _padded(backend, ids)
    for name, graph in feeders.items():
        inputs = feed(graph, padded, counts, np.zeros(len(ids), np.int32), given)
        given |= {(name, k): x for k, x in (inputs | backend(name, inputs, probe)).items()}
    return given


def _padded(backend: Backend, ids: np.ndarray) -> np.ndarray:
    padded = np.zeros((ids.shape[0], backend.length(ids.shape[1])), np.int32)
    padded[:, : ids.shape[1]] = ids
    return padded


def feed(
    graph: Graph,
    ids: np.ndarray,
    count: np.ndarray,
    past: np.ndarray,
    given: Given | None = None,
    more: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Arrays for a graph's inputs, by their roles; `more`, by name, are states and what has no role."""
    known: dict[Role | None, Callable[[], np.ndarray]] = {
        TOKENS: lambda: ids,
        COUNT: lambda: count,
        PAST: lambda: past,
        MASK: lambda: np.arange(ids.shape[1]) < count[:, None],
        TOKEN_TYPES: lambda: np.zeros_like(ids),
        POSITIONS: lambda: past[:, None] + np.arange(ids.shape[1]),
    }
    inputs = dict(more or {})
    for v in graph.inputs:
        if v.name in inputs:
            continue
        if isinstance(v.role, Linked) and given is not None and (v.role.graph, v.role.name) in given:
            inputs[v.name] = given[v.role.graph, v.role.name]
        elif isinstance(v.role, Length):
            inputs[v.name] = (past + count).astype(np.int32)
        elif v.role in known:
            inputs[v.name] = known[v.role]().astype(NUMPY[v.dtype], copy=False)
        elif isinstance(v.role, Earlier):
            none = {v.role.batch: len(ids), v.role.axis: 0}
            inputs[v.name] = np.zeros([none.get(i, d) for i, d in enumerate(v.shape)], NUMPY[v.dtype])
    return inputs


def counts_of(ids: np.ndarray, count: np.ndarray | None) -> np.ndarray:
    """How many tokens of each row are real: all, unless it is said. Raises BindError for what cannot be."""
    if count is None:
        return np.full(ids.shape[0], ids.shape[1], np.int32)
    counts = np.asarray(count, np.int32)
    if counts.shape != ids.shape[:1] or ((counts < 0) | (counts > ids.shape[1])).any():
        raise BindError(f"{counts} are not numbers of tokens of {ids.shape[0]} rows of {ids.shape[1]}")
    return counts


def _state_type(value: Value, batch: int, capacity: int) -> Type:
    role, sizes = value.role, dict[str, int]()
    assert isinstance(role, State)
    dim = value.shape[role.batch]
    if isinstance(dim, Sym):
        sizes[dim.text] = batch
    elif dim != batch:
        raise BindError(f"graph {value.graph.name} is fixed to a batch of {dim}, not {batch}")
    rows = value.shape[role.axis] if isinstance(role, Rows | Ring) else capacity
    if isinstance(rows, Sym):
        sizes[rows.text] = min(capacity, role.most) if isinstance(role, Ring) else capacity
    elif rows < capacity and isinstance(role, Rows):
        raise BindError(f"graph {value.graph.name} is fixed to a session of {rows} tokens, not {capacity}")
    return value.type.bind(sizes)
