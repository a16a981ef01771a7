"""Which readings a module is given: made up of its roles and the numbers in it, or from given arrays."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from burnish.backends.binding import BindError
from burnish.debug.numbers import made_up_inputs, rows_read_by
from burnish.debug.readings import Call, Reading, Steps
from burnish.ir.dims import Sym
from burnish.ir.graph import Graph, Value
from burnish.ir.guards import Comparison
from burnish.ir.leaves import Constant
from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.ir.signature import CAPACITY, COUNT, PAST, TOKENS, Length, Linked, Ring, State
from burnish.ir.types import NUMPY

__all__ = ["LONGEST", "MOST_TOKENS", "numbers_in", "reading_of", "readings_of"]

LONGEST = 128  # numbers in a graph up to this are straddled by the numbers of tokens that are read
MOST_TOKENS = 2048  # in all, that may be asked for: attention is quadratic, and float64 keeps every logit
EXACTLY = 6  # so many numbers of a graph are also read as the number of tokens


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
    follow = {k for k, v in inputs.items() if v.role in (COUNT, PAST) or isinstance(v.role, Length)}
    left_out = [k for k, name in named.items() if name not in given and k not in follow]
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
                values = [getattr(node.op, f.name) for f in dataclasses.fields(node.op)]
                flat = [x for v in values for x in (v if isinstance(v, tuple) else (v,))]
                found.update(x for x in flat if type(x) is int)
        found.update(v.role.most for v in graph.inputs if isinstance(v.role, Ring))
    for g in module.guards:
        if isinstance(g, Comparison):
            found.update(d for d in (g.a, g.b) if isinstance(d, int))
    return {abs(n) for n in found}
