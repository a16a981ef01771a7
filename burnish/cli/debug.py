"""burnish debug: is every pass right, and if not, which application is to blame?"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from burnish.cli import CheckFailed, Inconclusive, json_option, load_module, plugin_option, source_argument

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def command() -> None:
    """Find out which pass, and which of its applications, is wrong."""


def _sample_options(function: F) -> F:
    """SRC, the pipeline, and what the graph is run on."""
    options = [
        source_argument,
        click.option("--pipeline", default="default", show_default=True, help="Passes: a,b{option=value},c."),
        click.option("--inputs", type=click.Path(path_type=Path), help="A .npz file of inputs by name."),
        click.option("--seed", type=int, default=0, show_default=True, help="For inputs and weights that are made up."),
        click.option("--size", "sizes", metavar="NAME=N", multiple=True, help="The size of a symbol: S=64."),
        click.option("--skip", metavar="PASS|ID", multiple=True, help="Skip a pass, or one application by its id."),
        plugin_option,
        json_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@command.command()
@_sample_options
def check(
    source: Path,
    pipeline: str,
    inputs: Path | None,
    seed: int,
    sizes: tuple[str, ...],
    skip: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run a pipeline on SRC pass by pass, and hold each pass to its exactness.

    Exact: the same bits. Rounding: an error against float64 of at most four times the plain graph's. Lossy: reported.
    """
    from burnish.debug.controllers import Skip
    from burnish.runtime.targets import read_pipeline

    passes = read_pipeline(pipeline)
    verdicts = []
    for verdict in _checker(source, inputs, seed, sizes).verdicts(passes, Skip(skip)):
        verdicts.append(verdict)
        if not as_json:
            click.echo(verdict)
    failed = [v for v in verdicts if v.fault is not None]
    if as_json:
        click.echo(json.dumps({"ok": not failed, "passes": [v.as_json() for v in verdicts]}))
    if failed:
        raise CheckFailed(f"{failed[0].pass_text} broke its word")


@command.command()
@_sample_options
@click.pass_context
def bisect(
    ctx: click.Context,
    source: Path,
    pipeline: str,
    inputs: Path | None,
    seed: int,
    sizes: tuple[str, ...],
    skip: tuple[str, ...],
    as_json: bool,
) -> None:
    """Name the applications of a pipeline that make `debug check` fail, and print the good and the bad command."""
    from burnish.debug.bisect import bisect as search
    from burnish.debug.bisect import changes_of, probe_of

    checker = _checker(source, inputs, seed, sizes)
    found = search(probe_of(checker, pipeline, skip))
    commands = _commands(ctx, found.ids)
    changes = changes_of(checker, pipeline, found.ids, skip) if found.ids else {}
    if as_json:
        click.echo(json.dumps(found.as_json() | {"commands": commands, "changes": changes}))
    else:
        click.echo(found)
        for id, text in changes.items():
            click.echo(f"\n{id} changes:\n{text}")
        if found.ids:
            click.echo("\n" + "\n".join(f"{k + ':':12}{v}" for k, v in commands.items()))
    if found.culprits is None:
        raise Inconclusive("")
    if found.culprits or found.pass_text:
        raise CheckFailed("")


def _checker(source: Path, inputs: Path | None, seed: int, sizes: tuple[str, ...]) -> Any:
    """A Checker of SRC on the inputs that were asked for."""
    import numpy as np

    from burnish.debug.check import Checker
    from burnish.debug.numbers import made_up_inputs

    bound = {}
    for item in sizes:
        name, _, number = item.partition("=")
        if not name or not number.isdecimal():
            raise click.UsageError(f"--size {item!r} is not of the form NAME=N")
        bound[name] = int(number)
    module = load_module(source)
    if inputs is None:
        return Checker(module, made_up_inputs(module, seed, bound), seed)
    try:
        with np.load(inputs) as file:  # no pickles
            given = dict(file)
    except (OSError, ValueError) as e:
        raise click.UsageError(f"--inputs {inputs}: {e}") from None
    return Checker(module, given, seed)


def _commands(ctx: click.Context, ids: list[str]) -> dict[str, str]:
    """The same run with and without the culprits, and the graph of each."""
    p = ctx.params
    model = [str(p["source"]), "--pipeline", p["pipeline"]]
    model += ["--task", ctx.meta["task"]] if ctx.meta["task"] else []
    for file in ctx.meta["plugins"]:
        model += ["--plugin", str(file)]
    sample = [x for s in p["sizes"] for x in ("--size", s)]
    sample += ["--seed", str(p["seed"])] if p["seed"] else []
    sample += ["--inputs", str(p["inputs"])] if p["inputs"] else []
    bad = [x for i in p["skip"] for x in ("--skip", i)]
    good = [*bad, *(x for i in ids for x in ("--skip", i))]
    return {
        "good": shlex.join(["burnish", "debug", "check", *model, *sample, *good]),
        "bad": shlex.join(["burnish", "debug", "check", *model, *sample, *bad]),
        "good graph": shlex.join(["burnish", "opt", *model, *good]),
        "bad graph": shlex.join(["burnish", "opt", *model, *bad]),
    }
