"""What a model is given to read when passes are checked: the same tokens for a plain graph and for a stateful one.

A `Reading` is made from a module's roles alone. A session feeds it: a plain graph reads whole sequences at once, a
stateful one reads them in steps, and each result is known by the sequence and the position that it belongs to. So what
decoding gives can be held to what a plain forward gives. A graph without roles gets made-up arrays: a `Call`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from burnish.backends.backend import Backend
from burnish.debug.numbers import rows_read_by, run_all
from burnish.ir.dims import Sym
from burnish.ir.graph import Graph
from burnish.ir.op import Array
from burnish.ir.signature import COUNT, LOGITS, PAST, TOKEN_TYPES, TOKENS, Ring, Role, Rows
from burnish.ir.types import Type
from burnish.runtime.session import Session, read_source

__all__ = ["Call", "Reading", "Result", "Results", "Steps"]


@dataclass(frozen=True)
class Result:
    """An output of a reading.

    `at[n, 2]` says of each row which sequence and position it belongs to; None for what is one thing as a whole, and
    for states, of which the rows in use are there.
    """

    array: Array
    at: np.ndarray | None = None
    is_state: bool = False

    def beside(self, other: Result) -> tuple[Array, Array]:
        """Both arrays, of the rows that both have."""
        if self.at is None or other.at is None or np.array_equal(self.at, other.at):
            return self.array, other.array
        theirs = {tuple(at): i for i, at in enumerate(other.at.tolist())}
        rows = [(i, theirs[tuple(at)]) for i, at in enumerate(self.at.tolist()) if tuple(at) in theirs]
        mine, others = [i for i, _ in rows], [i for _, i in rows]
        return self.array[mine], other.array[others]


Results = dict[str, Result]  # by graph.output


class Reading(Protocol):
    """Something that every form of a module can be given."""

    @property
    def name(self) -> str:
        """What it is, in words."""

    def __call__(self, backend: Backend, probe: Any = None) -> Results:
        """The results on a backend. Raises BindError where its module does not take such sizes."""


@dataclass(frozen=True)
class Call:
    """One call of every graph on arrays by `graph.input`; what passes add is filled in: states are empty."""

    name: str
    given: Mapping[str, Array]

    def __call__(self, backend: Backend, probe: Any = None) -> Results:
        results: Results = {}
        found = run_all(backend.module, lambda graph, inputs: backend(graph, inputs, probe), self.given)
        for graph in backend.module.graphs.values():
            arrays = {k: backend.to_numpy(found[f"{graph.name}.{k}"]) for k in graph.outputs}
            tokens = graph.input_for(TOKENS)
            ids = self.given.get(f"{graph.name}.{tokens.name}") if tokens is not None else None
            if ids is None:
                results |= {f"{graph.name}.{k}": Result(x, None, k in graph.states) for k, x in arrays.items()}
                continue
            counts = self._given(graph, COUNT, np.full(len(ids), ids.shape[1], np.int32))
            past = self._given(graph, PAST, np.zeros_like(counts))
            results |= _collected(graph, [(arrays, counts, past, ids.shape[1])])
            results |= _states(graph, arrays, past + counts)
        return results

    def _given(self, graph: Graph, role: Role, otherwise: np.ndarray) -> np.ndarray:
        value = graph.input_for(role)
        return otherwise if value is None else np.asarray(self.given.get(f"{graph.name}.{value.name}", otherwise))


@dataclass(frozen=True)
class Steps:
    """Sequences of tokens, in steps of ids[B, S] of which `count[b]` are real; `source` is for an encoder."""

    name: str
    steps: Sequence[tuple[np.ndarray, np.ndarray]]
    source: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """All steps as one."""
        total = np.sum([count for _, count in self.steps], axis=0).astype(np.int32)
        ids = np.zeros((len(total), max(int(total.max()), 1)), np.int32)
        past = np.zeros_like(total)
        for new, count in self.steps:
            for b, n in enumerate(count):
                ids[b, past[b] : past[b] + n] = new[b, :n]
            past += count
        return ids, total

    @property
    def first(self) -> Steps:
        """The first step alone, of which every token is real."""
        ids, count = self.steps[0]
        return dataclasses.replace(self, steps=[(ids, np.full_like(count, ids.shape[1]))])

    def __call__(self, backend: Backend, probe: Any = None) -> Results:
        module, results = backend.module, Results()
        main = module.main
        assert main is not None
        given: dict[tuple[str, str], Array] = {}
        with np.errstate(all="ignore"):  # an infinite result is for those to judge who compare
            if module.feeders:
                assert self.source is not None
                ids, count = self.source
                given = read_source(backend, module.feeders, ids, count, probe)
                for graph in module.feeders.values():
                    made = {k: backend.to_numpy(given[graph.name, k]) for k in graph.outputs}
                    results |= _collected(graph, [(made, count, np.zeros_like(count), ids.shape[1])])
            steps = self.steps if main.input_for(PAST) is not None else [self.whole]
            total = self.whole[1]
            most = int(total.max())
            capacity = max(most, min(most + 2, module.facts.context or most + 2))  # some rows are not in use
            session = Session.start(backend, main.name, len(total), capacity, given)
            taken = []
            for ids, count in steps:
                past = session.past
                step = session.step(ids, count, probe, _token_types(main, past, ids.shape[1]))
                made = {k: backend.to_numpy(x) for k, x in step.items()}
                taken.append((made, count, past, ids.shape[1]))
            results |= _collected(main, taken)
            results |= _states(main, {k: backend.to_numpy(x) for k, x in session.states.items()}, session.past)
        return results


def _token_types(graph: Graph, past: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """All types that there are, by turns of three tokens; those of a token are the same in whatever step it comes."""
    types = graph.input_for(TOKEN_TYPES)
    at = past[:, None] + np.arange(length)
    return {} if types is None else {types.name: at // 3 % max(rows_read_by(types), 1)}


Taken = tuple[Mapping[str, Array], np.ndarray, np.ndarray, int]  # outputs of a step, counts, past, its number of tokens


def _collected(graph: Graph, steps: Sequence[Taken]) -> Results:
    """The outputs that are no states, those of all steps together where they say to which tokens they belong."""
    tokens = graph.input_for(TOKENS)
    assert tokens is not None
    results: Results = {}
    for name, value in graph.outputs.items():
        if name in graph.states:
            continue
        key, role = f"{graph.name}.{name}", graph.roles.get(name)
        parts = [_rows(value.type, role, tokens.type, made[name], count, past) for made, count, past, _ in steps]
        if any(at is None for _, at in parts):
            results[key] = Result(_cut(value.type, tokens.type, steps[-1][0][name], steps[-1][3]))
        else:
            results[key] = Result(np.concatenate([x for x, _ in parts]), np.concatenate([a for _, a in parts]))
    return results


def _rows(
    type: Type, role: Role | None, tokens: Type, x: Array, count: np.ndarray, past: np.ndarray
) -> tuple[Array, Any]:
    """The rows of real tokens, and where they belong; those of the last tokens where the output has no others."""
    if type.rank >= 2 and type.shape[:2] == tokens.shape:
        where = [(b, i, past[b] + i) for b, n in enumerate(count) for i in range(n)]
    elif type.rank == 3 and role == LOGITS and type.shape[:2] == (tokens.shape[0], 1):
        where = [(b, 0, past[b] + n - 1) for b, n in enumerate(count) if n]
    else:
        return x, None
    b, i, p = np.array(where, int).reshape(-1, 3).T
    return x[b, i], np.stack([b, p], axis=1)


def _cut(type: Type, tokens: Type, x: Array, length: int) -> Array:
    """Without the tokens by which a backend has filled up."""
    s = tokens.shape[1]
    return x[tuple(slice(length if isinstance(s, Sym) and d == s else None) for d in type.shape)]


def _states(graph: Graph, arrays: Mapping[str, Array], past: np.ndarray) -> Results:
    """The rows of states that are in use, sequence after sequence, in order of position."""
    results: Results = {}
    for name, value in graph.states.items():
        x, role = arrays[name], value.role
        if isinstance(role, Rows | Ring):
            x = np.moveaxis(x, (role.batch, role.axis), (0, 1))
            rows = x.shape[1]
            kept = [[p % rows for p in range(max(0, n - rows), n)] for n in past.tolist()]
            x = np.concatenate([x[b, r] for b, r in enumerate(kept)])
        results[f"{graph.name}.{name}"] = Result(np.array(x), None, True)
    return results
