"""What an op is: its attributes, its type, its meaning in arrays, and what passes and backends may rely on.

An op is one class in `ir/ops/`, registered by being defined:

    class Squeeze(Op):
        \"\"\"Drop the unit dimensions listed in `axes`.\"\"\"
        axes: tuple[int, ...]
        def infer(self, x: Type) -> Type: ...
        def eval(self, xp: Arrays, x: Array) -> Array: ...
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import UnionType
from typing import (
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from burnish.ir.box import Box
from burnish.ir.dims import Dim, Sym, bind, symbols_of
from burnish.ir.literal import attribute_text
from burnish.ir.registry import Registry
from burnish.ir.types import InferError, Type

__all__ = ["OPS", "Array", "Arrays", "Axes", "Kind", "Op", "Operand", "Part", "find_op"]

Array = Any  # a numpy.ndarray, a jax.Array, or Packed
Arrays = Any  # the module numpy, or jax.numpy
Kind = Literal["linear", "matmul", "memory", "other"]
Body = Callable[..., tuple[Array, ...]]
#: for each axis of an operand the axis of the results that it runs along, or None
Axes = tuple[int | None, ...]


class Part(NamedTuple):
    """What makes a box of a result: an op, and the box of each operand that it is given (None: it does without).

    Where the op makes more than that, `cut` is the box of what it makes.
    """

    op: Op
    boxes: tuple[Box | None, ...]
    cut: Box | None = None


class Operand(NamedTuple):
    """An operand as `infer` names it."""

    name: str
    optional: bool
    variadic: bool


@dataclass_transform(frozen_default=True, eq_default=False)
class Op:
    """Base of all ops. The annotated fields of a subclass are its attributes; `infer` names its operands.

    A parameter of `infer` with the default None is an optional operand, `*xs` a variadic one.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind] = "other"
    #: the first two operands may be exchanged
    commutative: ClassVar[bool] = False
    #: plain floats below f32 are widened to f32 before `eval`
    widen: ClassVar[bool] = True
    #: on packed operands `eval` runs once for each plane (see `on_plane`), and the results are packed
    planewise: ClassVar[bool] = False
    #: of those that run plane by plane: rows stay where they are among each other, so that it may be tiles of them
    keeps_rows: ClassVar[bool] = False
    #: `eval` takes packed operands as they are; otherwise they are dequantized for it
    takes_packed: ClassVar[bool] = False
    #: `eval` works element by element (operands broadcast)
    elementwise: ClassVar[bool] = False
    #: each row along the last axis of the first operand gives a row of the results, whatever the other rows are
    by_last_axis: ClassVar[bool] = False
    #: the operand whose memory the first result may take over, when nothing else reads it
    inplace: ClassVar[str | None] = None
    #: the operand that is a matrix or table of weights, which may be quantized and laid out for a kernel
    weight: ClassVar[str | None] = None
    #: the same bytes on every machine: no BLAS, no vectorised transcendental function, a fixed order of reduction
    reproducible: ClassVar[bool] = False
    #: how many graphs a node of this op carries
    bodies: ClassVar[int] = 0
    #: raised when the meaning changes, so that a package that was written before is not misread
    version: ClassVar[int] = 1

    def __init_subclass__(cls, replace: bool = False) -> None:
        dataclasses.dataclass(frozen=True, repr=False, eq=False)(cls)
        if cls.__name__.startswith("_"):
            return
        cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        OPS.add(cls.name, cls, replace)

    def infer(self, *operands: Any, **bodies: Any) -> Type | tuple[Type, ...]:
        """The result's type (a tuple for several results). Raises InferError."""
        raise NotImplementedError(f"{self.name}.infer")

    def eval(self, *operands: Any, **bodies: Any) -> Any:
        """`eval(xp, *operands)`: the result in arrays of numpy or jax.numpy, whichever `xp` is.

        It knows no low precision, no packed storage and no symbols: see `evaluate`. An op with bodies gets them as
        the keyword `bodies`, each a function of arrays.
        """
        raise NotImplementedError(f"{self.name}.eval")

    def on_plane(self, lead: int, inner: tuple[int, ...]) -> Op:
        """The op for a plane of a packed operand: it has the operand's first `lead` axes, then `inner` for its last."""
        return self

    def overwrite(self, *operands: Any) -> Any:
        """What `eval` gives, the first result written into the operand that `inplace` names; for NumPy."""
        raise NotImplementedError(f"{self.name}.overwrite")

    def along(self, *operands: Any) -> tuple[Axes, ...]:
        """For each operand, along which axis of every result each of its axes runs; None for one that is mixed.

        What lies at index j of such an axis of a result is made of what lies at j of the operand's (at 0, where that is
        of size 1), and of nothing else along it. Unless the op knows better: aligned at the end where it is
        `elementwise`, the axes before the last of the first operand where it works `by_last_axis`, else none.
        """
        ranks = [0 if t is None else t.rank for t in operands]
        if self.elementwise:
            return tuple(tuple(range(max(ranks) - r, max(ranks))) for r in ranks)
        first = [(*range(ranks[0] - 1), None)] if self.by_last_axis and ranks[0] else []
        return (*first, *((None,) * r for r in ranks[len(first) :]))

    def part(self, box: Box, operands: Sequence[Type | None], result: int) -> Part | None:
        """What makes a box of result `result`, bit for bit, out of boxes of the operands, all of whose sizes are known.

        None: it takes all of the operands. Weight time works in such parts, so that a tensor need not fit in memory.
        Of an op with one result this follows from `along`; one whose attributes hold sizes must say it itself.
        """
        if self.bodies or len(types := self.results(*operands)) != 1:
            return None
        whole_ = [slice(0, d) for d in types[0].sizes]
        boxes: list[Box | None] = []
        cuts = {i for i, s in enumerate(box) if s != whole_[i]}
        free = set(cuts)  # what is cut, and must run along an operand
        for t, axes in zip(operands, self.along(*operands), strict=True):
            if t is None:
                boxes.append(None)
                continue
            along = list(zip(t.sizes, axes, strict=True))
            if t.format is not None and axes[-1] in cuts:
                return None  # groups are never cut
            boxes.append(tuple(slice(0, n) if r is None or n == 1 else box[r] for n, r in along))
            free -= {r for n, r in along if r is not None and n == whole_[r].stop}
        return None if free else Part(self, tuple(boxes))

    def stateful(self, op: Any, node: Any, state: Any) -> Any:
        """How a node of this op goes on from one step to the next, see `burnish.ir.state`.

        `op` builds, `node` reads what stands for its operands in a step already, `state` has what earlier steps left.
        Returns `INDEPENDENT` where each token's results are made of that token alone, a value (or one for each result)
        that stands for the node's in a step, `Refused(reason)`, or NotImplemented: what `along` says of tokens.
        """
        return NotImplemented

    def results(self, *operands: Type | None, **keywords: Any) -> tuple[Type, ...]:
        """`infer`, as a tuple always.

        A wrong number of operands or attribute is an InferError too, and so is whatever else `infer` raises.
        """
        least = sum(not o.optional and not o.variadic for o in self.operands())
        most = 10**6 if any(o.variadic for o in self.operands()) else len(self.operands())
        if not least <= len(operands) <= most:
            raise InferError(f"{self.name} takes {least} to {most} operands, not {len(operands)}")
        for o, t in zip(self.operands(), operands, strict=False):
            if t is None and not o.optional:
                raise InferError(f"{self.name}: operand {o.name} is missing")
        for name, annotation in _annotations(type(self)).items():
            if not _fits(value := getattr(self, name), annotation):
                wanted = annotation.__name__ if isinstance(annotation, type) else annotation
                raise InferError(f"{self.name}: {name}={value!r} is not of type {wanted}")
        try:
            result = self.infer(*operands, **keywords)
        except (InferError, MemoryError):
            raise
        except Exception as e:  # of attributes or sizes that `infer` does not look at
            raise InferError(f"{self.name}: infer raised {type(e).__name__}: {e}") from e
        return result if isinstance(result, tuple) else (result,)

    @classmethod
    def operands(cls) -> tuple[Operand, ...]:
        """The operands that `infer` declares."""
        return _operands(cls)

    @classmethod
    def position(cls, name: str) -> int:
        """The position of the operand called `name`. Raises InferError."""
        for i, o in enumerate(_operands(cls)):
            if o.name == name:
                return i
        raise InferError(f"{cls.name} has no operand {name!r}; it has {', '.join(o.name for o in _operands(cls))}")

    @classmethod
    def operand(cls, position: int) -> str:
        """The name of the operand at that position."""
        return _operands(cls)[min(position, len(_operands(cls)) - 1)].name

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """The names of the attributes."""
        found = _FIELDS.get(cls)
        if found is None:
            found = tuple(f.name for f in dataclasses.fields(cls))  # type: ignore[arg-type]  # made a dataclass above
            _FIELDS[cls] = found
        return found

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The attributes that need not be given, and their values."""
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # made a dataclass above
        return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}

    @cached_property
    def attributes(self) -> tuple[tuple[str, str], ...]:
        """The attributes that differ from their defaults, in text form. Ops compare by this (1 is not true)."""
        defaults = {k: attribute_text(v) for k, v in self.defaults().items()}
        every = ((k, attribute_text(getattr(self, k))) for k in self.fields())
        return tuple((k, t) for k, t in every if t != defaults.get(k))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Op) and self.attributes == other.attributes

    def __hash__(self) -> int:
        return hash((self.name, self.attributes))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={t}' for k, t in self.attributes)})"

    def changed(self, **attributes: Any) -> Self:
        """The op with other attributes in the place of its own."""
        return dataclasses.replace(self, **attributes) if attributes else self  # type: ignore[type-var]  # a dataclass

    def bind(self, sizes: Mapping[str, Dim]) -> Self:
        """The op with the symbols in its attributes replaced."""
        if not sizes:
            return self
        bound = {k: new for k in self.fields() if (new := _bound(old := getattr(self, k), sizes)) is not old}
        return self.changed(**bound)

    @property
    def symbols(self) -> frozenset[str]:
        """The names of the symbols that its attributes mention."""
        return frozenset(s for k in self.fields() for s in _symbols(getattr(self, k)))


OPS: Registry[type[Op]] = Registry("op")
_OPERANDS: dict[type[Op], tuple[Operand, ...]] = {}
_FIELDS: dict[type[Op], tuple[str, ...]] = {}
_ANNOTATIONS: dict[type[Op], dict[str, Any]] = {}


def _operands(cls: type[Op]) -> tuple[Operand, ...]:
    found = _OPERANDS.get(cls)
    if found is None:
        parameters = list(inspect.signature(cls.infer).parameters.values())[1:]
        found = tuple(
            Operand(p.name, p.default is None, p.kind is p.VAR_POSITIONAL)
            for p in parameters
            if p.kind is not p.KEYWORD_ONLY
        )
        _OPERANDS[cls] = found
    return found


def _annotations(cls: type[Op]) -> dict[str, Any]:
    found = _ANNOTATIONS.get(cls)
    if found is None:
        hints = get_type_hints(cls)
        found = _ANNOTATIONS[cls] = {name: hints[name] for name in cls.fields()}
    return found


def _fits(value: Any, annotation: Any) -> bool:
    if get_origin(annotation) is tuple:
        return isinstance(value, tuple) and all(_fits(v, get_args(annotation)[0]) for v in value)
    if get_origin(annotation) in (Union, UnionType):
        return any(_fits(value, a) for a in get_args(annotation))
    if annotation is Any or isinstance(value, bool):
        return annotation in (Any, bool)
    return isinstance(value, (float, int) if annotation is float else annotation)


def find_op(name: str) -> type[Op]:
    """The op called `name`; a trailing underscore is dropped (`if_`). Raises InferError, with the nearest names."""
    return OPS.get(name.rstrip("_")) or OPS.find(name, InferError)


def _bound(value: Any, sizes: Mapping[str, Dim]) -> Any:
    if isinstance(value, Sym):
        return bind(value, sizes)
    if isinstance(value, tuple) and _symbols(value):
        return tuple(_bound(v, sizes) for v in value)
    return value


def _symbols(value: Any) -> tuple[str, ...]:
    if isinstance(value, Sym):
        return symbols_of(value)
    return tuple(s for v in value for s in _symbols(v)) if isinstance(value, tuple) else ()
