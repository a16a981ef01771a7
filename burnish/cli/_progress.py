"""Bars for long work on a terminal's standard error; nothing anywhere else."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["show_progress", "stop_progress"]

WAIT = 0.3  # seconds until work counts as long: what is done by then is not shown, and does not load rich
_STOPPED = "burnish.progress.stopped"
OFTEN = 0.1  # seconds between two drawings


def show_progress(what: str, done: int, total: int) -> None:
    """Show how far some work is (a total of 0: not known) until it is done, or the command ends.

    Only on a terminal, and not with --json.
    """
    context = click.get_current_context(silent=True)
    if context is None or context.params.get("as_json") or not (_bars.display or sys.stderr.isatty()):
        return
    if _STOPPED in context.meta:
        return
    if not _bars.work:
        context.call_on_close(_bars.close)  # however it ends: an interrupt leaves the terminal clean
    _bars.show(what, done, total)


def stop_progress() -> None:
    """Take the bars away, and show no more: from here on the command prints lines piece by piece."""
    click.get_current_context().meta[_STOPPED] = True
    _bars.close()


class _Bars:
    """The work that has begun and not ended, and the bars of what takes long. Nothing is drawn between two calls."""

    def __init__(self) -> None:
        self.work: dict[str, tuple[int, int]] = {}
        self.timers: list[threading.Timer] = []
        self.tasks: dict[str, TaskID] = {}
        self.display: Progress | None = None
        self.streams: tuple[TextIO, TextIO] | None = None
        self.drawn = 0.0
        self.lock = threading.RLock()

    def show(self, what: str, done: int, total: int) -> None:
        with self.lock:
            if 0 < total <= done:
                self.end(what)
                return
            begins = what not in self.work
            self.work[what] = done, total
            if begins:
                timer = threading.Timer(WAIT, self.draw, (what,))
                timer.daemon = True
                timer.start()
                self.timers.append(timer)
            elif what in self.tasks and time.monotonic() > self.drawn + OFTEN:
                self.draw(what)

    def draw(self, what: str) -> None:
        with self.lock:
            if what not in self.work:
                return
            done, total = self.work[what]
            if self.display is None:
                self.display = _display()
                self.display.start()
                self.streams = sys.stdout, sys.stderr
                if sys.stdout.isatty():
                    sys.stdout = _above(self.display, sys.stdout)
                sys.stderr = _above(self.display, sys.stderr)
            if what not in self.tasks:
                self.tasks[what] = self.display.add_task(what, total=None)
            self.display.update(self.tasks[what], completed=done, total=total or None, refresh=True)
            self.drawn = time.monotonic()

    def end(self, what: str) -> None:
        self.work.pop(what, None)
        if what in self.tasks and self.display is not None:
            self.display.remove_task(self.tasks.pop(what))
        if not self.tasks:
            self.stop()

    def stop(self) -> None:
        if self.streams is not None:
            sys.stdout.flush()
            sys.stdout, sys.stderr = self.streams
        if self.display is not None:
            self.display.stop()
        self.display = self.streams = None

    def close(self) -> None:
        with self.lock:
            for timer in self.timers:
                timer.cancel()
            self.timers.clear()
            self.work.clear()
            self.tasks.clear()
            self.stop()


_bars = _Bars()


def _display() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _above(display: Progress, stream: TextIO) -> Any:
    """The stream, whose lines go above the bars."""
    from rich.file_proxy import FileProxy

    class Above(FileProxy):
        """What click takes for a stream as good as the one that it stands for."""

        encoding = stream.encoding
        errors = stream.errors

        def isatty(self) -> bool:
            return stream.isatty()

    return Above(display.console, stream)
