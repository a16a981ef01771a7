"""Where errors become messages and exit codes.

Exit codes: 0 fine; 1 a check failed, the culprit was found, or results are not finite; 2 usage; 3 a model cannot be
loaded, is damaged or not supported, or a weight not quantized; 4 a pass, a plugin or the compiler of kernels failed,
or the verifier refused; 5 inconclusive; 6 a budget or memory was exceeded; 70 a fault of ours; 130 interrupted; 143
terminated. With BURNISH_DEBUG set, errors come with their traceback.
"""

from __future__ import annotations

import traceback

import click

__all__ = ["FAULT", "CheckFailed", "Inconclusive", "Terminated", "exit_code", "message_of"]


class CheckFailed(Exception):
    """A check failed, or a culprit was found; the report is printed already. Exit code 1."""


class Inconclusive(Exception):
    """No verdict could be reached. Exit code 5."""


class Terminated(BaseException):
    """Somebody ended this process. Exit code 143, once what is half-written is gone."""


FAULT = 70  # the exit code of a fault of ours
ENDED = (KeyboardInterrupt, click.Abort, Terminated)  # by somebody: what was being imported is half there


def exit_code(error: BaseException) -> int | None:
    """The documented exit code of an error that is the user's to mend, or None for a fault of ours."""
    if isinstance(error, ENDED):
        return 143 if isinstance(error, Terminated) else 130
    from burnish.backends.binding import BindError
    from burnish.backends.native.builders import CodeError
    from burnish.frontends.config import LoadError
    from burnish.ir.budget import BudgetError
    from burnish.ir.discover import line_in_plugin
    from burnish.ir.format import QuantizeError
    from burnish.ir.literal import NoDataError
    from burnish.ir.run import RunError
    from burnish.ir.verify import VerifyError
    from burnish.ir.weights import ReadError
    from burnish.passes.engine import PassError
    from burnish.passes.pipelines import PipelineError
    from burnish.passes.quantize_weights import RecipeError
    from burnish.runtime.finite import NotFinite

    if isinstance(error.__cause__, RecipeError):  # a rule that is for nothing: only the model told
        return 2
    if isinstance(error.__cause__, BudgetError | MemoryError):  # of a pass that asked for too much
        return 6
    table: list[tuple[type[BaseException], int]] = [
        (CheckFailed, 1),
        (click.UsageError, 2),
        (PipelineError, 2),
        (BindError, 2),
        (UnicodeEncodeError, 2),  # what is no text was given
        (LoadError, 3),
        (QuantizeError, 3),
        (NotFinite, 1),
        (NoDataError, 3),
        (ReadError, 3),
        (RecursionError, 3),  # what is nested so deeply is no model
        (PassError, 4),
        (VerifyError, 4),
        (RunError, 4),  # of a plugin's op or kernel
        (CodeError, 4),
        (Inconclusive, 5),
        (BudgetError, 6),
        (MemoryError, 6),
        (OSError, 2),  # a model's files that cannot be read are LoadErrors: this is a file that cannot be written
    ]
    code = next((code for cls, code in table if isinstance(error, cls)), None)
    return 4 if code is None and line_in_plugin(error) else code


def message_of(error: BaseException) -> str:
    """What is printed of an error: one message, with the place where a plugin or we are to blame."""
    if isinstance(error, ENDED):
        return str(error)
    from burnish.ir.discover import line_in_plugin

    if isinstance(error, click.ClickException):
        return error.format_message()
    message, place = str(error), line_in_plugin(error)
    if isinstance(error, MemoryError):
        message = f"out of memory: {message or 'there is not enough'}"
    elif isinstance(error, RecursionError):
        message = f"it is nested too deeply: {message}"
    elif exit_code(error) in (None, 4) and not type(error).__module__.startswith("burnish."):
        message = f"{type(error).__name__}: {message}"
    if exit_code(error) is None:
        last = traceback.extract_tb(error.__traceback__)[-1:]
        at = "".join(f" at {frame.filename}, line {frame.lineno}" for frame in last)
        return f"{message}{at}. This is a fault of Burnish; with BURNISH_DEBUG=1 it comes with a traceback"
    return f"{message} ({place})" if place and place not in message else message
