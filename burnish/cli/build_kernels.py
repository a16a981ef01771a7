"""burnish build-kernels: machine code, ahead of its first use."""

from __future__ import annotations

import json
from pathlib import Path

import click

from burnish.cli._options import common_options
from burnish.cli._progress import show_progress

CPUS = ("avx512_vnni", "avx2", "all")  # not asked of the backends: `--help` loads none


@click.command()
@click.option(
    "--cpu", type=click.Choice(CPUS), help="The instructions that it uses.  [default: the best that run here]"
)
@click.option(
    "-o", "--out", metavar="FOLDER", type=click.Path(path_type=Path), help="Where it goes.  [default: the user's cache]"
)
@common_options
def command(cpu: str | None, out: Path | None, as_json: bool) -> None:
    """Build the machine code of all kernels.

    What is there already is built too. Code that is missing is built at its first use: this is for those who change
    kernels, for machines without Numba (on one that has it, into a folder), and for wheels. It builds for other
    processors too.
    """
    from burnish.backends.native.code import build_all
    from burnish.backends.native.cpu import INSTRUCTION_SETS, instruction_set

    best = instruction_set()
    if cpu is None and best is None:
        raise click.UsageError("no machine code runs here; say with --cpu what to build it for")
    wanted = [s for s in INSTRUCTION_SETS if cpu in (s.name, "all") or (cpu is None and s is best)]
    images = [image for isa in wanted for image in build_all(isa, out, show_progress)]
    if as_json:
        rows = [{"unit": i.unit, "cpu": i.cpu, "bytes": i.size, "file": str(i.file)} for i in images]
        click.echo(json.dumps({"images": rows}))
        return
    for i in images:
        click.echo(f"{i.cpu:12} {i.unit:24} {i.size:>8,} bytes")
    click.echo(f"{len(images)} images, {sum(i.size for i in images):,} bytes, in {images[0].file.parent.parent}")
