"""The tables of what is found by being defined: ops, rules, passes, formats, layouts, kernels, architectures, …"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, ValuesView
from itertools import chain, repeat
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

__all__ = ["PLUGIN", "Registry", "Snapshot"]

T = TypeVar("T")
D = TypeVar("D")
PLUGIN = "burnish_plugin_"  # what the name of a plugin's module begins with


class Snapshot(NamedTuple):
    """What every registry held, and the names of the modules that were imported."""

    tables: list[dict[str, Any]]
    modules: frozenset[str]


class Registry(Mapping[str, T]):
    """The things of one kind by name, in the order in which they were defined.

    A name is defined once, by whichever file; a definition that is to take another's place says `replace=True`.
    """

    #: how often any of them was changed: what is derived from them holds as long as this stays
    changes: ClassVar[int] = 0
    _every: ClassVar[list[Registry[Any]]] = []

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, T] = {}
        Registry._every.append(self)

    def add(self, name: str, thing: T, replace: bool = False) -> None:
        """Enter a class, a function or an instance. Raises TypeError, naming both files, where the name is taken."""
        known = self._things.get(name)
        if known is not None and not replace:
            where = f"{_file_of(known)} and in {_file_of(thing)}"
            raise TypeError(f"{self.kind} {name!r} is defined in {where}; say replace=True to take its place")
        self._things[name] = thing
        Registry.changes += 1

    def find(self, name: str, error: Callable[[str], Exception] = LookupError, others: Iterable[str] = ()) -> T:
        """What is called `name`. Raises `error`, with the nearest names among these and `others`."""
        if name not in self._things:
            near = self.nearest(name, others)
            raise error(f"there is no {self.kind} {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))
        return self._things[name]

    def nearest(self, name: str, others: Iterable[str] = ()) -> list[str]:
        """The names, at most three, that are spelled like `name`; the nearest is the first."""
        return difflib.get_close_matches(name[:100], [*self._things, *others], n=3)

    def __getitem__(self, name: str) -> T:
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def values(self) -> ValuesView[T]:
        """The things, in the order in which they were defined."""
        return self._things.values()

    # Mapping would raise and catch a KeyError for each name that is not there: every type asks whether it is a format.

    def __contains__(self, name: object) -> bool:
        return name in self._things

    @overload
    def get(self, name: str, /) -> T | None: ...
    @overload
    def get(self, name: str, /, default: T | D) -> T | D: ...
    def get(self, name: str, /, default: T | D | None = None) -> T | D | None:
        """What is called `name`, or `default`."""
        return self._things.get(name, default)

    @staticmethod
    def snapshot() -> Snapshot:
        """What all registries hold now."""
        return Snapshot([dict(r._things) for r in Registry._every], frozenset(sys.modules))

    @staticmethod
    def restore(saved: Snapshot) -> None:
        """Put all registries back, and forget the plugins that were loaded since.

        What other modules defined that were first imported since stays: they stay imported, so it would be lost.
        """
        for module in [m for m in sys.modules if m.startswith(PLUGIN) and m not in saved.modules]:
            del sys.modules[module]
        imported = sys.modules.keys() - saved.modules
        Registry.changes += 1
        for registry, before in zip(Registry._every, chain(saved.tables, repeat({})), strict=False):
            since = {name: thing for name, thing in registry._things.items() if thing.__module__ in imported}
            registry._things = before | since


def _file_of(thing: object) -> str:
    """The file that defines a class, a function or an instance's class; its module, where that is no file."""
    return getattr(sys.modules.get(thing.__module__), "__file__", None) or thing.__module__
