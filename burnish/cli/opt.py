"""burnish opt: passes on a graph, text out."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from burnish.cli._options import common_options, completing, load_module, pass_names, pipeline_option, skip_option
from burnish.cli._progress import show_progress

if TYPE_CHECKING:
    from burnish.passes.engine import Application, Context, Pass, Remark


_WIDEST = 240  # characters of a statement that is told: a signature may have thousands


@click.command()
@click.argument("source", metavar="[SRC]", required=False, type=click.Path(path_type=Path))
@pipeline_option
@click.option("--list", "list_", is_flag=True, help="List the passes, and the pipelines with their reasons.")
@click.option(
    "--stop-after",
    metavar="PASS",
    shell_complete=completing(pass_names),
    help="Leave out what follows the first PASS.",
)
@skip_option
@click.option("--fuel", metavar="N", type=click.IntRange(0), help="Apply the first N applications only.")
@click.option("--print-after-change", is_flag=True, help="Print what each application changed, to standard error.")
@click.option("--remarks", is_flag=True, help="Print what was applied where, and why not elsewhere, to standard error.")
@click.option("--provenance", is_flag=True, help="Say where each statement comes from: in changes, and on a terminal.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the graph to FILE.")
@common_options
def command(
    source: Path | None,
    pipeline: str,
    list_: bool,
    stop_after: str | None,
    skip: tuple[str, ...],
    fuel: int | None,
    print_after_change: bool,
    remarks: bool,
    provenance: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run passes on SRC, and print the graph.

    What the passes did goes to standard error. What is written to FILE or into a pipe says where each statement comes
    from, so that passes can go on from it. With --json, layers that change alike are not told as one.
    """
    if list_:
        click.echo(json.dumps(_listing()) if as_json else _listing_text())
        return
    if source is None:
        raise click.UsageError("give SRC, or --list")
    from burnish.debug.controllers import All, Fuel, PrintChanges, Skip
    from burnish.ir.text import module_text
    from burnish.passes.engine import Context
    from burnish.runtime.progress import PassesDone
    from burnish.runtime.replace_folder import replace_file
    from burnish.runtime.targets import read_pipeline

    passes = read_pipeline(pipeline)
    if stop_after is not None:
        names = [p.name for p in passes]
        if stop_after not in names:
            raise click.UsageError(f"--stop-after {stop_after}: the pipeline is {', '.join(names)}")
        passes = passes[: names.index(stop_after) + 1]
    module = load_module(source)
    skipping = Skip(skip)
    context = Context(module, All([skipping] if fuel is None else [skipping, Fuel(fuel)]))
    changes: list[tuple[Application, str]] = []
    if print_after_change:
        observer = PrintChanges(lambda a, text: changes.append((a, text)), module, provenance=provenance or as_json)
        context.observers = [observer]
    summary = _Summary(context)
    context.observers = [*context.observers, PassesDone(passes, show_progress)]
    told = 0
    for pass_ in passes:
        try:
            summary.run(pass_)
        finally:
            if not as_json:
                _print_changes(changes[told:])
            told = len(changes)
    if remarks and not as_json:
        _print_remarks(context.remarks)
    if not as_json and (remarks or print_after_change or sys.stderr.isatty()):
        click.echo(summary.text(), err=True)
    if unmet := sorted(set(skip) - skipping.used):
        click.echo(f"note: --skip {', '.join(unmet)}: no such pass or application asked to be applied", err=True)
    if out is not None:
        with replace_file(out) as file:
            file.write(str(module).encode())
    if as_json:
        report: dict[str, Any] = {"pipeline": [str(p) for p in passes]}
        report["applied"] = [a.as_json() for a in context.applied]
        report["passes"] = summary.as_json()
        if remarks:
            report["refused"] = [r.application.as_json() | {"reason": r.reason} for r in context.remarks if r.reason]
        if print_after_change:
            report["changes"] = {a.id: text for a, text in changes}
        if out is None:
            report["module"] = str(module)
        click.echo(json.dumps(report))
    elif out is None:
        click.echo(module_text(module, provenance or not sys.stdout.isatty()), nl=False)


