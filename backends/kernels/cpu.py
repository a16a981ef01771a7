"""What this CPU can do: the instruction sets that the kernels know, and which of them are there."""

from __future__ import annotations

import functools
import os
import platform
import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["INSTRUCTION_SETS", "InstructionSet", "instruction_set", "instruction_sets"]


class InstructionSet(NamedTuple):
    """A set of vector instructions: what is compiled for it runs on every CPU that has its features."""

    name: str
    lanes: int  # 32-bit lanes of a register
    cpu: str  # LLVM's name of the CPU that code is compiled for, with the extras that it gets beside
    extras: str
    flags: frozenset[str]  # the kernel's names (/proc/cpuinfo) of what a CPU must have

    @property
    def layout(self) -> str:
        """The layout of weights that its kernels read: tiles of as many rows as a register has lanes."""
        return f"tiles{self.lanes}"


_V3 = frozenset({"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})  # x86-64-v3, beside what comes with AVX2
#: the best first
INSTRUCTION_SETS = (
    InstructionSet(
        "avx512_vnni", 16, "x86-64-v4", "+avx512vnni",
        _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"},
    ),
    InstructionSet("avx2", 8, "x86-64-v3", "", _V3),
)  # fmt: skip


@functools.cache
def instruction_sets() -> tuple[InstructionSet, ...]:
    """Those that code runs here for, the best first; none where the CPU is not an x86-64 under Linux.

    BURNISH_CPU of the environment names the best that may be used. Raises ValueError where it is not there.
    """
    flags = _flags()
    found = tuple(s for s in INSTRUCTION_SETS if s.flags <= flags)
    if asked := os.environ.get("BURNISH_CPU"):
        names = [s.name for s in found]
        if asked == "none":
            return ()
        if asked not in names:
            raise ValueError(f"BURNISH_CPU is {asked!r}; this CPU has {', '.join([*names, 'none'])}")
        return found[names.index(asked) :]
    return found


def instruction_set() -> InstructionSet | None:
    """The best."""
    return next(iter(instruction_sets()), None)


def _flags() -> frozenset[str]:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return frozenset()
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    return frozenset(m[1].split()) if (m := re.search(r"^flags\s*:(.*)$", text, re.M)) else frozenset()
