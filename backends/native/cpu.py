"""What this machine can do: the instruction sets that there are kernels for, and which of them run here."""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from burnish.backends.native.image import SHIPPED, memory_runs

__all__ = ["INSTRUCTION_SETS", "InstructionSet", "instruction_set", "instruction_sets", "why_none"]


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


def instruction_sets() -> tuple[InstructionSet, ...]:
    """Those that code runs here for, the best first; none where NumPy has to do alone, and `why_none` says why.

    BURNISH_CPU of the environment names the best that may be used, or is "none". Raises ValueError where it is not one
    of those that are there.
    """
    return _found()[0]


def instruction_set() -> InstructionSet | None:
    """The best."""
    return next(iter(instruction_sets()), None)


def why_none() -> str:
    """Why there is no instruction set to run code for; "" where there is one."""
    return _found()[1]


@functools.cache
def _found() -> tuple[tuple[InstructionSet, ...], str]:
    asked, flags = os.environ.get("BURNISH_CPU", ""), _flags()
    if asked == "none":
        return (), "BURNISH_CPU is none"
    there = [s for s in INSTRUCTION_SETS if s.flags <= flags]
    found = [s for s in there if find_spec("numba") is not None or (SHIPPED / s.name).is_dir()]
    names, why = [s.name for s in found], ""
    if not there:
        why = f"this machine is no x86-64 under Linux with {' or '.join(s.name for s in INSTRUCTION_SETS)}"
    elif not found:
        why = "Numba, which makes machine code, is not installed: pip install 'burnish[kernels]'"
    elif not memory_runs():
        found, why = [], "this system does not let memory be run that was written"
    if asked and asked not in names:
        raise ValueError(f"BURNISH_CPU is {asked!r}; here it may be {', '.join([*names, 'none'])}")
    return tuple(found[names.index(asked) :] if asked and found else found), why


def _flags() -> frozenset[str]:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return frozenset()
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    return frozenset(m[1].split()) if (m := re.search(r"^flags\s*:(.*)$", text, re.M)) else frozenset()
