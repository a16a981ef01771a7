"""The command line: one file a command, each with a click object named `command`; a file here is found by being here.

Exit codes: 0 fine; 1 a check failed, or the culprit was found; 2 usage; 3 a model cannot be loaded or is not
supported; 4 a pass crashed or the verifier refused; 5 inconclusive; 6 a budget was exceeded; 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from burnish.ir.module import Module
    from burnish.runtime.executable import Executable

__all__ = [
    "CheckFailed",
    "Inconclusive",
    "activations_option",
    "backend_option",
    "backend_type",
    "exit_code",
    "json_option",
    "load_module",
    "main",
    "plugin_option",
    "refuse_fallbacks",
    "require_kernels_option",
    "show_progress",
    "source_argument",
    "task_option",
]

F = TypeVar("F", bound=Callable[..., Any])


class CheckFailed(Exception):
    """A check failed, or a culprit was found; the report is printed already. Exit code 1."""


class Inconclusive(Exception):
    """No verdict could be reached. Exit code 5."""


def exit_code(error: BaseException) -> int | None:
    """The documented exit code of an error that is the user's to mend, or None for a fault of ours."""
    from burnish.backends.binding import BindError
    from burnish.frontends.config import LoadError
    from burnish.ir.verify import VerifyError
    from burnish.passes.engine import PassError
    from burnish.passes.pipelines import PipelineError
    from burnish.passes.quantize_weights import RecipeError

    if isinstance(error.__cause__, RecipeError):  # a rule that is for nothing: only the model told
        return 2
    table: list[tuple[type[BaseException], int]] = [
        (CheckFailed, 1),
        (click.UsageError, 2),
        (PipelineError, 2),
        (BindError, 2),
        (LoadError, 3),
        (PassError, 4),
        (VerifyError, 4),
        (Inconclusive, 5),
        (KeyboardInterrupt, 130),
        (click.Abort, 130),
        (OSError, 2),  # a model's files that cannot be read are LoadErrors: this is a file that cannot be written
    ]
    return next((code for cls, code in table if isinstance(error, cls)), None)


class _Commands(click.Group):
    """Finds commands by file, and imports one only when it is asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever reads has seen enough, which click would call a failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still to be flushed
            return 0

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(__path__))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{__name__}.{name}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="burnish")
def group() -> None:
    """Burnish: what is this model made of, what did each pass do to it, and how fast can it run?

    SRC is a Hugging Face folder, a .safetensors, .gguf or .onnx file, a package, or graph text (.graph).
    """


def main(arguments: list[str] | None = None) -> None:
    """The entry point: runs a command, and turns an error into one message and its exit code."""
    try:
        result = group.main(arguments, prog_name="burnish", standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except (click.ClickException, Exception, KeyboardInterrupt) as error:
        code = exit_code(error)
        if code is None and not isinstance(error, click.ClickException):
            raise
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        if message:
            click.echo(f"error: {message}", err=True)
        sys.exit(code if code is not None else 2)


def show_progress(what: str, done: int, total: int) -> None:
    """A line on a terminal's standard error that says how far long work is."""
    if sys.stderr.isatty():
        click.echo(f"\r{what}: {100 * done // max(total, 1)} %", nl=done >= total, err=True)


def source_argument(function: F) -> F:
    """The argument SRC, and `--task`."""
    return click.argument("source", metavar="SRC", type=click.Path(path_type=Path))(task_option(function))


def task_option(function: F) -> F:
    """`--task`, which `load_module` asks for."""
    return click.option(
        "--task",
        metavar="TASK",
        help="What SRC is for, where it does not say (an ONNX file): text-generation, feature-extraction, …",
        callback=lambda ctx, parameter, task: ctx.meta.update({"task": task or ""}),
        expose_value=False,
    )(function)


def load_module(source: Path) -> Module:
    """The module of SRC, for the task that was given. Raises LoadError."""
    from burnish.runtime.doors import load

    return load(source, task=click.get_current_context().meta["task"])


class _TargetName(click.ParamType[str]):
    """A target's name; plugins may add some, so that the choice is made when it is asked for."""

    name = "backend"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return self._choice().convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self._choice().get_metavar(param, ctx)

    def _choice(self) -> click.Choice[str]:
        from burnish.backends.target import TARGETS

        return click.Choice(list(TARGETS))


backend_type = _TargetName()


def backend_option(function: F) -> F:
    """`--backend`."""
    return click.option(
        "--backend",
        type=backend_type,
        default="numpy",
        show_default=True,
        help="numpy starts at once and is the reference; xla compiles first; a plugin may add others.",
    )(function)


def activations_option(function: F) -> F:
    """`--activations`."""
    return click.option(
        "--activations",
        type=click.Choice(["int8", "float"]),
        help="What products with quantized weights take.  [default: int8 where numpy has a kernel, else float]",
    )(function)


def require_kernels_option(function: F) -> F:
    """`--require-kernels`."""
    return click.option(
        "--require-kernels",
        is_flag=True,
        help="Refuse, with the reasons, where a product with quantized weights would be dequantized as a whole.",
    )(function)


def refuse_fallbacks(model: Executable) -> None:
    """What `--require-kernels` does: a usage error that says which products have no kernel, and why."""
    if lines := model.fallbacks():
        some = "\n  ".join(dict.fromkeys(lines))
        raise click.UsageError(f"--require-kernels: {len(lines)} products would run dequantized:\n  {some}")


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(function)


def plugin_option(function: F) -> F:
    """`--plugin FILE`, loaded before the command runs."""
    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        type=click.Path(path_type=Path),
        help="A Python file that defines ops, rules, passes, formats, layouts, kernels, targets, sources, containers, "
        "architectures or heads; may be given several times.",
        callback=_load_plugins,
        is_eager=True,
        expose_value=False,
    )(function)


def _load_plugins(ctx: click.Context, parameter: click.Parameter, files: tuple[Path, ...]) -> tuple[Path, ...]:
    from burnish.runtime.sources import load_plugins

    load_plugins(files)
    ctx.meta["plugins"] = files
    return files
