"""Budgets: how much may be computed and held, summed before it begins.

What weights and constants alone determine, at weight time and at load time, may make 64 times the bytes of the module's
weights and constants, or 256 MB where that is more, intermediate results included. What a run holds, and any one array,
must fit the machine's memory. `allowing` states another limit for all of these. Counted are results as if each were
stored; a view is one too.
"""

from __future__ import annotations

import math
import os
import re
import resource
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from burnish.ir.dims import Dim
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module
from burnish.ir.text import neighbourhood
from burnish.ir.types import Type
from burnish.ir.walk import above

__all__ = [
    "LEAST",
    "BudgetError",
    "allowing",
    "bytes_at",
    "check_disk",
    "check_held",
    "check_run",
    "check_work",
    "machine_memory",
    "read_size",
    "stated",
]

FACTOR, LEAST = 64, 256 << 20  # times the source's bytes; bytes
OPERATIONS = 64  # that each byte of a budget may cost: a product makes few bytes of much work
LOOPS = 1 << 22  # nodes that the loops of one node may run

_stated: ContextVar[int | None] = ContextVar("budget", default=None)


class BudgetError(Exception):
    """Work that is refused before it begins: what, how many bytes, against what limit, and what to do."""


@contextmanager
def allowing(nbytes: int) -> Iterator[None]:
    """Within: this many bytes are the limit of whatever is computed or held, in the place of the limits above."""
    token = _stated.set(nbytes)
    try:
        yield
    finally:
        _stated.reset(token)


def stated() -> int | None:
    """The limit that was stated, if any."""
    return _stated.get()


