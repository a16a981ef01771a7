"""What runs a program: each of its threads goes through the phases, and takes chunks of their items.

A program is eight words: phases, the address of the table of phases, that of the counters, the run's number (its low
32 bits), how often to look again before a thread sleeps, and shares: of the items that are left, a thread takes one of
so many shares. A phase is four words: items, the items that are worth taking, the address of its first call, calls. A
call is two: the address of a function, and of its arguments. A phase has two counters, 64 bytes apart: the run's number
and the next item that nobody has taken, in the high and the low half; and how many items are done. No thread is waited
for, but for the items that it has taken: one that is late finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.simd import words as w
from burnish.backends.kernels.simd.instructions import Instructions

__all__ = ["functions"]

COUNTERS = 128  # bytes: two, each in a cache line of its own


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`begin(program, …)` before a run; `run(program, run's number, …, scratch)` on each of its threads."""
    word, store_word, exchange, add_word, call, pause = (
        w.word, w.store_word, w.exchange, w.add_word, w.call, w.pause,
    )  # fmt: skip
    sleep, load_word = w.sleep, w.load_word

    def begin(program: int, _: int, __: int, ___: int) -> None:
        phases, counters, number = word(program), word(program + 16), word(program + 24)
        for i in range(phases):
            store_word(counters + i * COUNTERS + 64, 0)
            store_word(counters + i * COUNTERS, number << 32)

    @njit(nogil=True)
    def chunk_at(at: int, items: int, grain: int, shares: int) -> Any:
        """The items that are taken at once from `at` on: less and less, so that threads end together."""
        return min(max((items - at) // (shares * grain), 1) * grain, items - at)

    @njit(nogil=True)
    def claim(counter: int, number: int, items: int, grain: int, shares: int) -> Any:
        """The first item of a chunk; -1 where all are taken, -2 where another run has begun."""
        while True:
            old = load_word(counter)
            if old >> 32 != number:
                return -2
            at = old & 0xFFFFFFFF
            if at >= items:
                return -1
            if exchange(counter, old, old + chunk_at(at, items, grain, shares)) == old:
                return at

    def run(program: int, number: int, _: int, scratch: int) -> None:
        phases, table, counters, patience = word(program), word(program + 8), word(program + 16), word(program + 32)
        shares = word(program + 40)
        for i in range(phases):
            phase, counter = table + 32 * i, counters + i * COUNTERS
            items, grain, first, calls = word(phase), word(phase + 8), word(phase + 16), word(phase + 24)
            while True:
                start = claim(counter, number, items, grain, shares)
                if start < 0:
                    break
                end = start + chunk_at(start, items, grain, shares)
                for c in range(first, first + 16 * calls, 16):
                    call(word(c), word(c + 8), start, end, scratch)
                add_word(counter + 64, end - start)
            if start == -2:
                return
            looks = 0
            while load_word(counter + 64) < items:
                if load_word(counter) >> 32 != number:
                    return
                looks += 1
                if looks < patience:
                    pause()
                else:
                    sleep()

    return {"begin": begin, "run": run}
