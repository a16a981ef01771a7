"""What a model is given to read when passes are checked: the same tokens for a plain graph and for a stateful one.

A `Reading` is made from a module's roles alone. A session feeds it: a plain graph reads whole sequences at once, a
stateful one reads them in steps, and each result is known by the sequence and the position that it belongs to. So what
decoding gives can be held to what a plain forward gives. A graph without roles gets made-up arrays: a `Call`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from burnish.backends.backend import Backend
from burnish.backends.binding import BindError
from burnish.debug.numbers import made_up_inputs, rows_read_by, run_all
from burnish.ir.dims import Sym
from burnish.ir.graph import Graph, Value
from burnish.ir.guards import Comparison
from burnish.ir.leaves import Constant
from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.ir.signature import CAPACITY, COUNT, LOGITS, PAST, TOKENS, Linked, Ring, Role, Rows, State
from burnish.ir.types import NUMPY, Type
from burnish.runtime.session import Session, read_source

__all__ = [
    "LONGEST",
    "MOST_TOKENS",
    "Call",
    "Reading",
    "Result",
    "Results",
    "Steps",
    "numbers_in",
    "reading_of",
    "readings_of",
]

LONGEST = 128  # numbers in a graph up to this are straddled by the numbers of tokens that are read
MOST_TOKENS = 2048  # in all, that may be asked for: attention is quadratic, and float64 keeps every logit
EXACTLY = 6  # so many numbers of a graph are also read as the number of tokens


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
                made = {k: backend.to_numpy(x) for k, x in session.step(ids, count, probe).items()}
                taken.append((made, count, past, ids.shape[1]))
            results |= _collected(main, taken)
            results |= _states(main, {k: backend.to_numpy(x) for k, x in session.states.items()}, session.past)
        return results


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


# ------------------------------------------------------------------------------------------------------- what is read


def readings_of(
    module: Module, seed: int = 0, sizes: Mapping[str, int] | None = None, numbers: Iterable[int] = ()
) -> Iterator[Reading]:
    """What a module is given: one token; sequences of different lengths, then steps of one and more; a long one.

    The long one is longer than each of `numbers` up to LONGEST, so that windows are crossed; some of them are also read
    as the number of tokens. Never more than the model was made for. `sizes` are those of symbols. Raises BindError for
    a symbol that there is not, and for sizes that cannot be.
    """
    sizes = dict(sizes or {})
    _check_sizes(module, sizes)
    main = module.main
    if main is None or not _by_roles(module):
        yield from _calls(module, seed, sizes)
        return
    tokens = main.input_for(TOKENS)
    assert tokens is not None
    batch, length = ((d if isinstance(d, int) else sizes.get(str(d))) for d in tokens.shape)
    most = min(module.facts.context or LONGEST + 8, LONGEST + 8)
    wanted = sorted({n for n in numbers if 1 < n <= LONGEST})

    def made(number: int, *counts: Sequence[int]) -> Steps:
        rows = batch or len(counts[0])
        rng = np.random.default_rng([seed, number])
        fitted = [np.array([c[b % len(c)] for b in range(rows)], np.int32) for c in counts]
        return _steps(module, main, fitted, rng)

    if length is not None:
        steps = 0 if main.input_for(PAST) is not None else min(3, length - 1)
        first = length - steps
        yield made(0, (first, max(1, first - 2)), *[(1,)] * steps)
        return
    yield made(1, (1,))
    if most < 2:
        return
    least = min(7, most - 1)
    if most >= 12:
        yield made(2, (7, 4, 1), (1, 1, 1), (1, 1, 1), (2, 0, 1))
    else:
        yield made(2, (least, max(1, least // 2), 1), (1, 1, 1))
    total = min(most, max([*wanted, 32]) + 3)
    if total > 12:
        before = [n for n in wanted if 3 < n < total - 2] or [total - 6]
        first = max(before) - 2  # the steps cross the largest
        yield made(3, (first, max(1, first // 3)), *[(1, 1)] * 4, (total - first - 4, 1))
    for n in wanted[-EXACTLY:] if len(wanted) > EXACTLY else wanted:
        if n < most:
            yield made(n + 3, (n,), (1,))


def _steps(module: Module, main: Graph, counts: Sequence[np.ndarray], rng: np.random.Generator) -> Steps:
    def ids(graph: Graph, rows: int, length: int) -> np.ndarray:
        tokens = graph.input_for(TOKENS)
        assert tokens is not None
        below = rows_read_by(tokens)
        made = rng.integers(0, below, (rows, length)).astype(np.int32)
        made[-1, -1] = 0
        made[0, 0] = below - 1
        return made

    rows = len(counts[0])
    steps = [(ids(main, rows, max(int(c.max()), 1)), c) for c in counts]
    source = None
    if feeders := module.feeders:
        longest = np.maximum(6 - np.arange(rows, dtype=np.int32) * 2, 1)
        source = ids(next(iter(feeders.values())), rows, 6), longest.astype(np.int32)
    first = ", ".join(map(str, counts[0].tolist()))
    name = f"{'sequences' if rows > 1 else 'a sequence'} of {first} token{'s' if counts[0].max() > 1 else ''}"
    return Steps(
        name + (f" and {len(counts) - 1} step{'s' if len(counts) > 2 else ''}" if counts[1:] else ""), steps, source
    )


def reading_of(module: Module, given: Mapping[str, Array]) -> Reading:
    """The reading of given arrays, by `graph.input` or by name alone; of tokens alone, the last ones come in steps.

    Raises BindError for names that the graphs do not have, and for numbers that an input does not take.
    """
    inputs = {f"{g.name}.{v.name}": v for g in module.graphs.values() for v in g.inputs}
    inputs = {k: v for k, v in inputs.items() if not isinstance(v.role, State | Linked)}
    named = {key: key if key in given else key.partition(".")[2] for key in inputs}
    left_out = [k for k, name in named.items() if name not in given and inputs[k].role not in (COUNT, PAST)]
    if left_out or set(given) - set(named.values()):
        raise BindError(f"the model's inputs are {', '.join(named)}; given are {', '.join(given) or 'none'}")
    arrays = {k: _checked(name, inputs[k], given[name]) for k, name in named.items() if name in given}
    (key, ids), *others = arrays.items()
    main = module.main
    if others or main is None or inputs[key].role != TOKENS or not _by_roles(module) or ids.ndim != 2 or not ids.size:
        return Call("the given inputs", arrays)
    rows, length = ids.shape
    if ids.size > MOST_TOKENS or length > (module.facts.context or length):
        most = f"at most {MOST_TOKENS} in all, and no more than the model was made for"
        raise BindError(f"{key}: {rows} x {length} tokens are more than can be checked: {most}")
    cuts = [0, *range(max(1, length - 3), length + 1)]
    steps = [(ids[:, a:b], np.full(rows, b - a, np.int32)) for a, b in itertools.pairwise(cuts)]
    return Steps("the given inputs", steps)


def _checked(name: str, value: Value, given: Any) -> Array:
    """The array as the input takes it. Raises BindError."""
    x = np.asarray(given)
    type = value.type
    if x.dtype.kind not in "iubf" or (x.dtype.kind == "f") > type.is_float:
        raise BindError(f"{name} is {type}, and the given array is of {x.dtype}")
    if x.ndim != type.rank or not x.size:
        raise BindError(f"{name} is {type}, and the given array is {list(x.shape)}")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise BindError(f"{name}: the given array holds numbers that are not finite")
    if type.is_integer and x.size:
        below = rows_read_by(value, 1 << 31)
        if x.min() < 0 or x.max() >= below:
            raise BindError(f"{name}: the given array holds {x.min()} to {x.max()}; the input takes 0 to {below - 1}")
    return x if type.format is not None else x.astype(NUMPY[type.dtype])


def _by_roles(module: Module) -> bool:
    """Whether a session can feed every graph."""
    main, feeders = module.main, module.feeders
    graphs = list(module.graphs.values())
    return (
        all(g is main or g.name in feeders for g in graphs)
        and all(g.input_for(TOKENS) is not None for g in graphs)
        and all(v.role is not None for g in graphs for v in g.inputs)
    )


def _calls(module: Module, seed: int, sizes: Mapping[str, int]) -> Iterator[Call]:
    yield Call(_sized(first := made_up_inputs(module, seed, sizes)), first)
    symbols = {s for g in module.graphs.values() for v in g.inputs for s in v.type.symbols}
    if free := symbols - set(sizes):
        ones = made_up_inputs(module, seed + 1, {**dict.fromkeys(free, 1), **sizes})
        yield Call(_sized(ones), ones)
        larger = {s: first_size + 31 for s, first_size in _bound(module, first).items() if s in free}
        more = made_up_inputs(module, seed + 2, {**larger, **sizes})
        yield Call(_sized(more), more)
    zeros = {k: np.zeros_like(x) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for k, x in first.items()}
    if any(zeros[k] is not first[k] for k in first):
        yield Call("zeros", zeros)


def _sized(given: Mapping[str, Array]) -> str:
    return "inputs " + ", ".join(f"{k.partition('.')[2]}{list(x.shape)}" for k, x in given.items())


def _bound(module: Module, given: Mapping[str, Array]) -> dict[str, int]:
    found: dict[str, int] = {}
    for g in module.graphs.values():
        for v in g.inputs:
            x = given.get(f"{g.name}.{v.name}")
            for d, n in zip(v.type.shape, x.shape, strict=True) if x is not None else ():
                if isinstance(d, Sym) and d.is_plain:
                    found.setdefault(d.text, n)
    return found


def _check_sizes(module: Module, sizes: Mapping[str, int]) -> None:
    names = dict.fromkeys(s for g in module.graphs.values() for v in g.inputs for s in v.type.symbols)
    for name, n in sizes.items():
        if name not in names or name == CAPACITY.text:
            raise BindError(f"there is no size {name!r}; the sizes of the graph are {', '.join(names) or 'all fixed'}")
        if n < 1:
            raise BindError(f"{name}={n}: a size is at least 1")
    if (asked := int(np.prod([float(n) for n in sizes.values()]))) > MOST_TOKENS:
        raise BindError(f"sizes of {asked} in all are more than can be checked; at most {MOST_TOKENS}")
    tokens = module.main.input_for(TOKENS) if module.main is not None else None
    length = sizes.get(str(tokens.shape[1]), 1) if tokens is not None else 1
    if module.facts.context is not None and length > module.facts.context:
        raise BindError(f"{length} tokens are more than the {module.facts.context} that the model was made for")


def numbers_in(module: Module) -> set[int]:
    """The numbers that its nodes are about: attributes and constants of one number, and what guards and rings say."""
    found: set[int] = set()
    for graph in module.every_graph:
        for node in graph:
            if isinstance(node.op, Constant):
                if node.op.value.inline is not None and node.out.type.is_integer:
                    found.update(np.ravel(node.op.value.data).tolist()[:4])
            else:
                values = [getattr(node.op, f.name) for f in dataclasses.fields(node.op)]  # type: ignore[arg-type]
                flat = [x for v in values for x in (v if isinstance(v, tuple) else (v,))]
                found.update(x for x in flat if type(x) is int)
        found.update(v.role.most for v in graph.inputs if isinstance(v.role, Ring))
    for g in module.guards:
        if isinstance(g, Comparison):
            found.update(d for d in (g.a, g.b) if isinstance(d, int))
    return {abs(n) for n in found}