def read_size(text: str) -> int:
    """The bytes of `500M`, `10G`, `1.5T`: K, M, G and T are powers of 1024. Raises ValueError."""
    m = re.fullmatch(r"(\d{1,18}(?:\.\d{1,6})?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if m is None:
        raise ValueError(f"{text!r} is no size; a size is 500M, 10G or 1.5T")
    return int(float(m[1]) * 1024 ** " KMGT".index(m[2].upper() or " "))


def check_held(types: Iterable[Type], what: str) -> None:
    """Raise BudgetError unless arrays of these types, which have no symbols, fit into memory at once."""
    _check_bytes(sum(map(_nbytes, types)), what)


def _check_bytes(nbytes: int, what: str) -> None:
    limit = stated()
    if nbytes > (machine_memory() if limit is None else limit):
        against = "the machine's memory" if limit is None else "the budget that was stated"
        raise BudgetError(_message(what, nbytes, machine_memory() if limit is None else limit, against))


def check_disk(nbytes: int, folder: Path, what: str = "the package") -> None:
    """Raise BudgetError unless so many bytes fit onto the disk of a folder, which may not be there yet."""
    there = next((p for p in (folder, *folder.parents) if p.is_dir()), None)
    if there is None or stated() is not None:
        return
    disk = os.statvfs(there)
    free = disk.f_bavail * disk.f_frsize
    if nbytes > free:
        raise BudgetError(_message(f"{folder}: {what}", nbytes, free, f"what is free on the disk of {there}"))


def check_work(values: Iterable[Value]) -> None:
    """Raise BudgetError where making these values, of weights and constants alone, takes too many bytes or operations.

    All that they are made of counts, each node once.
    """
    nodes = [node for node in above(values) if not node.is_leaf]
    if not nodes:
        return
    made = {node: _bytes_of(node) for node in nodes}
    module = nodes[0].out.graph.module
    limit = stated()
    against = "the budget that was stated"
    if limit is None:
        source = _source_bytes(module)
        limit = max(LEAST, FACTOR * source)
        against = f"{FACTOR} times the {source:,} bytes that it is made of, at least {LEAST >> 20} MB"
    largest = max(nodes, key=lambda node: made[node])
    total = sum(made.values())
    if total > limit:
        what = f"what weights and constants determine, most of it {_shown(largest)},"
        raise BudgetError(_message(what, total, limit, against))
    if made[largest] > machine_memory():
        _check_bytes(made[largest], _shown(largest))
    operations = {node: _operations_of(node) for node in nodes}
    if sum(operations.values()) > OPERATIONS * limit:
        largest = max(nodes, key=lambda node: operations[node])
        raise BudgetError(
            f"what weights and constants determine, most of it {_shown(largest)}, takes {sum(operations.values()):,} "
            f"operations, more than {OPERATIONS} for each byte of {limit:,} ({against}); {_advice(total * 2)}"
        )
    for node in nodes:
        _check_loops(node)


def check_run(graph: Graph, steps: Iterable[tuple[Node, Iterable[Value]]], sizes: Mapping[str, Dim]) -> None:
    """Raise BudgetError where a step of a run holds more than fits into memory.

    `steps` are nodes, with the values that are freed after each; symbols without a size are not looked at.
    """
    limit = machine_memory() if stated() is None else stated()
    assert limit is not None
    held: dict[Value, int] = {}
    total = 0
    bytes_of = cache(lambda type: _nbytes(type, sizes))
    for node, frees in steps:
        for o in node.outputs:
            nbytes = bytes_of(o.type)
            if nbytes > limit:
                _check_bytes(nbytes, f"{_shown(node)}, with {_text(sizes)}" if sizes else _shown(node))
            if node.op.kind != "memory":  # most of which are views
                held[o] = nbytes
                total += nbytes
        if total > limit:
            _check_bytes(total, f"what graph {graph.name} holds at once, with {_text(sizes)}, at {_shown(node)},")
        for v in frees:
            total -= held.pop(v, 0)
        _check_loops(node)


def bytes_at(values: Iterable[Value], sizes: Mapping[str, Dim]) -> int:
    """The bytes of all results that these values are made of, themselves among them, at these sizes."""
    return sum(_nbytes(o.type, sizes) for node in above(values) for o in node.outputs)


def machine_memory() -> int:
    """The bytes of memory that this process can have: the machine's, its control group's, its own limit's."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return _memory() if soft == resource.RLIM_INFINITY else min(_memory(), soft)


@cache
def _memory() -> int:
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(file).read_text("ascii")))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return min(limits)


def _source_bytes(module: Module) -> int:
    weights = sum(_nbytes(entry.type) for entry in module.weights.values())
    return weights + sum(_nbytes(Type(v.dtype, v.shape)) for v in module.literals() if v.has_data)


def _nbytes(type: Type, sizes: Mapping[str, Dim] = {}) -> int:
    nbytes = type.bind(sizes).nbytes if type.symbols else type.nbytes
    return nbytes if isinstance(nbytes, int) else 0


def _bytes_of(node: Node) -> int:
    inner = sum(_bytes_of(n) for body in node.bodies for n in body)
    return sum(_nbytes(o.type) for o in node.outputs) + _count(node) * inner


def _operations_of(node: Node) -> int:
    inner = sum(_operations_of(n) for body in node.bodies for n in body)
    elements = sorted(_elements(v) for v in (*node.operands, *node.outputs))
    if node.op.kind in ("linear", "matmul"):  # of [M, K] by [K, N]: MKN, the root of MK * KN * MN
        return math.isqrt(math.prod(elements[-3:]))
    return max(elements, default=0) + _count(node) * inner


def _elements(value: Value) -> int:
    return math.prod(d for d in value.shape if isinstance(d, int))


def _count(node: Node) -> int:
    count = getattr(node.op, "count", 1)  # of a repeat
    return count if isinstance(count, int) else 1


def _check_loops(node: Node) -> None:
    if node.bodies and (runs := _runs(node)) > LOOPS and stated() is None:
        raise BudgetError(f"{_shown(node)} runs {runs:,} nodes in its loops, more than {LOOPS:,}; {_advice(LEAST)}")


def _runs(node: Node) -> int:
    return 1 + _count(node) * sum(_runs(n) for body in node.bodies for n in body)


def _shown(node: Node) -> str:
    statement = neighbourhood(node, 0).strip("> ").splitlines()[0]
    return f"'{statement[:200]}' of graph {node.out.graph.name}"


def _text(sizes: Mapping[str, Dim]) -> str:
    return ", ".join(f"{k}={n}" for k, n in sizes.items()) or "no symbols"


def _message(what: str, nbytes: int, limit: int, against: str) -> str:
    return f"{what} takes {nbytes:,} bytes, more than {limit:,} ({against}); {_advice(nbytes)}"


def _advice(nbytes: int) -> str:
    size = next((f"{math.ceil(nbytes / 1024**i)}{u}" for i, u in enumerate(" KMGT") if nbytes < 1024 ** (i + 1)), "")
    return f"--budget {size.strip() or f'{nbytes >> 40}T'} allows it, where that is what you want"
