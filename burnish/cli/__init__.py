"""The command line: one file a command, each with a click object named `command`; a file here is found by being here.

Exit codes: 0 fine; 1 a check failed, or the culprit was found; 2 usage; 3 a model cannot be loaded or is not
supported; 4 a pass crashed or the verifier refused; 5 inconclusive; 6 a budget was exceeded; 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from burnish import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from burnish.ir.module import Module
    from burnish.runtime.executable import Executable

__all__ = [
    "CheckFailed",
    "Inconclusive",
    "activations_option",
    "backend_option",
    "exit_code",
    "json_option",
    "load_module",
    "main",
    "note_choices",
    "plugin_option",
    "refuse_fallbacks",
    "require_kernels_option",
    "show_progress",
    "source_argument",
    "task_option",
    "threads_option",
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0][:1] != "-" and args[0] not in (known := self.list_commands(ctx)):
            near = difflib.get_close_matches(args[0][:100], known)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known)}"
            ctx.fail(f"there is no command {args[0][:100]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(__path__))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"{__name__}.{name}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
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
        if ctx is not None and ctx.resilient_parsing:  # a shell completes the line: the tables are not needed
            return str(value)
        from burnish.backends.target import TARGETS

        if near := TARGETS.nearest(value) if value not in TARGETS else []:
            self.fail(f"there is no {value!r}; did you mean {', '.join(near)}?", param, ctx)
        return self._choice().convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self._choice().shell_complete(ctx, param, incomplete)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self._choice().get_metavar(param, ctx)

    def _choice(self) -> click.Choice[str]:
        from burnish.backends.target import TARGETS

        return click.Choice(list(TARGETS))


def backend_option(function: F) -> F:
    """`--backend`."""
    return click.option(
        "--backend",
        type=_TargetName(),
        default="numpy",
        show_default=True,
        help="numpy starts at once and is the reference; xla compiles first; a plugin may add others.",
    )(function)


def activations_option(function: F) -> F:
    """`--activations`."""
    return click.option(
        "--activations",
        type=click.Choice(["int8", "float"], case_sensitive=False),
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


def note_choices(model: Executable) -> list[str]:
    """What was chosen that changes a model's numbers, and how to have them as they are."""
    if not (count := model.rounded_products):
        return []
    take = "1 product takes its input" if count == 1 else f"{count} products take their inputs"
    return [f"{take} in int8, for which {model.backend_name} has kernels; --activations float rounds none"]


def threads_option(function: F) -> F:
    """`--threads`."""
    return click.option(
        "-t",
        "--threads",
        metavar="N",
        type=click.IntRange(1, 1024),
        help="Threads of the kernels, of BLAS and of XLA.  [default: the cores that the process may use]",
        callback=_set_threads,
        is_eager=True,
        expose_value=False,
    )(function)


def _set_threads(ctx: click.Context, parameter: click.Parameter, threads: int | None) -> None:
    """BLAS and XLA read the environment when they are loaded; until here, nothing has loaded them."""
    if threads is None:
        return
    if "numpy" in sys.modules:
        raise click.UsageError("--threads comes too late, NumPy is loaded: give it before --plugin")
    names = "BURNISH_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS OMP_NUM_THREADS VECLIB_MAXIMUM_THREADS NPROC"
    os.environ.update(dict.fromkeys(names.split(), str(threads)))


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
    if files:
        from burnish.runtime.sources import load_plugins

        load_plugins(files)
    ctx.meta["plugins"] = files
    return files
