"""burnish run: text or ids in, text, ids or an embedding out."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from burnish.cli import json_option, plugin_option, source_argument


@click.command()
@source_argument
@click.option("--prompt", help="The text to go on from (for an encoder, to embed).")
@click.option("--prompt-ids", help="Token ids in its place: 1,2,3.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=128, show_default=True)
@click.option("--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0 takes the likeliest.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--backend", type=click.Choice(["numpy", "xla"]), default="numpy", show_default=True)
@click.option("--activations", type=click.Choice(["int8", "float"]), help="For products with quantized weights.")
@click.option("--dump-logits", type=click.Path(path_type=Path), help="Write the logits, f32[tokens, V], to FILE.npy.")
@click.option("--stats", is_flag=True, help="Print times, and what ran how, to standard error.")
@plugin_option
@json_option
def command(
    source: Path,
    prompt: str | None,
    prompt_ids: str | None,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    backend: str,
    activations: str | None,
    dump_logits: Path | None,
    stats: bool,
    as_json: bool,
) -> None:
    """Run SRC, a package or anything that can be loaded, on a prompt."""
    if (prompt is None) == (prompt_ids is None):
        raise click.UsageError("give --prompt or --prompt-ids")
    from burnish.runtime.doors import executable, load, optimize
    from burnish.runtime.sources import kind_of, tokenizer_of
    from burnish.runtime.tokenizer import Tokenizer

    started = time.perf_counter()
    module = load(source)
    if kind_of(source) != "package":
        module = optimize(module)
    file = tokenizer_of(source)
    tokenizer = Tokenizer.load(file) if file else None
    ids = _ids(prompt, prompt_ids, tokenizer, _vocabulary(module))
    model = executable(module, backend, activations or "")
    if not model.is_generative:
        _embed(model, ids, as_json)
        return
    prompt_tokens = 0 if "encoder" in module.graphs else len(ids)
    if model.context and prompt_tokens >= model.context:
        raise click.UsageError(f"the prompt has {len(ids)} tokens; the model's context is {model.context}")
    limit = min(max_new_tokens, model.context - prompt_tokens) if model.context else max_new_tokens
    rows: list[np.ndarray] = []
    times: list[float] = [time.perf_counter()]

    def watch(step: int, logits: np.ndarray) -> None:
        times.append(time.perf_counter())
        if dump_logits:
            rows.append(logits)

    from burnish.runtime.executable import sampler

    out: list[int] = []
    stream = tokenizer.stream() if tokenizer else None
    for token in model.generate(ids, limit, sampler(temperature, seed), watch=watch):
        out.append(token)
        if not as_json:
            text = stream(token) if stream else f"{token} "
            click.echo(text, nl=False)
            sys.stdout.flush()
    if not as_json:
        click.echo((stream(None) if stream else "") or "")
    if dump_logits:
        with dump_logits.open("wb") as f:
            np.save(f, np.stack(rows))
    numbers = _numbers(started, times, len(ids))
    if as_json:
        text_out = {"text": tokenizer.decode(out)} if tokenizer else {}
        click.echo(json.dumps({"ids": out, **text_out, "prompt_ids": ids, "stats": numbers}))
    if stats:
        for key, value in numbers.items():
            click.echo(f"{key}: {value}", err=True)
        click.echo(model.stateful.plan_text("decoder" if "decoder" in module.graphs else "forward"), err=True)


def _ids(prompt: str | None, prompt_ids: str | None, tokenizer: Any, vocabulary: int | None) -> list[int]:
    if prompt_ids is not None:
        try:
            ids = [int(x) for x in prompt_ids.replace(",", " ").split()]
        except ValueError:
            raise click.UsageError(f"--prompt-ids takes numbers such as 1,2,3, not {prompt_ids!r}") from None
    elif tokenizer is None:
        raise click.UsageError("there is no tokenizer.json beside the model: give --prompt-ids")
    elif not (prompt or "").strip():
        raise click.UsageError("the prompt is empty")
    else:
        ids = tokenizer.encode(prompt)
    if not ids:
        raise click.UsageError("the prompt is empty")
    bad = [i for i in ids if i < 0 or (vocabulary is not None and i >= vocabulary)]
    if bad:
        raise click.UsageError(f"token {bad[0]} is not in the vocabulary of {vocabulary}")
    return ids


def _vocabulary(module: Any) -> int | None:
    """The rows of the table that ids are looked up in."""
    for graph in module.graphs.values():
        for node in graph:
            if node.op.name == "embedding" and node.inputs[0] is graph.find_input("ids"):
                size = node.inputs[1].shape[0]
                return size if isinstance(size, int) else None
    return None


def _embed(model: Any, ids: list[int], as_json: bool) -> None:
    """Print an encoder's sentence embedding, or what else it returns."""
    results = model.forward(np.array([ids], np.int32))
    name = next((k for k in ("embedding", "logits", "hidden") if k in results), next(iter(results)))
    row = results[name][0]
    if as_json:
        click.echo(json.dumps({name: row.tolist(), "prompt_ids": ids}))
    elif row.ndim == 1:
        click.echo(" ".join(f"{x:.6f}" for x in row))
    else:
        for token, vector in zip(ids, row, strict=True):
            click.echo(f"{token}: " + " ".join(f"{x:.6f}" for x in vector[:8]) + (" …" if len(vector) > 8 else ""))


def _numbers(started: float, times: list[float], prompt: int) -> dict[str, float]:
    """Seconds to load, prompt and decode rates in tokens a second."""
    first, decoded = times[1] - times[0], len(times) - 2
    rate = decoded / (times[-1] - times[1]) if decoded > 0 else 0.0
    return {
        "load_s": round(times[0] - started, 3),
        "first_token_s": round(first, 4),
        "prefill_tokens_per_s": round(prompt / first, 1),
        "decode_tokens_per_s": round(rate, 1),
    }