def _print_changes(changes: list[tuple[Application, str]]) -> None:
    """Those of one pass; layers that change alike are told once. In colours, on a terminal."""
    from burnish.debug.folding import fold_changes

    context = click.get_current_context()
    context.color = False if os.environ.get("NO_COLOR") else context.color
    for application, text in fold_changes(changes):
        click.secho(application, err=True, bold=True)
        for line in text.splitlines():
            more = f" … ({len(line) - _WIDEST:,} more characters)" if len(line) > _WIDEST else ""
            click.secho(line[:_WIDEST] + more, err=True, fg={"-": "red", "+": "green"}.get(line[:1]))
        click.echo(err=True)


def _print_remarks(remarks: list[Remark]) -> None:
    """No wider than the terminal."""
    from burnish.debug.folding import fold_remarks

    width = min(shutil.get_terminal_size().columns, 100)
    wrap = textwrap.TextWrapper(width, subsequent_indent=" " * 13, break_on_hyphens=False, break_long_words=False).fill
    for title, lines in zip(("applied:", "not applied:"), fold_remarks(remarks), strict=True):
        if lines:
            wrapped = [wrap(piece) for line in lines for piece in f"  {line}".splitlines()]
            click.echo("\n".join([title, *wrapped]) + "\n", err=True)


@dataclass
class _Summary:
    """What each pass applied, the nodes before and after it, and its seconds."""

    context: Context
    rows: list[tuple[Pass, int, int, int, float]] = field(default_factory=list)

    def run(self, pass_: Pass) -> None:
        before, applied, started = self._nodes(), len(self.context.applied), time.perf_counter()
        self.context.run(pass_)
        seconds = time.perf_counter() - started
        self.rows.append((pass_, len(self.context.applied) - applied, before, self._nodes(), seconds))

    def _nodes(self) -> int:
        return sum(not node.is_leaf for graph in self.context.module.every_graph for node in graph)

    def as_json(self) -> list[dict[str, Any]]:
        keys = ("pass", "applied", "nodes_before", "nodes_after", "seconds")
        return [dict(zip(keys, (str(row[0]), *row[1:4], round(row[4], 6)), strict=True)) for row in self.rows]

    def text(self) -> str:
        """A row for each pass that applied something, one for the others, one for all."""
        form = "{:40}{:>9}{:>7} -> {:<6}{:>8.1f}".format
        lines = [f"{'pass':40}{'applied':>9}{'nodes':>7}    {'':6}{'ms':>8}"]
        lines += [form(str(p), n, before, after, 1e3 * s) for p, n, before, after, s in self.rows if n]
        if idle := [row[4] for row in self.rows if not row[1]]:
            lines.append(f"{f'{len(idle)} that found nothing':40}{'':26}{1e3 * sum(idle):>8.1f}")
        if len(self.rows) > 1:
            whole = sum(row[1] for row in self.rows), self.rows[0][2], self.rows[-1][3]
            lines.append(form("in all", *whole, 1e3 * sum(row[4] for row in self.rows)))
        return "\n".join(lines)


def _listing() -> dict[str, Any]:
    from burnish.passes.engine import PASSES
    from burnish.runtime.targets import named_pipelines

    passes = {
        name: {
            "exactness": cls.exactness,
            "does": inspect.cleandoc(cls.__doc__ or ""),
            "rules": {r.__name__: inspect.cleandoc(r.__doc__ or "") for r in cls.rules},
        }
        for name, cls in sorted(PASSES.items())
    }
    pipelines = {k: [{"pass": p, "reason": r} for p, r in entries] for k, entries in named_pipelines().items()}
    return {"passes": passes, "pipelines": pipelines}


def _listing_text() -> str:
    listing = _listing()
    lines = ["passes:"]
    for name, p in listing["passes"].items():
        lines.append(f"  {name} ({p['exactness']})")
        lines += [f"      {line}" for line in p["does"].splitlines() if line]
        lines += [f"      - {rule}: {does.splitlines()[0]}" for rule, does in p["rules"].items()]
    lines.append("pipelines:")
    for name, entries in listing["pipelines"].items():
        lines.append(f"  {name}")
        lines += [f"      {e['pass']:24} {e['reason']}".rstrip() for e in entries]
    return "\n".join(lines)
