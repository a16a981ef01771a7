"""Texts that end a text, wherever the borders of tokens lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

__all__ = ["until"]


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces of a text as they come, up to the one of `stops` that is complete first, which is not part of it.

    What may be the beginning of a stop waits until that is clear. No piece is asked for after a stop.
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [(at + len(stop), at) for stop in stops if (at := held.find(stop)) >= 0]
        if found:
            _, begins = min(found)
            yield held[:begins]
            return
        clear = len(held) - max((_begun(held, stop) for stop in stops), default=0)
        yield held[:clear]
        held = held[clear:]
    yield held


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of `text` are a beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
