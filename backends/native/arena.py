"""Memory that a program uses again: where each of its arrays lies, by when it is needed."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping

from burnish.backends.native.tensor import Memory

__all__ = ["ALIGN", "lay_out"]

ALIGN = 64  # bytes: a cache line, and a register of AVX-512


def lay_out(lives: Mapping[Memory, tuple[int, int]]) -> tuple[dict[Memory, int], int]:
    """The byte that each memory begins at, and how many there are in all.

    A memory is needed from its first phase to its last, both included; no two that are needed at once overlap. The
    largest are placed first, each as low as it fits.
    """
    placed: list[tuple[int, int, int, int]] = []  # first byte, end, first phase, last; in the order of the bytes
    at: dict[Memory, int] = {}
    for memory, (first, last) in sorted(lives.items(), key=lambda item: -item[0].array.nbytes):
        size = -(-max(memory.array.nbytes, 1) // ALIGN) * ALIGN
        start = 0
        for low, high, begins, ends in placed:
            if begins > last or first > ends:
                continue
            if low - start >= size:
                break
            start = max(start, high)
        at[memory] = start
        insort(placed, (start, start + size, first, last))
    return at, max((p[1] for p in placed), default=0)


def lives_of(phases: Iterable[Iterable[Memory]]) -> dict[Memory, tuple[int, int]]:
    """The first and the last phase that reads or writes each memory that is used again."""
    lives: dict[Memory, tuple[int, int]] = {}
    for i, memories in enumerate(phases):
        for m in memories:
            if m.kind == "made":
                lives[m] = (lives.get(m, (i, i))[0], i)
    return lives
