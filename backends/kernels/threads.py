"""A task on several threads at once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

__all__ = ["cores", "run_on_threads"]


def cores() -> int:
    """How many threads to work on: BURNISH_THREADS of the environment, or as many as this process may use cores.

    Raises ValueError where that is no number.
    """
    if asked := os.environ.get("BURNISH_THREADS"):
        if not asked.isdecimal() or int(asked) == 0:
            raise ValueError(f"BURNISH_THREADS is a number of threads, not {asked!r}")
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_on_threads(task: Callable[[], object], threads: int) -> None:
    """Run `task` on up to `threads` threads, the caller's among them; return when every started one is done.

    The tasks share the work between them (a counter of chunks, say), so one that has not started when the caller's
    is done has nothing to do and is not waited for: a busy machine must not cost a wake-up.
    """
    helpers = [_pool().submit(task) for _ in range(threads - 1)]
    task()
    for helper in helpers:
        if not helper.cancel():
            helper.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, cores() - 1), thread_name_prefix="burnish-kernel")


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
