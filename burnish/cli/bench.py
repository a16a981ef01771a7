"""burnish bench: how fast prefill and decode are, and where the time goes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median

import click

from burnish.cli._options import (
    activations_option,
    backend_option,
    common_options,
    load_module,
    note_choices,
    refuse_fallbacks,
    require_kernels_option,
    source_argument,
    threads_option,
)
from burnish.cli._progress import show_progress


@click.command()
@source_argument
@click.option("--prompt-tokens", metavar="N", type=click.IntRange(1), default=128, show_default=True)
@click.option("--new-tokens", metavar="N", type=click.IntRange(1), default=32, show_default=True)
@click.option(
    "--repeat", metavar="N", type=click.IntRange(1), default=3, show_default=True, help="Runs, after one to warm up."
)
@backend_option
@activations_option
@threads_option
@require_kernels_option
@common_options
def command(
    source: Path,
    prompt_tokens: int,
    new_tokens: int,
    repeat: int,
    backend: str,
    activations: str | None,
    require_kernels: bool,
    as_json: bool,
) -> None:
    """Measure how fast SRC runs, in tokens a second.

    Of prefill and of decode, the median of the runs.

    Where nodes run one by one (NumPy), one more run, with a probe, shows the share of each kind of op.
    """
    import numpy as np

    from burnish.runtime.doors import executable
    from burnish.runtime.profile import TimeShare

    model = executable(load_module(source), backend, activations or "", progress=show_progress)
    if not model.is_generative:
        raise click.UsageError("the model makes no text; bench measures prefill and decode")
    encodes = model.has_encoder  # what reads the prompt, then; the decoder begins with one token
    wanted = new_tokens + (0 if encodes else prompt_tokens)
    if model.context is not None and wanted > model.context:
        raise click.UsageError(
            f"{wanted} tokens do not fit the model's context of {model.context}: lower --prompt-tokens or --new-tokens"
        )
    if require_kernels:
        refuse_fallbacks(model)
    ids = np.ones((1, prompt_tokens), np.int32)
    prefill, decode = [], []
    shares = {"prefill": TimeShare(), "decode": TimeShare()}
    runs = repeat + 1 + model.stateful.has_probes
    for run in range(runs):
        show_progress("runs", run, runs)
        probed = run > repeat  # apart from the timed runs: a probe costs time itself
        probe = shares["prefill"] if probed else None
        started = time.perf_counter()
        state = model.start(1, wanted + encodes, encoder_ids=ids if encodes else None, probe=probe)
        model.prefill(ids[:, :1] if encodes else ids, state, probe=probe)
        middle = time.perf_counter()
        for _ in range(new_tokens):
            model.decode(np.ones(1, np.int32), state, probe=shares["decode"] if probed else None)
        if 0 < run <= repeat:
            prefill.append(middle - started)
            decode.append(time.perf_counter() - middle)
    show_progress("runs", runs, runs)
    numbers = {
        "prefill_tokens_per_s": round(prompt_tokens / median(prefill), 1),
        "decode_tokens_per_s": round(new_tokens / median(decode), 1),
    }
    probed_shares = {k: s for k, s in shares.items() if s.runs}
    notes = note_choices(model)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        click.echo(json.dumps(numbers | {k: s.as_json() for k, s in probed_shares.items()} | {"notes": notes}))
        return
    of = f"median of {repeat}" if repeat > 1 else "one run"
    for phase, tokens in {"prefill": prompt_tokens, "decode": new_tokens}.items():
        click.echo(f"{phase:8} {numbers[f'{phase}_tokens_per_s']:10,.1f} tokens/s  ({tokens} tokens, {of})")
    for phase, share in probed_shares.items():
        click.echo(f"\n{phase}, where the time goes:\n{share.text()}")
