"""What several commands have in common: the argument SRC, options, and what they are for."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from burnish.cli._progress import show_progress

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from burnish.ir.module import Module
    from burnish.runtime.executable import Executable

__all__ = [
    "activations_option",
    "backend_option",
    "backend_type",
    "common_options",
    "completing",
    "format_names",
    "load_module",
    "note_choices",
    "pass_names",
    "pipeline_names",
    "pipeline_option",
    "refuse_fallbacks",
    "require_kernels_option",
    "skip_option",
    "source_argument",
    "threads_option",
    "verify_option",
]

F = TypeVar("F", bound=Callable[..., Any])


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
        shell_complete=completing(_tasks),
        help="What SRC is for, where it does not say (an ONNX file): text-generation, feature-extraction, …",
        callback=_keep_task,
        expose_value=False,
    )(function)


def _keep_task(ctx: click.Context, parameter: click.Parameter, task: str | None) -> None:
    if task and task not in _tasks():
        raise click.UsageError(f"--task is one of {', '.join(_tasks())}, not {task!r}")
    ctx.meta["task"] = task or ""


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
    ctx.meta["budget"] = size or ""
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
    module = load(source, task=meta["task"], verify=(verify := meta.get("verify", False)), progress=show_progress)
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


def _tasks() -> Iterable[str]:
    """What a model may be for."""
    from burnish.ir.signature import TASKS

    return TASKS


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
        help="What products with quantized weights take.  [default: int8 where a CPU has a kernel, else float]",
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
