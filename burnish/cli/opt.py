"""burnish opt: passes on a graph, text out."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import click

from burnish.cli import budget_option, json_option, load_module, plugin_option, task_option


@click.command()
@click.argument("source", metavar="[SRC]", required=False, type=click.Path(path_type=Path))
@click.option("--pipeline", default="default", show_default=True, help="Passes and pipelines: a,b{option=value},c.")
@click.option("--list", "list_", is_flag=True, help="List the passes, and the pipelines with their reasons.")
@click.option("--stop-after", metavar="PASS", help="Leave out what follows the first PASS.")
@click.option("--skip", metavar="PASS|ID", multiple=True, help="Skip a pass, or one application by its id.")
@click.option("--fuel", metavar="N", type=click.IntRange(0), help="Apply the first N applications only.")
@click.option("--print-after-change", is_flag=True, help="Print each application as a diff, to standard error.")
@click.option("--remarks", is_flag=True, help="Print what was applied where, and why not elsewhere, to standard error.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write the graph to FILE.")
@task_option
@budget_option
@plugin_option
@json_option
def command(
    source: Path | None,
    pipeline: str,
    list_: bool,
    stop_after: str | None,
    skip: tuple[str, ...],
    fuel: int | None,
    print_after_change: bool,
    remarks: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Run passes on SRC and print the graph."""
    if list_:
        click.echo(json.dumps(_listing()) if as_json else _listing_text())
        return
    if source is None:
        raise click.UsageError("give SRC, or --list")
    from burnish.debug.controllers import All, Fuel, PrintChanges, Skip, graphs_text
    from burnish.passes.engine import Application, Context
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
    changes: dict[str, str] = {}

    def tell(application: Application, text: str) -> None:
        changes[application.id] = text
        if not as_json:
            click.echo(f"{application}\n{text}\n", err=True)

    if print_after_change:
        context.observers = [PrintChanges(tell, graphs_text(module))]
    for pass_ in passes:
        context.run(pass_)
    if remarks and not as_json:
        for remark in context.remarks:
            click.echo(remark, err=True)
    if unmet := sorted(set(skip) - skipping.used):
        click.echo(f"note: --skip {', '.join(unmet)}: no such pass or application asked to be applied", err=True)
    if out is not None:
        out.write_text(str(module), "utf-8")
    if as_json:
        report: dict[str, Any] = {"pipeline": [str(p) for p in passes]}
        report["applied"] = [a.as_json() for a in context.applied]
        if remarks:
            report["refused"] = [r.application.as_json() | {"reason": r.reason} for r in context.remarks if r.reason]
        if print_after_change:
            report["changes"] = changes
        if out is None:
            report["module"] = str(module)
        click.echo(json.dumps(report))
    elif out is None:
        click.echo(str(module), nl=False)


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
