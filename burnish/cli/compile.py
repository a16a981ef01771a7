"""burnish compile: import, optimise, do the weight-time work, write a package."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click

from burnish.cli import json_option, load_module, plugin_option, show_progress, source_argument


@click.command()
@source_argument
@click.option(
    "-o", "--out", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="Where the package goes."
)
@click.option(
    "--quantize",
    metavar="FORMAT",
    default="none",
    show_default=True,
    help="For the weights of the blocks: q4_0, q8_0, int8, or what a plugin defines.",
)
@click.option("--lm", metavar="FORMAT", default="", help="For the head.  [default: that of --quantize]")
@click.option("--embedding", metavar="FORMAT", default="none", show_default=True, help="For the table of tokens.")
@click.option(
    "--pipeline", metavar="PASSES", default="default", show_default=True, help="What runs before quantization."
)
@click.option("--force", is_flag=True, help="Replace a package that is there.")
@plugin_option
@json_option
def command(
    source: Path, out: Path, quantize: str, lm: str, embedding: str, pipeline: str, force: bool, as_json: bool
) -> None:
    """Compile SRC into a package: import it, optimise it, quantize it, and write what run time needs.

    `burnish opt --list` shows the passes. The folder appears when it is complete, and not before.
    """
    from burnish.ir.format import FORMATS
    from burnish.passes.pipelines import run_passes
    from burnish.runtime.package import write_package
    from burnish.runtime.sources import tokenizer_of
    from burnish.runtime.targets import read_pipeline

    for format in (quantize, lm, embedding):
        if format not in ("", "none", *FORMATS):
            raise click.UsageError(f"unknown format {format!r}; there are {', '.join(sorted(FORMATS))}")
    passes = pipeline
    if {quantize, lm or "none", embedding} != {"none"}:
        head = f",lm={lm}" if lm else ""
        passes += f",quantize-weights{{format={quantize}{head},embedding={embedding}}}"
    read = read_pipeline(passes)  # before the model is
    context = run_passes(load_module(source), read)
    kept = Counter(r.reason for r in context.remarks if r.reason and r.application.pass_name == "quantize-weights")
    report = write_package(
        context.module,
        out,
        tokenizer=tokenizer_of(source),
        made_by={"pipeline": passes},
        force=force,
        progress=None if as_json else show_progress,
    )
    if as_json:
        click.echo(json.dumps(report.as_json() | {"not_quantized": kept}))
    else:
        click.echo(report.text())
        for reason, count in kept.items():
            click.echo(f"note: {count} weights stay as they are: {reason}", err=True)
