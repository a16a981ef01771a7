"""burnish bench: how fast prefill and decode are, and where the time goes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median

import click
import numpy as np

from burnish.cli import json_option, plugin_option, source_argument


@click.command()
@source_argument
@click.option("--backend", type=click.Choice(["numpy", "xla"]), default="numpy", show_default=True)
@click.option("--activations", type=click.Choice(["int8", "float"]), help="For products with quantized weights.")
@click.option("--prompt-tokens", type=click.IntRange(1), default=128, show_default=True)
@click.option("--new-tokens", type=click.IntRange(1), default=32, show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Runs after one to warm up.")
@plugin_option
@json_option
def command(
    source: Path,
    backend: str,
    activations: str | None,
    prompt_tokens: int,
    new_tokens: int,
    repeat: int,
    as_json: bool,
) -> None:
    """Measure SRC: tokens a second in prefill and decode (medians), and on NumPy each kind of op's share."""
    from burnish.runtime.doors import executable, load, optimize
    from burnish.runtime.profile import TimeShare
    from burnish.runtime.sources import kind_of

    module = load(source)
    if kind_of(source) != "package":
        module = optimize(module)
    model = executable(module, backend, activations or "")
    if not model.is_generative:
        raise click.UsageError("the model makes no text; bench measures prefill and decode")
    ids = np.ones((1, prompt_tokens), np.int32)
    prefill, decode = [], []
    shares = {"prefill": TimeShare(), "decode": TimeShare()}
    for run in range(repeat + 1 + (backend == "numpy")):
        probed = run > repeat  # apart from the timed runs: a probe costs time itself
        if "encoder" in module.graphs:
            state = model.start(1, prompt_tokens + new_tokens, encoder_ids=ids)
        else:
            state = model.start(1, prompt_tokens + new_tokens)
        started = time.perf_counter()
        model.prefill(ids, state, probe=shares["prefill"] if probed else None)
        middle = time.perf_counter()
        for _ in range(new_tokens):
            model.decode(np.ones(1, np.int32), state, probe=shares["decode"] if probed else None)
        if 0 < run <= repeat:
            prefill.append(middle - started)
            decode.append(time.perf_counter() - middle)
    numbers = {
        "prefill_tokens_per_s": round(prompt_tokens / median(prefill), 1),
        "decode_tokens_per_s": round(new_tokens / median(decode), 1),
    }
    probed_shares = {k: s for k, s in shares.items() if s.runs}
    if as_json:
        click.echo(json.dumps(numbers | {k: s.as_json() for k, s in probed_shares.items()}))
        return
    click.echo("\n".join(f"{k}: {v}" for k, v in numbers.items()))
    for phase, share in probed_shares.items():
        click.echo(f"\n{phase}:\n{share.text()}")
