"""burnish run: text or ids in, text, ids or an embedding out."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from burnish.cli import (
    activations_option,
    backend_option,
    json_option,
    load_module,
    plugin_option,
    refuse_fallbacks,
    require_kernels_option,
    show_progress,
    source_argument,
    stop_progress,
)
from burnish.ir.signature import TOKEN_TYPES, TOKENS
from burnish.runtime.answers import Asked, answer_of

if TYPE_CHECKING:
    from burnish.ir.module import Module
    from burnish.runtime.executable import Executable
    from burnish.runtime.tokenizer import Tokenizer


@click.command()
@source_argument
@click.option("--prompt", help="The text to go on from, to classify, to embed.")
@click.option("--pair", metavar="TEXT", help="A second text, for a model of pairs: the context of a question.")
@click.option("--prompt-ids", metavar="1,2,3", help="Token ids instead of a text.")
@click.option("--max-new-tokens", metavar="N", type=click.IntRange(1), default=128, show_default=True)
@click.option(
    "--temperature",
    metavar="T",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="0 takes the likeliest token; above, tokens are drawn from softmax(logits / T).",
)
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="For what is drawn.")
@backend_option
@activations_option
@require_kernels_option
@click.option(
    "--dump-logits",
    metavar="FILE.npy",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the logits that each new token was chosen from, f32[tokens, V].",
)
@click.option("--stats", is_flag=True, help="Print times, and what ran how, to standard error.")
@plugin_option
@json_option
def command(
    source: Path,
    prompt: str | None,
    pair: str | None,
    prompt_ids: str | None,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    backend: str,
    activations: str | None,
    require_kernels: bool,
    dump_logits: Path | None,
    stats: bool,
    as_json: bool,
) -> None:
    """Run SRC on a prompt: go on from it, or print what the model says of it: labels, an answer, an embedding."""
    if (prompt is None) == (prompt_ids is None):
        raise click.UsageError("give either --prompt or --prompt-ids")
    if not math.isfinite(temperature):
        raise click.UsageError(f"--temperature {temperature} is not a finite number")
    from burnish.runtime.doors import executable
    from burnish.runtime.sampling import sampler
    from burnish.runtime.sources import tokenizer_of

    times = _Times()
    model = executable(load_module(source), backend, activations or "", progress=show_progress)
    tokenizer = tokenizer_of(source)
    asked = _asked(prompt, pair, prompt_ids, tokenizer, _vocabulary(model.module))
    ids = list(asked.ids)
    limit = _room(model, ids, max_new_tokens)
    if dump_logits is not None and not (model.is_generative and dump_logits.parent.is_dir()):
        fault = "its folder is not there" if model.is_generative else "the model makes no text"
        raise click.UsageError(f"--dump-logits {dump_logits}: {fault}")
    if require_kernels:
        refuse_fallbacks(model)
    times.mark()
    if model.is_generative and pair is not None:
        raise click.UsageError("--pair is for models of pairs of texts; this one goes on from a prompt")
    if model.is_generative:
        rows: list[np.ndarray] = []

        def watch(step: int, logits: np.ndarray) -> None:
            times.mark()
            if dump_logits is not None:
                rows.append(logits)

        tokens = model.generate(ids, limit, sampler(temperature, seed), watch=watch)
        out = _print_tokens(tokens, tokenizer, quiet=as_json)
        if dump_logits is not None:
            with dump_logits.open("wb") as f:
                np.save(f, np.stack(rows))
        if len(out) == limit < max_new_tokens:
            click.echo(f"note: {limit} tokens fill the model's context of {model.context}", err=True)
        report: dict[str, Any] = {"ids": out, **({"text": tokenizer.decode(out)} if tokenizer else {})}
    else:
        report = _answer(model, asked, quiet=as_json)
        times.mark()
        if not model.module.facts.task:
            click.echo("note: SRC does not say what it is for; --task text-generation goes on from a prompt", err=True)
    numbers = times.numbers(len(ids))
    if as_json:
        click.echo(json.dumps({**report, "prompt_ids": ids, "stats": numbers}))
    if stats:
        click.echo("\n".join(f"{key:22} {value:,}" for key, value in numbers.items()), err=True)
        click.echo(model.plan_text(), err=True)


def _asked(
    prompt: str | None, pair: str | None, prompt_ids: str | None, tokenizer: Tokenizer | None, rows: int | None
) -> Asked:
    if prompt_ids is not None:
        if pair is not None:
            raise click.UsageError("--pair is a text: give --prompt beside it")
        try:
            asked = Asked([int(x) for x in prompt_ids.replace(",", " ").split()])
        except ValueError:
            raise click.UsageError(f"--prompt-ids takes numbers such as 1,2,3, not {prompt_ids!r}") from None
    elif tokenizer is None:
        raise click.UsageError("there is no tokenizer.json beside the model: give --prompt-ids")
    elif prompt is None or not prompt.strip():
        raise click.UsageError("the prompt is empty")
    else:
        asked = tokenizer.ask(prompt, pair)
    if not asked.ids:
        raise click.UsageError("the prompt is empty")
    bad = [i for i in asked.ids if i < 0 or (rows is not None and i >= rows)]
    if bad:
        raise click.UsageError(f"token {bad[0]} is not in the vocabulary of {rows}")
    return asked


def _vocabulary(module: Module) -> int | None:
    """The rows of the table that tokens are looked up in."""
    for graph in module.graphs.values():
        tokens = graph.input_for(TOKENS)
        for node in tokens.users if tokens is not None else ():
            if node.op.name == "embedding":
                size = node["w"].shape[0]
                return size if isinstance(size, int) else None
    return None


def _room(model: Executable, ids: list[int], wanted: int) -> int:
    """How many new tokens the context leaves room for, at most `wanted`."""
    if model.context is None:
        return wanted
    room = model.context - (0 if model.has_encoder else len(ids))  # an encoder has the same for itself
    if len(ids) > model.context or room < model.is_generative:
        least = " and needs room for a new one" if model.is_generative and not model.has_encoder else ""
        raise click.UsageError(f"the prompt has {len(ids)} tokens{least}; the model's context is {model.context}")
    return min(wanted, room)


def _print_tokens(tokens: Iterable[int], tokenizer: Tokenizer | None, quiet: bool) -> list[int]:
    """Each token, or the text that is whole with it, as it comes."""
    out: list[int] = []
    more: Callable[[int | None], str] = tokenizer.stream() if tokenizer else lambda t: "" if t is None else f"{t} "
    for token in tokens:
        stop_progress()
        out.append(token)
        if not quiet:
            click.echo(more(token), nl=False)
            sys.stdout.flush()
    if not quiet:
        click.echo(more(None))
    return out


def _answer(model: Executable, asked: Asked, quiet: bool) -> dict[str, Any]:
    """What a model that makes no text says of a text; printed unless `quiet`."""
    more: dict[str, Any] = {}
    graph = model.module.main
    types = graph.input_for(TOKEN_TYPES) if graph is not None else None
    if types is not None and asked.types is not None:
        more[types.name] = np.array([asked.types], np.int32)
    outputs = {name: x[0] for name, x in model.forward(np.array([asked.ids], np.int32), **more).items()}
    answer = answer_of(model.module.facts, graph.roles if graph is not None else {}, outputs, asked)
    if not quiet:
        click.echo("\n".join(answer.lines))
    return dict(answer.values)


@dataclass
class _Times:
    """When loading began, when it was done, and when the logits of each step were there."""

    at: list[float] = field(default_factory=lambda: [time.perf_counter()])

    def mark(self) -> None:
        self.at.append(time.perf_counter())

    def numbers(self, prompt: int) -> dict[str, float]:
        """Seconds to load and to the first result, compiling included; tokens a second after it."""
        loaded, first, *later = self.at[1:]
        numbers = {"load_s": loaded - self.at[0], "first_result_s": first - loaded, "prompt_tokens": prompt}
        if later:
            numbers["decode_tokens_per_s"] = len(later) / (later[-1] - first)
        return {k: round(v, 3) for k, v in numbers.items()}
