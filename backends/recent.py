"""A table that keeps what was asked for last."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

__all__ = ["MOST", "Recent"]

T = TypeVar("T")

#: plans or compiled functions of a backend: a session has one for each length of its steps and its own capacity. XLA,
#: where they are dear, rounds to powers of two: 7 lengths of steps (1, 16, 32, … 512) at 9 capacities
MOST = 64


class Recent(dict[Hashable, T]):
    """At most `most` things by key. One more takes the place of that which was not asked for the longest."""

    def __init__(self, most: int = MOST) -> None:
        super().__init__()
        self.most = most

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is there, or what `make` makes and is then kept."""
        thing = self.pop(key) if key in self else make()
        self[key] = thing
        if len(self) > self.most:
            del self[next(iter(self))]
        return thing
