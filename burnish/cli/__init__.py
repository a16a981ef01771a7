"""The command line: one file a command, each with a click object named `command`; a file here is found by being here.

Exit codes: 0 fine; 1 a check failed, the culprit was found, or results are not finite; 2 usage; 3 a model cannot be
loaded, is damaged or not supported, or a weight not quantized; 4 a pass or a plugin crashed, or the verifier refused; 5
inconclusive; 6 a budget or memory was exceeded; 70 a fault of ours; 130 interrupted; 143 terminated. With BURNISH_DEBUG
set, errors come with their traceback.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import pkgutil
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from burnish import __version__
from burnish.cli._progress import show_progress, stop_progress

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from burnish.ir.module import Module
    from burnish.runtime.executable import Executable

__all__ = [
    "CheckFailed",
    "Group",
    "Inconclusive",
    "Terminated",
    "activations_option",
    "backend_option",
    "backend_type",
    "common_options",
    "completing",
    "exit_code",
    "format_names",
    "load_module",
    "main",
    "note_choices",
    "pass_names",
    "pipeline_names",
    "pipeline_option",
    "refuse_fallbacks",
    "require_kernels_option",
    "show_progress",
    "skip_option",
    "source_argument",
    "stop_progress",
    "threads_option",
    "verify_option",
]

F = TypeVar("F", bound=Callable[..., Any])


class CheckFailed(Exception):
    """A check failed, or a culprit was found; the report is printed already. Exit code 1."""


class Inconclusive(Exception):
    """No verdict could be reached. Exit code 5."""


class Terminated(BaseException):
    """Somebody ended this process. Exit code 143, once what is half-written is gone."""


FAULT = 70  # the exit code of a fault of ours
_ENDED = (KeyboardInterrupt, click.Abort, Terminated)  # by somebody: what was being imported is half there


def exit_code(error: BaseException) -> int | None:
    """The documented exit code of an error that is the user's to mend, or None for a fault of ours."""
    if isinstance(error, _ENDED):
        return 143 if isinstance(error, Terminated) else 130
    from burnish.backends.binding import BindError
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
        (Inconclusive, 5),
        (BudgetError, 6),
        (MemoryError, 6),
        (OSError, 2),  # a model's files that cannot be read are LoadErrors: this is a file that cannot be written
    ]
    code = next((code for cls, code in table if isinstance(error, cls)), None)
    return 4 if code is None and line_in_plugin(error) else code


def _message(error: BaseException) -> str:
    """What is printed of an error: one message, with the place where a plugin or we are to blame."""
    if isinstance(error, _ENDED):
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
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))

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
        if message := _message(error):
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


def source_argument(function: F) -> F:
    """The argument SRC."""
    return click.argument("source", metavar="SRC", type=click.Path(path_type=Path))(function)


def common_options(function: F) -> F:
    """What every command takes, below its own options: `--task`, `--budget`, `--plugin`, `--json`."""
    return _task_option(_budget_option(_plugin_option(_json_option(function))))


def _task_option(function: F) -> F:
    """`--task`, which `load_module` asks for."""
    return click.option(
        "--task",
        metavar="TASK",
        help="What SRC is for, where it does not say (an ONNX file): text-generation, feature-extraction, …",
        callback=lambda ctx, parameter, task: ctx.meta.update({"task": task or ""}),
        expose_value=False,
    )(function)


def _budget_option(function: F) -> F:
    """`--budget`: a limit for all that the command computes of weights and constants, and holds."""
    return click.option(
        "--budget",
        metavar="SIZE",
        help="Bytes (500M, 10G) that may be computed of weights alone, written, or held at once.  [default: 64 times "
        "SRC's or 256M, the free disk, the memory]",
        callback=_allow,
        expose_value=False,
    )(function)


def _allow(ctx: click.Context, parameter: click.Parameter, size: str | None) -> None:
    if size is not None:
        from burnish.ir.budget import allowing, read_size

        try:
            ctx.with_resource(allowing(read_size(size)))
        except ValueError as e:
            raise click.UsageError(f"--budget: {e}") from None


def verify_option(function: F) -> F:
    """`--verify`, which `load_module` heeds."""
    return click.option(
        "--verify",
        is_flag=True,
        help="Read all of a package's weights first, and compare them with its digests.",
        callback=lambda ctx, parameter, verify: ctx.meta.update({"verify": verify}),
        expose_value=False,
    )(function)


def load_module(source: Path) -> Module:
    """The module of SRC, for the task that was given, verified where that was asked for. Raises LoadError."""
    from burnish.runtime.doors import load

    meta = click.get_current_context().meta
    show_progress("loading", 0, 0)
    module = load(source, task=meta["task"], verify=(verify := meta.get("verify", False)))
    show_progress("loading", 1, 1)
    if verify and not getattr(module.source, "digests", {}):
        click.echo(f"note: --verify: {source} has no digests of its weights; a package has", err=True)
    return module


def pipeline_option(function: F) -> F:
    """`--pipeline`."""
    return click.option(
        "--pipeline",
        metavar="PASSES",
        default="default",
        show_default=True,
        shell_complete=completing(pipeline_names),
        help="Passes and pipelines: a,b{option=value},c.",
    )(function)


def skip_option(function: F) -> F:
    """`--skip`, several times."""
    return click.option(
        "--skip",
        metavar="PASS|ID",
        multiple=True,
        shell_complete=completing(pass_names),
        help="Skip a pass, or one application by its id.",
    )(function)


def completing(names: Callable[[], Iterable[str]]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """For `shell_complete`: goes on with one of the names; in a list or a recipe, behind the last separator."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        last = re.split("[,;=|]", incomplete)[-1]
        before = incomplete.removesuffix(last)
        return [before + name for name in sorted(names()) if name.startswith(last)]

    return complete


def format_names() -> list[str]:
    """Of the formats that weights are quantized to."""
    from burnish.ir.format import FORMATS

    return [name for name, format in FORMATS.items() if format.is_made]


def pass_names() -> list[str]:
    """Of the passes."""
    import burnish.runtime.targets  # noqa: F401  # registers them
    from burnish.passes.engine import PASSES

    return list(PASSES)


def pipeline_names() -> list[str]:
    """Of what a pipeline is made of: passes and pipelines."""
    from burnish.runtime.targets import named_pipelines

    return [*pass_names(), *named_pipelines()]


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


def _json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(function)


def _plugin_option(function: F) -> F:
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
