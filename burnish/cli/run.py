"""burnish run: text or ids in, text, ids or an embedding out."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from burnish.cli._generation import advice, check_stops, generation_options, sampler_of, show_pieces
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
    verify_option,
)
from burnish.cli._progress import show_progress

if TYPE_CHECKING:
    from burnish.runtime.answers import Asked
    from burnish.runtime.executable import Executable
    from burnish.runtime.tokenizer import Tokenizer

LONGEST_PROMPT = 64 << 20  # bytes


@click.command()
@source_argument
@click.option("-p", "--prompt", metavar="TEXT", help="The text to go on from, to classify, to embed.")
@click.option("-f", "--file", metavar="FILE", type=click.File("rb"), help="A file that holds it; - is what is piped.")
@click.option("--prompt-ids", metavar="1,2,3", help="Token ids instead of a text.")
@click.option("--prompt-name", metavar="NAME", help="Which of an embedding model's own prompts to put before the text.")
@click.option("--chat", "as_chat", is_flag=True, help="The prompt is a message of a conversation: print the answer.")
@click.option("--system", metavar="TEXT", help="A system message before it; --chat goes without saying.")
@click.option("--pair", metavar="TEXT", help="A second text, for a model of pairs: the context of a question.")
@click.option("-n", "--max-new-tokens", metavar="N", type=click.IntRange(1), default=128, show_default=True)
@generation_options
@click.option(
    "--logprobs",
    metavar="N",
    type=click.IntRange(0, 1000),
    help="Print the log probability of each new token, and of the N likeliest, to standard error.",
)
@backend_option
@activations_option
@threads_option
@require_kernels_option
@verify_option
@click.option(
    "--dump-logits",
    metavar="FILE.npy",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the logits that each new token was chosen from, f32[tokens, V].",
)
@click.option("--stats", is_flag=True, help="Print times, and what ran how, to standard error.")
@common_options
def command(
    source: Path,
    prompt: str | None,
    file: IO[bytes] | None,
    prompt_ids: str | None,
    prompt_name: str | None,
    as_chat: bool,
    system: str | None,
    pair: str | None,
    max_new_tokens: int,
    stops: tuple[str, ...],
    logprobs: int | None,
    backend: str,
    activations: str | None,
    require_kernels: bool,
    dump_logits: Path | None,
    stats: bool,
    as_json: bool,
    **sampling: Any,
) -> None:
    """Run SRC on a prompt.

    A model of text goes on from it; of another is printed what it says: labels, an answer, words, an embedding.
    """
    if prompt_ids is None or prompt is not None or file is not None:
        prompt = _prompt(prompt, file, prompt_ids)
    sampler = sampler_of(sampling)
    import numpy as np

    from burnish.runtime.continuation import Continuation
    from burnish.runtime.doors import executable
    from burnish.runtime.replace_folder import replace_file
    from burnish.runtime.sources import no_tokenizer, tokenizer_of

    times = _Times()
    model = executable(load_module(source), backend, activations or "", progress=show_progress)
    tokenizer = tokenizer_of(source)
    if tokenizer is None and prompt_ids is None:
        raise click.UsageError(no_tokenizer(source))
    ends = None
    if as_chat or system is not None:
        if not model.is_generative or prompt_ids is not None or prompt_name is not None or pair is not None:
            raise click.UsageError("--chat and --system are for a text that a model goes on from, and for nothing else")
        asked, ends = _message(prompt, system, tokenizer, model)
    else:
        asked = _asked(prompt, pair, prompt_ids, prompt_name, tokenizer, model)
    model.check_ids(asked.ids)
    limit = _room(model, asked.ids, max_new_tokens)
    if dump_logits is not None and not (model.is_generative and dump_logits.parent.is_dir()):
        fault = "its folder is not there" if model.is_generative else "the model makes no text"
        raise click.UsageError(f"--dump-logits {dump_logits}: {fault}")
    if require_kernels:
        refuse_fallbacks(model)
    if model.is_generative and pair is not None:
        raise click.UsageError("--pair is for models of pairs of texts; this one goes on from a prompt")
    drawn = {name: value for name, value in sampling.items() if value is not None and name != "seed"}
    if not model.is_generative and (drawn or stops or logprobs is not None):
        raise click.UsageError("the model makes no text: sampling, --stop and --logprobs are not for it")
    check_stops(stops, tokenizer is not None)
    notes = note_choices(model)
    times.mark()
    if model.is_generative:
        if not drawn:
            notes += advice(model.module.facts.sampling)
        rows: list[np.ndarray] = []

        def watch(step: int, logits: np.ndarray) -> None:
            times.mark()
            if dump_logits is not None:
                rows.append(logits)

        text = Continuation(model, tokenizer, stops, logprobs, ends)
        show_pieces(text.write(asked.ids, limit, sampler, watch), quiet=as_json)
        if dump_logits is not None:
            with replace_file(dump_logits) as out:
                np.save(out, np.stack(rows))
        if text.log_probs and not as_json:
            click.echo(text.table(), err=True)
        if len(text.ids) == limit < max_new_tokens:
            notes.append(f"{limit} tokens fill the model's context of {model.context}")
        report = text.as_json()
    else:
        report = _answer(model, asked, quiet=as_json)
        times.mark()
        if not model.module.facts.task:
            notes.append("SRC does not say what it is for; --task text-generation goes on from a prompt")
    for note in notes:
        click.echo(f"note: {note}", err=True)
    numbers = times.numbers(len(asked.ids))
    if as_json:
        click.echo(json.dumps({**report, "prompt_ids": list(asked.ids), "notes": notes, "stats": numbers}))
    elif model.is_generative and not stats and sys.stderr.isatty():
        click.secho(times.line(len(asked.ids)), err=True, dim=True)
    if stats:
        click.echo("\n".join(f"{key:22} {value:,}" for key, value in numbers.items()), err=True)
        click.echo(model.plan_text(), err=True)


def _prompt(prompt: str | None, file: IO[bytes] | None, prompt_ids: str | None) -> str:
    """The text that was given, by whichever way; without the newline that ends a file."""
    if prompt is None and file is None and not _is_piped():
        raise click.UsageError("give --prompt, --file or --prompt-ids, or pipe a text into it")
    if (prompt is not None) + (file is not None) + (prompt_ids is not None) > 1:
        raise click.UsageError("give one of --prompt, --file and --prompt-ids")
    if prompt not in (None, "-"):
        return str(prompt)
    raw = (file or sys.stdin.buffer).read(LONGEST_PROMPT + 1)
    if len(raw) > LONGEST_PROMPT:
        raise click.UsageError(f"the prompt has more than {LONGEST_PROMPT:,} bytes")
    try:
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as e:
        raise click.UsageError(f"the prompt is not UTF-8: {e}") from None


def _is_piped() -> bool:
    """Whether standard input is a file or a pipe: not a terminal, and not a stand-in that has none."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _message(
    prompt: str | None, system: str | None, tokenizer: Tokenizer | None, model: Executable
) -> tuple[Asked, Collection[int]]:
    """A conversation's first message as tokens, and the tokens that end its answer."""
    from burnish.runtime.answers import Asked
    from burnish.runtime.chat import conversation_ids, turn_ends

    assert tokenizer is not None  # or there would be ids
    if not prompt or not prompt.strip():
        raise click.UsageError("the prompt is empty")
    said = [] if system is None else [{"role": "system", "content": system}]
    ids = conversation_ids(tokenizer, [*said, {"role": "user", "content": prompt}])
    return Asked(ids), turn_ends(tokenizer, model.module.facts)


