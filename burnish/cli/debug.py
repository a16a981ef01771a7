"""burnish debug: is every pass right, and if not, which application is to blame?"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from burnish.cli import Group
from burnish.cli._errors import CheckFailed, Inconclusive
from burnish.cli._options import (
    backend_type,
    common_options,
    load_module,
    pipeline_option,
    skip_option,
    source_argument,
)
from burnish.cli._progress import show_progress

if TYPE_CHECKING:
    from burnish.debug.check import Checker

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=Group)
def command() -> None:
    """Find which pass, and which of its applications, is wrong."""


@dataclass(frozen=True)
class _Sample:
    """SRC, the pipeline, and what the model is given to read."""

    source: Path
    pipeline: str
    inputs: Path | None
    seed: int
    sizes: tuple[str, ...]
    skip: tuple[str, ...]
    backend: str | None

    def checker(self) -> Checker:
        """A Checker of SRC on the inputs that were asked for."""
        from burnish.debug.check import Checker

        sizes = _sizes(self.sizes)
        if self.inputs is not None and sizes:
            raise click.UsageError("--size is for inputs that are made up: leave it out beside --inputs")
        given = None if self.inputs is None else _arrays(self.inputs)
        return Checker(load_module(self.source), given, self.seed, sizes, self.backend or "")

    def arguments(self, ctx: click.Context) -> tuple[list[str], list[str]]:
        """What makes the graph, and what it reads, as the command line has them."""
        model = [str(self.source), "--pipeline", self.pipeline]
        model += ["--task", ctx.meta["task"]] if ctx.meta["task"] else []
        for file in ctx.meta["plugins"]:
            model += ["--plugin", str(file)]
        sample = [x for s in self.sizes for x in ("--size", s)]
        sample += ["--seed", str(self.seed)] if self.seed else []
        sample += ["--inputs", str(self.inputs)] if self.inputs else []
        sample += ["--backend", self.backend] if self.backend else []
        return model, sample


def _sample_options(function: F) -> F:
    """The options that say what is checked."""
    options = [
        source_argument,
        pipeline_option,
        click.option("--backend", type=backend_type, help="Judge also what this backend makes of the graph."),
        click.option("--inputs", type=click.Path(path_type=Path), help="A .npz file of inputs by name."),
        click.option(
            "--seed", type=click.IntRange(0), default=0, show_default=True, help="For tokens and weights made up."
        ),
        click.option("--size", "sizes", metavar="NAME=N", multiple=True, help="The size of a symbol: S=64."),
        skip_option,
        common_options,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@command.command()
@_sample_options
def check(as_json: bool, **options: Any) -> None:
    """Run passes on SRC, and hold each to its exactness.

    After each pass, SRC reads made-up tokens: one, sequences of different lengths, a long one; where it is stateful, in
    steps. Exact: the same bits. Rounding: an error against float64 of at most four times the plain graph's. Lossy: each
    tensor within what its format rounds, and all else right.
    """
    from burnish.debug.controllers import Skip

    sample = _Sample(**options)
    checker = sample.checker()
    passes, skipping, verdicts = checker.passes(sample.pipeline), Skip(sample.skip), []
    for verdict in checker.verdicts(passes, skipping, by_block=True):
        verdicts.append(verdict)
        if not as_json:
            click.echo(verdict)
    failed = [v for v in verdicts if v.fault is not None]
    judged = sum(not v.backend for v in verdicts)
    if as_json:
        report = {"ok": not failed, "passes": [v.as_json() for v in verdicts]}
        report |= {"readings": [r.name for r in checker.readings], "not judged": [str(p) for p in passes[judged:]]}
        click.echo(json.dumps(report))
    elif judged < len(passes):
        click.echo(f"not judged, for nothing runs after that: {', '.join(map(str, passes[judged:]))}")
    _note_unmet(skipping.used, sample.skip)
    if failed:
        raise CheckFailed(f"{failed[0].pass_text} broke its word")


@command.command()
@_sample_options
@click.pass_context
def bisect(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Name what makes `debug check` fail.

    It is the applications of the pipeline that are to blame, a pass that changed the graph behind the engine's back, or
    an op that a backend computes wrongly; the commands that show it are printed. Interrupted, it tells what it knows.
    """
    from burnish.debug.bisect import bisect_pipeline, changes_of
    from burnish.debug.controllers import Skip

    sample = _Sample(**options)
    checker, skipping = sample.checker(), Skip(sample.skip)
    found = bisect_pipeline(checker, sample.pipeline, skipping, show_progress)
    commands = _commands(sample.arguments(ctx), sample.skip, found.ids)
    shown = {a.id for c in found.culprits or () for a in (c.applications if c.together else c.applications[:1])}
    changes = changes_of(checker, sample.pipeline, shown, sample.skip) if shown else {}
    if as_json:
        click.echo(json.dumps(found.as_json() | {"commands": commands, "changes": changes}))
    else:
        click.echo(found)
        for id, text in changes.items():
            click.echo(f"\n{id} changes:\n{text}")
        if found.ids:
            click.echo("\nto see it:\n" + "\n".join(f"  {k + ':':12}{v}" for k, v in commands.items()))
        elif found.fault is not None:
            click.echo(f"\nto see it:\n  {commands['bad']}")
    _note_unmet(skipping.used, sample.skip)
    if found.interrupted:
        raise KeyboardInterrupt
    if found.culprits is None:
        raise Inconclusive("")
    if found.is_found:
        raise CheckFailed("")


def _note_unmet(used: set[str], skip: tuple[str, ...]) -> None:
    if unmet := sorted(set(skip) - used):
        click.echo(f"note: --skip {', '.join(unmet)}: no such pass or application asked to be applied", err=True)


def _sizes(items: tuple[str, ...]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for item in items:
        name, _, number = item.partition("=")
        if not name or not (number.isascii() and number.isdecimal() and len(number) < 20):
            raise click.UsageError(f"--size {item!r} is not of the form NAME=N")
        if sizes.setdefault(name, int(number)) != int(number):
            raise click.UsageError(f"--size says both {name}={sizes[name]} and {name}={int(number)}")
    return sizes


def _arrays(file: Path) -> dict[str, Any]:
    """The arrays of an .npz file. Raises UsageError."""
    import zipfile
    import zlib

    import numpy as np

    try:
        with file.open("rb") as opened:
            arrays = np.load(opened)  # no pickles
            if not isinstance(arrays, np.ndarray):
                return dict(arrays)
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, MemoryError) as e:
        raise click.UsageError(f"--inputs {file}: cannot be read as an .npz file: {e}") from None
    raise click.UsageError(f"--inputs {file}: one array without a name; give an .npz file of arrays by name")


def _commands(arguments: tuple[list[str], list[str]], skip: tuple[str, ...], ids: list[str]) -> dict[str, str]:
    """The same run with and without the culprits, and the graph of each."""
    model, sample = arguments
    bad = [x for i in skip for x in ("--skip", i)]
    good = [*bad, *(x for i in ids for x in ("--skip", i))]
    return {
        "bad": shlex.join(["burnish", "debug", "check", *model, *sample, *bad]),
        "good": shlex.join(["burnish", "debug", "check", *model, *sample, *good]),
        "bad graph": shlex.join(["burnish", "opt", *model, *bad]),
        "good graph": shlex.join(["burnish", "opt", *model, *good]),
    }
