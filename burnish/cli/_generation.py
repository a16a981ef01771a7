"""What `run` and `chat` have in common: how a text is drawn, where it ends, and how it is shown as it comes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from burnish.cli._progress import stop_progress

if TYPE_CHECKING:
    from burnish.runtime.sampling import Sampling

__all__ = ["advice", "check_stops", "generation_options", "length_option", "sampler_of", "show_pieces"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--temperature",
        metavar="T",
        type=float,
        help="0 takes the likeliest token; above, tokens are drawn from softmax(logits / T).  [default: 0]",
    ),
    click.option("--top-k", metavar="K", type=int, help="Draw among the K likeliest tokens only."),
    click.option("--top-p", metavar="P", type=float, help="Draw among the likeliest tokens whose sum reaches P."),
    click.option(
        "--min-p", metavar="P", type=float, help="Draw among tokens at least P times as likely as the likeliest."
    ),
    click.option(
        "--repetition-penalty", metavar="R", type=float, help="Above 1, tokens that came already are less likely."
    ),
    click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="For what is drawn."),
    click.option(
        "--stop", "stops", metavar="TEXT", multiple=True, help="Ends the text before TEXT; may be given several times."
    ),
)
_SETTINGS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def length_option(default: int) -> Callable[[F], F]:
    """`--max-new-tokens`."""
    return click.option(
        "-n",
        "--max-new-tokens",
        metavar="N",
        type=click.IntRange(1),
        default=default,
        show_default=True,
        help="At most so many tokens of text.",
    )


def generation_options(function: F) -> F:
    """`--temperature`, `--top-k`, `--top-p`, `--min-p`, `--repetition-penalty`, `--seed`; and `--stop`, as `stops`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def sampler_of(given: Mapping[str, Any]) -> Sampling:
    """What the options ask for; the likeliest token, unless a temperature is given."""
    from burnish.runtime.sampling import Sampling

    settings = {name: value for name, value in given.items() if value is not None}
    limits = [f"--{name.replace('_', '-')}" for name in ("top_k", "top_p", "min_p") if name in settings]
    if limits and "temperature" not in settings:
        raise click.UsageError(f"{limits[0]} is for tokens that are drawn: give --temperature too, 1 for instance")
    try:
        return Sampling(**{"temperature": 0.0} | settings)
    except ValueError as e:
        raise click.UsageError(f"--{str(e).replace('_', '-')}") from None


def check_stops(stops: Sequence[str], has_tokenizer: bool) -> None:
    """Raise UsageError for a stop that is none."""
    if not all(stops) or (stops and not has_tokenizer):
        raise click.UsageError("--stop takes a text, and needs a tokenizer.json beside the model")


def advice(settings: Sequence[str], drawn: bool) -> list[str]:
    """What a model's makers advise, where nothing else was asked for; what is not done of it, in any case."""
    advised = dict(s.split("=", 1) for s in settings)
    options = [f"--{name.replace('_', '-')} {advised.pop(name)}" for name in list(advised) if name in _SETTINGS]
    notes = []
    if beams := advised.pop("num_beams", ""):
        notes.append(f"the model's makers advise to search {beams} beams; one is searched")
    if advised:
        others = ", ".join(f"{name}={value}" for name, value in advised.items())
        notes.append(f"the model's makers ask for {others}, which is not supported: the text may be another one")
    if options and not drawn:
        notes.append(f"the likeliest token is taken each time; the model's makers advise {' '.join(options)}")
    return notes


def show_pieces(pieces: Iterable[str], quiet: bool) -> None:
    """Each piece of a text as it comes."""
    for piece in pieces:
        stop_progress()
        if piece and not quiet:
            click.echo(piece, nl=False)
            sys.stdout.flush()
    if not quiet:
        click.echo()
