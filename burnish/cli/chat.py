"""burnish chat: a conversation, one line a message."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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
from burnish.cli._progress import show_progress, stop_progress


@click.command()
@source_argument
@click.option("--system", metavar="TEXT", default="", help="A system message, where the model's template takes one.")
@length_option(1024)
@generation_options
@backend_option
@activations_option
@threads_option
@require_kernels_option
@verify_option
@common_options
def command(
    source: Path,
    system: str,
    max_new_tokens: int,
    stops: tuple[str, ...],
    backend: str,
    activations: str | None,
    require_kernels: bool,
    as_json: bool,
    **sampling: Any,
) -> None:
    """Talk with SRC: each line is a message, which it answers.

    /reset begins anew, /exit or the end of the input ends; Ctrl-C ends an answer and keeps the conversation. What was
    said is not read again. The text of the conversation is made by the model's chat template.
    """
    sampler = sampler_of(sampling)
    from burnish.backends.binding import BindError
    from burnish.frontends.config import LoadError
    from burnish.runtime.chat import Chat
    from burnish.runtime.doors import executable
    from burnish.runtime.sources import no_tokenizer, tokenizer_of

    model = executable(load_module(source), backend, activations or "", progress=show_progress)
    tokenizer = tokenizer_of(source)
    if tokenizer is None:
        raise click.UsageError(no_tokenizer(source))
    if not model.is_generative or model.has_encoder:
        raise click.UsageError("chat is for models that go on from a text; `burnish run` says what others do")
    check_stops(stops, True)
    if require_kernels:
        refuse_fallbacks(model)
    chat = Chat(model, tokenizer, system)
    drawn = any(value is not None for name, value in sampling.items() if name != "seed")
    for note in note_choices(model) + advice(model.module.facts.sampling, drawn):
        click.echo(f"note: {note}", err=True)
    for line in _lines():
        match line.strip():
            case "/exit":
                break
            case "/reset":
                chat.reset()
            case "":
                pass
            case _:
                try:
                    answer = chat.answer(line, max_new_tokens, stops)
                except (BindError, LoadError) as e:
                    if not (sys.stdin.isatty() and chat.messages):
                        raise
                    click.echo(f"error: {e}; /reset begins anew", err=True)
                    continue
                with _stoppable(answer.pieces(sampler)) as pieces:
                    show_pieces(pieces, quiet=as_json)
                if as_json:
                    report = answer.text.as_json() | {"prompt_tokens": len(answer.ids), "read_tokens": chat.read}
                    click.echo(json.dumps(report))


def _lines() -> Iterator[str]:
    """What is typed or piped."""
    if not sys.stdin.isatty():
        for raw in sys.stdin.buffer:
            try:
                yield raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as e:
                raise click.UsageError(f"a message is not UTF-8: {e}") from None
        return
    with suppress(ImportError):
        import readline  # noqa: F401  # input() then edits lines and knows the earlier ones
    stop_progress()
    while True:
        try:
            yield input("> ")
        except EOFError:
            click.echo()
            return


@contextmanager
def _stoppable(pieces: Iterable[str]) -> Iterator[Iterator[str]]:
    """The pieces, up to an interrupt: between two tokens, so that the session is whole. A second ends the command."""
    asked = False

    def stop(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def until_asked() -> Iterator[str]:
        iterator = iter(pieces)
        try:
            for piece in iterator:
                yield piece
                if asked:
                    return
        finally:
            if (close := getattr(iterator, "close", None)) is not None:
                close()

    if threading.current_thread() is not threading.main_thread():
        yield until_asked()
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield until_asked()
    finally:
        signal.signal(signal.SIGINT, before)
