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

from burnish.cli._generation import (
    advice,
    check_stops,
    generation_options,
    length_option,
    sampler_of,
    show_pieces,
)
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
from burnish.cli._texts import answer_options, asked_for, lines_options, run_lines, usage_errors

if TYPE_CHECKING:
    from burnish.runtime.answers import Asked
    from burnish.runtime.texts import TextModel

LONGEST_PROMPT = 64 << 20  # bytes


@click.command()
@source_argument
@click.option("-p", "--prompt", metavar="TEXT", help="The text to go on from, to classify, to ask, to embed.")
@click.option("-f", "--file", metavar="FILE", type=click.File("rb"), help="A file that holds it; - is what is piped.")
@click.option("--prompt-ids", metavar="1,2,3", help="Token ids instead of a text.")
@click.option("--pair", metavar="TEXT", help="A second text: what is searched for an answer, ranked or compared.")
@click.option("--chat", "as_chat", is_flag=True, help="The prompt is a message of a conversation: print the answer.")
@click.option("--system", metavar="TEXT", help="A system message before it; --chat goes without saying.")
@lines_options
@click.option(
    "--prompt-name",
    "prompt_names",
    metavar="NAME",
    multiple=True,
    help="Which of an embedding model's own prompts to put before the text; given twice, the second is for --pair.",
)
@answer_options
@click.option("--language", metavar="TOKEN", help="The token that an answer begins with: a language to translate to.")
@length_option(128)
@generation_options
@click.option(
    "--logprobs",
    metavar="N",
    type=click.IntRange(0, 1000),
    help="Print the log probability of each new token, and of the N likeliest, to standard error.",
)
@click.option(
    "--prompt-lookup-num-tokens",
    "lookup",
    metavar="N",
    type=click.IntRange(0, 64),
    default=0,
    help="Try up to N tokens at once that stood behind the last ones before: the same text, in fewer steps.",
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
    prompt_names: tuple[str, ...],
    as_chat: bool,
    system: str | None,
    pair: str | None,
    lines: IO[bytes] | None,
    batch: int,
    language: str | None,
    max_new_tokens: int,
    lookup: int,
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
    """Run SRC on a prompt, or on many.

    A model of text goes on from it; of another is printed what it says: labels, entities, an answer, words, how near
    two texts are, an embedding.
    """
    if lines is not None and any(x is not None for x in (prompt, file, prompt_ids, pair, logprobs, dump_logits)):
        raise click.UsageError(
            "--lines has the texts: no other text goes with it, and no --logprobs and --dump-logits"
        )
    if lines is None and (prompt_ids is None or prompt is not None or file is not None):
        prompt = _prompt(prompt, file, prompt_ids)
    sampler = sampler_of(sampling)
    import numpy as np

    from burnish.runtime.answers import Wanted
    from burnish.runtime.continuation import Continuation
    from burnish.runtime.doors import executable
    from burnish.runtime.replace_folder import replace_file
    from burnish.runtime.sources import no_tokenizer, tokenizer_of
    from burnish.runtime.texts import TextModel, in_language

    times = _Times()
    module, tokenizer = load_module(source), tokenizer_of(source)
    if tokenizer is None and prompt_ids is None:
        raise click.UsageError(no_tokenizer(source))
    if language is not None:
        with usage_errors("--language "):
            module.facts = in_language(module.facts, tokenizer, language)
    model = executable(module, backend, activations or "", progress=show_progress)
    answers = asked_for()
    wanted = Wanted(**{name: value for name, value in answers.items() if name != "cut"})
    with usage_errors("--"):
        texts = TextModel(model, tokenizer, wanted, cut="cut" in answers)
    ends = None
    if as_chat or system is not None:
        if not model.is_generative or any(x not in (None, ()) for x in (lines, prompt_ids, pair, prompt_names)):
            raise click.UsageError("--chat and --system are for a text that a model goes on from, and for nothing else")
        asked, ends = _message(texts, prompt, system)
    else:
        asked = _asked(texts, prompt, pair, prompt_ids, prompt_names) if lines is None else []
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
    if lookup and (lines is not None or not model.is_generative):
        raise click.UsageError("--prompt-lookup-num-tokens is for one text that a model goes on from")
    check_stops(stops, tokenizer is not None)
    notes = note_choices(model)
    times.mark()
    if model.is_generative:
        notes += advice(model.module.facts.sampling, bool(drawn))
    report: dict[str, Any] = {}
    fault = ""
    if lines is not None:
        fault = run_lines(texts, lines, batch, as_json, prompt_names, (max_new_tokens, sampler, stops))
        times.mark()
    elif model.is_generative:
        limit = texts.room(asked[0].ids, max_new_tokens)
        rows: list[np.ndarray] = []

        def watch(step: int, logits: np.ndarray) -> None:
            times.mark()
            if dump_logits is not None:
                rows.append(logits)

        text = Continuation(model, tokenizer, stops, logprobs, ends)
        show_pieces(text.write(asked[0].ids, limit, sampler, watch, lookup=lookup), quiet=as_json)
        if dump_logits is not None:
            with replace_file(dump_logits) as out:
                np.save(out, np.stack(rows))
        if text.log_probs and not as_json:
            click.echo(text.table(), err=True)
        if len(text.ids) == limit < max_new_tokens:
            notes.append(f"{limit} tokens fill the model's context of {model.context}")
        report = text.as_json()
    else:
        answer = next(texts.answers([asked]))
        times.mark()
        report = dict(answer.values)
        if not as_json:
            click.echo("\n".join(answer.lines))
        if not model.module.facts.task:
            notes.append("SRC does not say what it is for; --task text-generation goes on from a prompt")
    for note in notes:
        click.echo(f"note: {note}", err=True)
    read = sum(len(one.ids) for one in asked)
    numbers = times.numbers(read)
    if as_json and lines is None:
        ids: Any = [list(one.ids) for one in asked]
        report |= {"prompt_ids": ids if len(ids) > 1 else ids[0], "notes": notes, "stats": numbers}
        click.echo(json.dumps(report))
    elif model.is_generative and lines is None and not stats and sys.stderr.isatty():
        click.secho(times.line(read), err=True, dim=True)
    if stats:
        click.echo("\n".join(f"{key:22} {value:,}" for key, value in numbers.items()), err=True)
        click.echo(model.plan_text(), err=True)
    if fault:
        raise click.UsageError(fault)


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


def _message(texts: TextModel, prompt: str | None, system: str | None) -> tuple[list[Asked], Collection[int]]:
    """A conversation's first message as tokens, and the tokens that end its answer."""
    from burnish.runtime.answers import Asked
    from burnish.runtime.chat import conversation_ids, turn_ends

    assert texts.tokenizer is not None  # or there would be ids
    if not prompt or not prompt.strip():
        raise click.UsageError("the prompt is empty")
    said = [] if system is None else [{"role": "system", "content": system}]
    ids = conversation_ids(texts.tokenizer, [*said, {"role": "user", "content": prompt}])
    with usage_errors():
        asked = texts.checked([Asked(ids)])
    return asked, turn_ends(texts.tokenizer, texts.model.module.facts)


def _asked(
    texts: TextModel, prompt: str | None, pair: str | None, prompt_ids: str | None, prompt_names: Sequence[str]
) -> list[Asked]:
    """What is read: one sequence, or several for a pair."""
    from burnish.runtime.answers import Asked

    with usage_errors():
        if prompt_ids is None:
            return texts.ask((prompt or "", pair) if pair is not None else prompt or "", prompt_names)
        for option, given in (("--pair is a text", pair), ("--prompt-name is put before a text", prompt_names or None)):
            if given is not None:
                raise ValueError(f"{option}: give --prompt beside it")
        try:
            ids = [int(x) for x in prompt_ids.replace(",", " ").split()]
        except ValueError:
            raise ValueError(f"--prompt-ids takes numbers such as 1,2,3, not {prompt_ids!r}") from None
        return texts.checked([Asked(ids)])


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