def _asked(
    prompt: str | None,
    pair: str | None,
    prompt_ids: str | None,
    prompt_name: str | None,
    tokenizer: Tokenizer | None,
    model: Executable,
) -> Asked:
    from burnish.runtime.answers import Asked
    from burnish.runtime.tokenizer import prompted

    facts = model.module.facts
    if prompt_ids is not None:
        if pair is not None:
            raise click.UsageError("--pair is a text: give --prompt beside it")
        if prompt_name is not None:
            raise click.UsageError("--prompt-name is put before a text: give --prompt beside it")
        try:
            asked = Asked([int(x) for x in prompt_ids.replace(",", " ").split()])
        except ValueError:
            raise click.UsageError(f"--prompt-ids takes numbers such as 1,2,3, not {prompt_ids!r}") from None
    elif tokenizer is None or prompt is None or not prompt.strip():
        raise click.UsageError("the prompt is empty")
    else:
        try:
            asked = tokenizer.ask(prompted(facts, prompt, prompt_name), pair, facts.longest)
        except ValueError as e:
            raise click.UsageError(str(e)) from None
    if not asked.ids:
        raise click.UsageError("the prompt is empty")
    return asked


def _room(model: Executable, ids: Sequence[int], wanted: int) -> int:
    """How many new tokens the context leaves room for, at most `wanted`."""
    if model.context is None:
        return wanted
    room = model.context - (0 if model.has_encoder else len(ids))  # an encoder has the same for itself
    if len(ids) > model.context or room < model.is_generative:
        least = " and needs room for a new one" if model.is_generative and not model.has_encoder else ""
        raise click.UsageError(f"the prompt has {len(ids)} tokens{least}; the model's context is {model.context}")
    return min(wanted, room)


def _answer(model: Executable, asked: Asked, quiet: bool) -> dict[str, Any]:
    """What a model that makes no text says of a text; printed unless `quiet`."""
    import numpy as np

    from burnish.ir.signature import TOKEN_TYPES
    from burnish.runtime.answers import answer_of

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

    def line(self, prompt: int) -> str:
        """The same for people, in one line."""
        numbers = self.numbers(prompt)
        later = f", then {numbers['decode_tokens_per_s']:,.1f} a second" if "decode_tokens_per_s" in numbers else ""
        return f"{prompt} tokens in, {len(self.at) - 2} out; the first after {numbers['first_result_s']:.2f} s{later}"
