"""burnish compile: import, optimise, do the weight-time work, write a package."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from burnish.cli._options import common_options, completing, format_names, load_module, pipeline_names, source_argument
from burnish.cli._progress import show_progress

if TYPE_CHECKING:
    from burnish.passes.engine import Application


@click.command()
@source_argument
@click.option(
    "-o", "--out", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="Where the package goes."
)
@click.option(
    "--quantize",
    metavar="RECIPE",
    default="none",
    show_default=True,
    shell_complete=completing(format_names),
    help="A format for the weights of products (q4_0, q8_0, int8, a plugin's), or rules: '*.v_proj=q8_0;lm=none;q4_0'.",
)
@click.option(
    "--pipeline",
    metavar="PASSES",
    shell_complete=completing(pipeline_names),
    help="All passes to run, instead.  [default: default]",
)
@click.option("--force", is_flag=True, help="Replace a package that is there.")
@common_options
def command(source: Path, out: Path, quantize: str, pipeline: str | None, force: bool, as_json: bool) -> None:
    """Compile SRC into a package, quantized if you like.

    SRC is imported, optimised and quantized, and what run time needs is written.

    A recipe's rules are names=format, of which the first that fits decides. Names are a glob over module paths, or lm
    (the head), embedding (tables of tokens), router; none leaves a weight as it is; of q4_0|int8 the first that fits
    its width is taken. --quantize RECIPE is short for --pipeline 'recover,quantize-weights{recipe=RECIPE},fuse';
    `burnish opt --list` shows the passes. The folder appears when it is complete, and not before.
    """
    from burnish.passes.pipelines import quantized, run_passes
    from burnish.runtime.inspection import products_of
    from burnish.runtime.package import check_apart, write_package
    from burnish.runtime.parts import Plan
    from burnish.runtime.progress import PassesDone
    from burnish.runtime.sources import tokenizer_of
    from burnish.runtime.targets import read_pipeline

    if pipeline is not None and quantize != "none":
        raise click.UsageError("--quantize and --pipeline: put quantize-weights{recipe=…} into the pipeline")
    check_apart(source, out)
    passes = quantized(quantize) if pipeline is None else pipeline
    read = read_pipeline(passes)  # before the model is
    module = load_module(source)
    before = Plan.of(module).tensors_by_type
    context = run_passes(module, read, observers=[PassesDone(read, show_progress)])
    kept: dict[str, list[Application]] = {}
    for remark in context.remarks:
        if remark.reason and remark.application.pass_name == "quantize-weights":
            kept.setdefault(remark.reason, []).append(remark.application)
    after, products = Plan.of(module).tensors_by_type, products_of(module)
    report = write_package(
        module,
        out,
        tokenizer=(tokenizer := tokenizer_of(source)),
        made_by={"pipeline": passes},
        force=force,
        progress=show_progress,
    )
    if as_json:
        counts = {reason: len(found) for reason, found in kept.items()}
        how = {"products": [asdict(p) for p in products or ()], "not_quantized": counts}
        click.echo(json.dumps(report.as_json() | {"before": before, "after": after} | how))
        return
    click.echo(report.text())
    click.echo(_sizes(before, after))
    for p in products or ():
        if p.dequantized:
            click.echo(f"  smaller, not faster on numpy: {p.count} {p.op} with {p.weight} ({p.dequantized})")
    for reason, found in kept.items():
        stay = f"{found[0].scope} stays as it is" if len(found) == 1 else f"{len(found)} weights stay as they are"
        click.echo(f"note: {stay}: {reason}", err=True)
    asks = "--prompt '…'" if tokenizer is not None else "--prompt-ids 1,2,3"
    click.echo(f"next: burnish run {shlex.quote(str(out))} {asks}")


def _sizes(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> str:
    """What there was and what there is, of each element type: (tensors, bytes)."""

    def line(label: str, types: Mapping[str, tuple[int, int]], share: str = "") -> str:
        each = ", ".join(f"{size:,} in {count} {dtype}" for dtype, (count, size) in types.items())
        whole = sum(size for _, size in types.values())
        return f"  {label:7} {whole:,} bytes{share}: {each if len(types) > 1 else each.partition(' in ')[2]}"

    was, is_ = (sum(size for _, size in types.values()) for types in (before, after))
    return f"{line('before:', before)}\n{line('after:', after, f', {100 * is_ / max(was, 1):.0f} %')}"
