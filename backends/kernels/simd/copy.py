"""Copies between memories that lie differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import copy_bytes, copy_element, word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`copy`: an item is a line along the last axis."""

    def copy(a: int, begin: int, end: int, scratch: int) -> None:
        """from, to, bytes of an element, elements of a line, bytes between them in each, axes before it, and of each of
        these, the last first: its size, bytes between its elements in each"""
        source, target, size, n, source_step, target_step, axes = (
            word(a), word(a + 8), word(a + 16), word(a + 24), word(a + 32), word(a + 40), word(a + 48),
        )  # fmt: skip
        for line in range(begin, end):
            x, y, rest, at = source, target, line, a + 56
            for _ in range(axes):
                index = rest % word(at)
                rest = rest // word(at)
                x, y, at = x + index * word(at + 8), y + index * word(at + 16), at + 24
            if source_step == size and target_step == size:
                copy_bytes(y, x, n * size)
            else:
                for _ in range(n):
                    copy_element(y, x, size)
                    x, y = x + source_step, y + target_step

    return {"copy": copy}
