"""burnish eval: what formats cost, on held-out text."""

from __future__ import annotations

import json
from pathlib import Path

import click

from burnish.cli._options import (
    backend_option,
    common_options,
    completing,
    format_names,
    load_module,
    source_argument,
    threads_option,
)
from burnish.cli._progress import show_progress


@click.command()
@source_argument
@click.option(
    "--data",
    metavar="FILE.jsonl",
    required=True,
    type=click.Path(path_type=Path),
    help="A line for each document: {text, answers: [[start, end, kind], …]}.",
)
@click.option(
    "--variants",
    default="none,int8,q8_0,q4_0,q4_0/int8",
    show_default=True,
    metavar="A,B,…",
    shell_complete=completing(format_names),
    help="recipe[/activations]",
)
@click.option("--documents", metavar="N", type=click.IntRange(2), help="Only the first N.")
@backend_option
@threads_option
@common_options
def command(source: Path, data: Path, variants: str, documents: int | None, backend: str, as_json: bool) -> None:
    """Measure what quantization costs SRC, on held-out text.

    Loss, divergence and right answers, in several formats.

    A variant is a recipe for the weights, as `burnish compile --quantize` takes it, with /int8 for 8-bit activations.
    The first is what the others are compared with, document by document.
    """
    from burnish.frontends.config import LoadError
    from burnish.passes.pipelines import parse_pipeline
    from burnish.runtime.evaluation import Variant, evaluate_variants, read_documents
    from burnish.runtime.sources import tokenizer_of

    wanted = [Variant.parse(v) for v in variants.split(",")]
    for v in wanted:
        if v.activations not in ("float", "int8"):
            raise click.UsageError(f"cannot read the variant {v}: activations are float or int8")
        parse_pipeline(v.pipeline)
    module = load_module(source)
    tokenizer = tokenizer_of(source)
    if tokenizer is None:
        raise LoadError(f"{source}: eval needs a tokenizer.json beside the model")
    texts = read_documents(data, tokenizer, module.facts.context)[:documents]
    measures = evaluate_variants(module, texts, wanted, backend, show_progress)
    if as_json:
        click.echo(json.dumps({"documents": len(texts), "measures": [m.as_json() for m in measures]}))
        return
    tokens = sum(len(d.ids) for d in texts)
    click.echo(f"{len(texts)} documents, {tokens:,} tokens; loss and KL in nats a token, right answers in %")
    wide = max(len("variant"), *(len(m.variant) for m in measures))
    head = f"{'variant':{wide}}{'MB':>9}{'loss':>9}{'difference':>20}{'KL':>9}"
    click.echo(head + "".join(f"{k + ' right':>12}" for k in measures[0].right))
    for m in measures:
        difference = f"{m.loss_difference.mean:+.5f} ± {m.loss_difference.error:.5f}"
        row = f"{m.variant:{wide}}{m.bytes / 1e6:>9,.2f}{m.loss.mean:>9.5f}{difference:>20}{m.divergence.mean:>9.5f}"
        shares = (f"{100 * e.mean:.1f} ± {100 * e.error:.1f}" for e in m.right.values())
        click.echo(row + "".join(f"{share:>12}" for share in shares))
