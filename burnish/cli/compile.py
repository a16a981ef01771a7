"""burnish compile: import, optimise, do the weight-time work, write a package."""

from __future__ import annotations

import json
from pathlib import Path

import click

from burnish.cli import json_option, plugin_option, show_progress, source_argument


@click.command()
@source_argument
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The package's folder.")
@click.option("--quantize", default="none", show_default=True, help="A format for the weights of the blocks' products.")
@click.option("--lm", default="", help="A format for the head; that of --quantize unless given.")
@click.option("--embedding", default="none", show_default=True, help="A format for the table of tokens.")
@click.option("--pipeline", default="default", show_default=True, help="The passes to run before quantization.")
@click.option("--force", is_flag=True, help="Replace a package that is there.")
@plugin_option
@json_option
def command(
    source: Path, out: Path, quantize: str, lm: str, embedding: str, pipeline: str, force: bool, as_json: bool
) -> None:
    """Compile SRC into a package."""
    from burnish.ir.format import FORMATS
    from burnish.runtime.doors import load, optimize
    from burnish.runtime.package import write_package
    from burnish.runtime.sources import tokenizer_of

    for format in (quantize, lm, embedding):
        if format not in ("", "none", *FORMATS):
            raise click.UsageError(f"unknown format {format!r}; there are {', '.join(sorted(FORMATS))}")
    passes = pipeline
    if {quantize, lm or "none", embedding} != {"none"}:
        head = f",lm={lm}" if lm else ""
        passes += f",quantize-weights{{format={quantize}{head},embedding={embedding}}}"
    module = optimize(load(source), passes)
    report = write_package(
        module,
        out,
        tokenizer=tokenizer_of(source),
        made_by={"pipeline": passes},
        force=force,
        progress=None if as_json else show_progress,
    )
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        click.echo(report.text())
