"""What `run` is told of answers, and texts from a file of lines."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from burnish.cli._progress import stop_progress

if TYPE_CHECKING:
    from burnish.runtime.answers import Asked
    from burnish.runtime.sampling import Sampler
    from burnish.runtime.texts import Text, TextModel

__all__ = ["answer_options", "asked_for", "lines_options", "run_lines", "usage_errors"]

F = TypeVar("F", bound=Callable[..., Any])

LONGEST_LINE = 64 << 20  # bytes
SCORES = ("softmax", "sigmoid", "raw")
GROUPS = ("none", "simple", "first", "max", "average")


def lines_options(function: F) -> F:
    """`--lines` and `--batch`."""
    lines = click.option(
        "--lines",
        metavar="FILE",
        type=click.File("rb"),
        help="A text a line, - for what is piped; in a .jsonl, strings, and pairs as [first, second] or {text, pair}.",
    )
    batch = click.option(
        "--batch", metavar="N", type=click.IntRange(1, 4096), default=16, show_default=True, help="Lines at once."
    )
    return lines(batch(function))


def answer_options(function: F) -> F:
    """What is asked for beside the texts; `asked_for` has it."""
    options: dict[str, dict[str, Any]] = {
        "best": {"metavar": "N", "type": click.IntRange(1, 1000), "help": "How many labels, words or answers."},
        "scores": {"type": click.Choice(SCORES), "help": "How labels are scored.  [default: as the model says]"},
        "group": {"type": click.Choice(GROUPS), "help": "How labels of tokens become entities.  [default: simple]"},
        "unanswerable": {"is_flag": True, "help": "That there is no answer is an answer too."},
        "cut": {"is_flag": True, "help": "Cut texts that are too long for the model, rather than refuse them."},
    }

    def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        ctx.meta.setdefault("asked for", {}).update({parameter.name: value} if value not in (None, False) else {})

    for name, settings in reversed(options.items()):
        function = click.option(f"--{name}", callback=keep, expose_value=False, **settings)(function)
    return function


def asked_for() -> dict[str, Any]:
    """Those of `answer_options` that were given."""
    given: dict[str, Any] = click.get_current_context().meta["asked for"]
    return given


@contextmanager
def usage_errors(before: str = "") -> Iterator[None]:
    """What is wrong with what was given is an error of usage."""
    try:
        yield
    except ValueError as e:
        raise click.UsageError(f"{before}{e}") from None


def run_lines(
    texts: TextModel,
    file: IO[bytes],
    batch: int,
    as_json: bool,
    prompt_names: Sequence[str],
    writing: tuple[int, Sampler, Sequence[str]],
) -> str:
    """Print what the model says of each line, a line each, in their order -> which lines could not be read, if any.

    Such a line is told to standard error, and has an empty line, or `error`.
    """
    outcomes: deque[tuple[int, str]] = deque()  # of the lines that were read and not yet told of: number, fault or ""
    bad: list[int] = []
    as_objects = file.name.endswith(".jsonl")

    def readable() -> Iterator[list[Asked]]:
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
            try:
                asked = texts.ask(_text_of(raw, as_objects), prompt_names)
            except ValueError as e:
                outcomes.append((number, str(e)))
            else:
                outcomes.append((number, ""))
                yield asked

    def tell(until_good: bool) -> int:
        """Tell of the faulty lines that come next; the number of the good one behind them."""
        while outcomes:
            number, fault = outcomes.popleft()
            if not fault and until_good:
                return number
            bad.append(number)
            stop_progress()
            click.echo(f"line {number}: {fault}", err=True)
            click.echo(json.dumps({"line": number, "error": fault}) if as_json else "")
        return 0

    good = 0
    for values, line in _said(texts, readable(), batch, *writing):
        number = tell(until_good=True)
        stop_progress()
        click.echo(json.dumps({"line": number, **values}) if as_json else line)
        good += 1
    tell(until_good=False)
    some = ", ".join(map(str, bad[:20])) + (", …" if len(bad) > 20 else "")
    return f"{len(bad)} of {good + len(bad)} lines could not be read: {some}" if bad else ""


def _said(
    texts: TextModel, asked: Iterator[list[Asked]], batch: int, limit: int, sampler: Sampler, stops: Sequence[str]
) -> Iterator[tuple[dict[str, Any], str]]:
    """For machines, and in one line for people."""
    if texts.model.is_generative:
        for ids in texts.write((one for one, *_ in asked), limit, sampler, batch):
            text = texts.written(ids, stops)
            yield {"text": text, "ids": ids}, "\\n".join(text.splitlines())
        return
    for answer in texts.answers(asked, batch):
        yield dict(answer.values), "; ".join(answer.lines)


def _text_of(raw: bytes, as_object: bool) -> Text:
    """The text of a line, or the pair. Raises ValueError."""
    if len(raw) > LONGEST_LINE:
        raise ValueError(f"has more than {LONGEST_LINE:,} bytes")
    line = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    if not as_object:
        return line
    try:
        value = json.loads(line)
    except ValueError as e:
        raise ValueError(f"is no JSON: {e}") from None
    if isinstance(value, dict) and set(value) in ({"text"}, {"text", "pair"}):
        value = [value["text"], value["pair"]] if "pair" in value else value["text"]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
        return value[0], value[1]
    raise ValueError('is no "text", ["first", "second"] or {"text": …, "pair": …}')
