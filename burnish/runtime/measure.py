"""What is measured of a model that runs: spreads, cores, memory, and the bytes that a token has to read."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

import numpy as np

from burnish.backends.native.cpu import instruction_set
from burnish.ir.graph import Node
from burnish.ir.module import Module
from burnish.ir.ops.experts import ExpertLinear
from burnish.ir.ops.linear import Embedding
from burnish.ir.signature import Rows
from burnish.runtime.parts import Plan, Tensor
from burnish.runtime.session import Session

__all__ = [
    "Spread",
    "differences",
    "machine",
    "peak_memory",
    "read_bandwidth",
    "state_bytes",
    "timed",
    "weight_bytes",
]

READ = 1 << 28  # bytes, more than a cache holds


class Spread(NamedTuple):
    """Of what was measured several times."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Self:
        """Raises ValueError where there are none."""
        numbers = list(numbers)
        return cls(float(median(numbers)), float(min(numbers)), float(max(numbers)))

    def ratio(self, old: Spread) -> Spread:
        """How many times as much as an older one this is; at least and at most, whichever runs are compared."""
        return Spread(self.median / old.median, self.least / old.most, self.most / old.least)


class Timed(NamedTuple):
    """Seconds by the clock, and of all the process's threads."""

    wall: float
    cpu: float


def timed(run: Callable[[], object]) -> Timed:
    """How long a call took."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Timed(time.perf_counter() - wall, time.process_time() - cpu)


def machine() -> str:
    """The processor by its maker's name, the cores that this process may use, and what the kernels are made for."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.M)):
        name = found[1]
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    isa = instruction_set()
    return f"{name}, {count} cores, {isa.name if isa else 'no kernels'}"


def peak_memory() -> int | None:
    """The most bytes that this process has held in memory; None where the system does not say.

    Linux is asked for the mark of this program: `ru_maxrss` begins with what the parent held when it was started.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.M)
        return int(found[1]) << 10 if found else None
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def read_bandwidth(threads: int, repeat: int = 9) -> Spread:
    """Bytes a second that so many threads read of memory: sums of an array that no cache holds."""
    shares = np.array_split(np.ones(READ // 8, np.int64), threads)
    with ThreadPoolExecutor(threads) as pool:

        def read() -> None:
            list(pool.map(np.sum, shares))

        read()
        return Spread.of(READ / timed(read).wall for _ in range(repeat))


def weight_bytes(module: Module) -> int:
    """The bytes of weights that a step of one token reads: of a table one row, of experts those that it chooses."""
    return sum(_read(t, module) for t in Plan.of(module).tensors)


def _read(tensor: Tensor, module: Module) -> int:
    return max((_part(tensor, node) for node, _ in tensor.uses if node.graph is module.main), default=0)


def _part(tensor: Tensor, node: Node) -> int:
    """The bytes that a node reads of it for one token."""
    rows = next(iter(tensor.value.type.sizes), 1)
    if isinstance(node.op, Embedding):
        return tensor.nbytes // max(rows, 1)
    if isinstance(node.op, ExpertLinear) and isinstance(chosen := node["chosen"].shape[-1], int):
        return tensor.nbytes * min(chosen, rows) // max(rows, 1)
    return tensor.nbytes


def state_bytes(session: Session, tokens: int) -> int:
    """The bytes of states that a step reads behind so many tokens of one sequence."""
    graph = session.backend.module.graphs[session.graph]
    total = 0.0
    for name, v in graph.states.items():
        share = tokens / session.capacity if isinstance(v.role, Rows) else 1
        total += session.states[name].nbytes * share
    return round(total)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In what two settings of a measurement differ, in words."""
    keys = [*new, *(k for k in old if k not in new)]
    return [f"{k}: {old.get(k)}, now {new.get(k)}" for k in keys if old.get(k) != new.get(k)]
