"""The threads that run programs: the caller's, and helpers that wait between runs."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable

import numpy as np

__all__ = ["Team", "cores", "team"]

Function = Callable[[int, int, int, int], None]


def cores() -> int:
    """How many threads to work on: BURNISH_THREADS of the environment, or as many as this process may use cores.

    Raises ValueError where that is no number.
    """
    if asked := os.environ.get("BURNISH_THREADS"):
        if not asked.isdecimal() or int(asked) == 0:
            raise ValueError(f"BURNISH_THREADS is a number of threads, not {asked!r}")
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Team:
    """Runs one program at a time. A helper that is late is not waited for, unless it has taken work."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._job: tuple[Function, np.ndarray, int, object] | None = None
        self._scratch = [np.empty(0, np.uint8) for _ in range(threads)]
        self._lock = threading.Lock()
        self._bells = [threading.Lock() for _ in range(threads - 1)]
        for i, bell in enumerate(self._bells, 1):
            bell.acquire()
            threading.Thread(target=self._help, args=(i, bell), name=f"burnish-{i}", daemon=True).start()

    def run(self, function: Function, program: np.ndarray, number: int, scratch: int, keep: object) -> None:
        """function(address of `program`, number, 0, address of `scratch` bytes of the thread's own) on every thread.

        `keep` holds what the program refers to: a helper that is late may still look at it.
        """
        with self._lock:
            if len(self._scratch[0]) < scratch + 64:
                self._scratch = [np.zeros(scratch + 64, np.uint8) for _ in range(self.threads)]
            self._job = (function, program, number, keep)
            for bell in self._bells:
                if bell.locked():
                    bell.release()
            self._work(0)
            self._job = None

    def _work(self, thread: int) -> None:
        if (job := self._job) is not None:
            function, program, number, _ = job
            scratch = self._scratch[thread].ctypes.data
            function(program.ctypes.data, number, 0, scratch + -scratch % 64)

    def _help(self, thread: int, bell: threading.Lock) -> None:
        while True:
            bell.acquire()
            self._work(thread)


def function_at(address: int) -> Function:
    """A compiled function; Python's lock is free while it runs."""
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(address)


@functools.cache
def team() -> Team:
    """The one of this process."""
    return Team(cores())


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=team.cache_clear)
