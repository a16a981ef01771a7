"""What this CPU can do: the instruction sets that the kernels know, and which of them are there."""

from __future__ import annotations

import functools
import os
import platform
from typing import NamedTuple

__all__ = ["INSTRUCTION_SETS", "InstructionSet", "instruction_sets"]


class InstructionSet(NamedTuple):
    """A set of vector instructions, by the size of its registers and the features (LLVM's names) that it needs."""

    name: str
    lanes: int  # 32-bit lanes of a register
    features: frozenset[str]

    @property
    def layout(self) -> str:
        """The layout of weights that its kernels read: tiles of as many rows as a register has lanes."""
        return f"tiles{self.lanes}"


#: the best first
INSTRUCTION_SETS = (
    InstructionSet("avx512_vnni", 16, frozenset({"avx512f", "avx512bw", "avx512vnni"})),
    InstructionSet("avx2", 8, frozenset({"avx2", "f16c", "fma"})),
)


@functools.cache
def instruction_sets() -> tuple[InstructionSet, ...]:
    """Those that kernels can be compiled for here, the best first; none where the CPU is not an x86-64."""
    features = _features()
    return tuple(s for s in INSTRUCTION_SETS if s.features <= features)


def _features() -> set[str]:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return set()
    # LLVM aborts the process on an instruction that it was not told of, so this reads what Numba will tell it.
    told = os.environ.get("NUMBA_CPU_FEATURES")
    if told is not None:
        return {f[1:] for f in told.split(",") if f.startswith("+")}
    if os.environ.get("NUMBA_CPU_NAME", "").lower() == "generic":
        return set()
    from llvmlite import binding

    return {name for name, there in binding.get_host_cpu_features().items() if there}
