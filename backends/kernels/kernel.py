"""What a kernel is, the NumPy interpreter's table of them, and the search for the one that runs a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from burnish.backends.native.cpu import why_none
from burnish.ir.format import FORMATS
from burnish.ir.op import Array, Op
from burnish.ir.registry import Registry
from burnish.ir.run import Body, RunError
from burnish.ir.types import Type

if TYPE_CHECKING:
    from burnish.backends.native.emit import Emitter

__all__ = ["KERNELS", "Choice", "Kernel", "NativeKernel", "find_kernel", "layouts_for", "run_kernel"]

KERNELS: Registry[Kernel] = Registry("kernel")


class Kernel:
    """A replacement for `evaluate` on some nodes of one op, over the arrays of one backend: NumPy's, unless said.

    A subclass that gives a `name` is registered by being defined; one without is a base for others. It means exactly
    what `evaluate` means, to the rounding of f32 sums.
    """

    #: where those of its backend stand
    table: ClassVar[Registry[Any]] = KERNELS
    #: what the plan prints: "linear.q4_0"
    name: ClassVar[str]
    #: the name of the op that it runs
    op: ClassVar[str]

    def __init_subclass__(cls, replace: bool = False) -> None:
        if "name" in cls.__dict__:
            cls.table.add(cls.name, cls(), replace)

    def layout_for(self, format: str) -> str | None:
        """The layout in which it reads weights of `format` fastest on this CPU, with int8 activations, if it does."""
        return None

    def why_not(self, op: Any, *operands: Any) -> str | None:
        """None where the kernel can run `op` on operands of these types, else the reason. The op's name is checked.

        A kernel names the operands, as `infer` does: `why_not(self, op, x, w, b=None)`. Symbols may not be bound yet.
        """
        raise NotImplementedError

    def how(self, op: Any, *operands: Any) -> str:
        """What the plan says of a node that it runs."""
        return f"kernel {self.name}"

    def __call__(self, op: Any, dtypes: Sequence[str], *operands: Any, **bodies: Any) -> tuple[Array, ...]:
        """The results of `op`, of the element types `dtypes`. Called only where `why_not` gave None.

        That of an op with bodies gets them as the keyword `bodies`, each a function of arrays.
        """
        raise NotImplementedError


class NativeKernel(Kernel):
    """A kernel of compiled code: it says what is called, and consecutive ones run without Python between them."""

    #: whether operands may be `RingRows`; otherwise they are copied for it
    takes_rings: ClassVar[bool] = False

    #: whether it makes the bytes that NumPy makes, so that it may stand in before run time too
    same_bytes: ClassVar[bool] = False

    def emit(self, emitter: Emitter, op: Any, results: Sequence[Type], *operands: Any) -> tuple[Any, ...]:
        """Take down the calls for a node, whose sizes are all known -> a tensor (or packed one) for each result.

        Operands are tensors too, named as `infer` does. Called only where `why_not` gave None.
        """
        raise NotImplementedError


class Choice(NamedTuple):
    """The kernel that runs a node; or None, and why none does."""

    kernel: Kernel | None
    why_not: str


def find_kernel(op: Op, inputs: Sequence[Type | None], table: Mapping[str, Kernel] = KERNELS) -> Choice:
    """The kernel that runs `op` on operands of these types: of those that can, the one that was defined last.

    Without one, `evaluate` runs it.
    """
    refusals = []
    for kernel in reversed([k for k in table.values() if k.op == op.name]):
        reason = (why_none() if isinstance(kernel, NativeKernel) else "") or kernel.why_not(op, *inputs)
        if reason is None:
            return Choice(kernel, "")
        refusals.append(f"{kernel.name}: {reason}")
    return Choice(None, "; ".join(refusals) or f"no kernel runs {op.name}")


def run_kernel(
    kernel: Kernel, op: Op, dtypes: Sequence[str], bodies: Sequence[Body], operands: Sequence[Array | None]
) -> tuple[Array, ...]:
    """What a kernel that was found gives; it gets bodies where the op has any. Raises RunError for what is no tuple."""
    results = kernel(op, dtypes, *operands, bodies=bodies) if op.bodies else kernel(op, dtypes, *operands)
    if not isinstance(results, tuple):
        raise RunError(f"kernel {kernel.name} of {op.name} gives {type(results).__name__}, not a tuple of its results")
    return results


def layouts_for(op: str) -> dict[str, str]:
    """For each format of weights that a kernel of `op` reads on this CPU, the layout that it wants them in.

    Of several kernels, the one that was defined last says it: it is asked first whether it runs a node.
    """
    layouts: dict[str, str] = {}
    for kernel in reversed(list(KERNELS.values())):
        for format in FORMATS:
            layout = kernel.layout_for(format) if kernel.op == op else None
            if layout is not None:
                layouts.setdefault(format, layout)
    return layouts
