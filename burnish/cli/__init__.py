"""The command line: one file a command, each with a click object named `command`; a file here is found by being here.

What commands have in common is in the files that begin with `_`.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import pkgutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from burnish import __version__
from burnish.cli._errors import FAULT, Terminated, exit_code, message_of

__all__ = ["Group", "group", "main"]


class Group(click.Group):
    """Answers a command that there is not with the nearest."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0][:1] != "-" and args[0] not in (known := self.list_commands(ctx)):
            near = difflib.get_close_matches(args[0][:100], known)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known)}"
            ctx.fail(f"there is no command {args[0][:100]!r}; {hint}")
        return super().resolve_command(ctx, args)


class _Commands(Group):
    """Finds commands by file, and imports one only when it is asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever reads has seen enough, which click would call a failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still to be flushed
            return 0

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if m.name[0] != "_")

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def group() -> None:
    """Burnish: what is this model made of, what did each pass do to it, and how fast can it run?

    SRC is a Hugging Face folder, a file of weights in one, a .gguf or .onnx file, a package, graph text (.graph), or
    a name on the Hugging Face hub (org/name).
    """


def main(arguments: list[str] | None = None) -> None:
    """The entry point: runs a command, and turns an error into one message and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal cannot show is shown by its number
            stream.reconfigure(errors="backslashreplace")
    try:
        if any("\0" in a for a in (sys.argv[1:] if arguments is None else arguments)):
            raise click.UsageError("an argument holds a NUL character")
        with _ended_by_sigterm():
            result = group.main(arguments, prog_name="burnish", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except BaseException as error:
        ours = isinstance(error, Exception | KeyboardInterrupt | Terminated)
        if not ours and ("burnish.ir.discover" not in sys.modules or exit_code(error) is None):
            raise  # unless it is a plugin's, which does not end the process as if all were well
        documented = 2 if isinstance(error, click.ClickException) else exit_code(error)
        code = FAULT if documented is None else documented
        if os.environ.get("BURNISH_DEBUG"):
            traceback.print_exception(error)
        if message := message_of(error):
            help_ = isinstance(error, click.exceptions.NoArgsIsHelpError)
            click.echo(message if help_ else f"error: {message}", err=True)
    if code in (130, 143) and arguments is None:  # XLA may compile still, in threads that do not outlive Python's end
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Within: SIGTERM ends this process as an interrupt does, so that nothing half-written is left."""

    def end(*_: object) -> None:
        raise Terminated("terminated")

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
