"""What weights and constants alone determine: computed once, and held once, for all forms of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from burnish.ir.graph import Value
from burnish.ir.op import Array
from burnish.ir.run import RunStatic, static_values
from burnish.ir.structure import Identities

__all__ = ["Static"]


@dataclass
class Static:
    """The arrays of values that are known before run time, by how they are computed.

    So two graphs, or the plain and the stateful form of a module, share a value that both compute alike from the same
    weights. The arrays are of the kind of one backend.
    """

    arrays: dict[int, Array] = field(default_factory=dict)
    #: told what is computed or compiled, how much of it is done, and how much there is (0: not known)
    progress: Callable[[str, int, int], None] | None = None
    _numbers: dict[object, int] = field(default_factory=dict)

    def of(
        self, wanted: Iterable[Value], keep: Callable[[Array], Array] = lambda x: x, run: RunStatic | None = None
    ) -> dict[Value, Array]:
        """The wanted values, known before run time, with their arrays.

        Those that are not there yet are computed on the host, one after another, and kept as `keep` makes them; by
        `run` where it does, see `static_values`.
        """
        identities = Identities(self._numbers)
        numbers = {v: identities.of(v) for v in wanted}
        missing = {n: v for v, n in numbers.items() if n not in self.arrays}
        for done, (v, array) in enumerate(static_values(missing.values(), run), 1):
            self.arrays[numbers[v]] = keep(array)
            if self.progress is not None:
                self.progress("weights", done, len(missing))
        return {v: self.arrays[n] for v, n in numbers.items()}

    @contextmanager
    def long(self, what: str) -> Iterator[None]:
        """Tells that something begins that takes long, and that it ends."""
        if self.progress is not None:
            self.progress(what, 0, 0)
        yield
        if self.progress is not None:
            self.progress(what, 1, 1)
