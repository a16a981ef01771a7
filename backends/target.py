"""Targets: what modules are made ready for, and run on. Adding one is one class."""

from __future__ import annotations

from typing import ClassVar

from burnish.backends.backend import Backend
from burnish.backends.static import Static
from burnish.ir.module import Module
from burnish.ir.registry import Registry

__all__ = ["TARGETS", "Target", "make_backend"]


class Target:
    """Names the passes that make a module ready, and makes the backend that runs it.

    A subclass that gives a `name` is registered by being defined. It imports what is heavy when it is asked for
    a backend, not before.
    """

    #: what `--backend` calls it; in a pipeline's text the name stands for `passes`
    name: ClassVar[str]
    #: the passes after all that are free of a target, each with the reason for its place
    passes: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init_subclass__(cls, replace: bool = False) -> None:
        if "name" in cls.__dict__:
            TARGETS.add(cls.name, cls(), replace)

    def activation_passes(self, activations: str) -> tuple[str, ...]:
        """The passes, before `passes`, that make products with quantized weights take `activations`: int8 or float.

        "" leaves it to the target.
        """
        return ("quantize-activations",) if activations == "int8" else ()

    def backend(self, module: Module, static: Static) -> Backend:
        """What runs the graphs of `module`, to which the passes have been applied.

        `static` is shared by the backends that the target makes for forms of one module.
        """
        raise NotImplementedError


TARGETS: Registry[Target] = Registry("backend")


def make_backend(target: str, module: Module, static: Static | None = None) -> Backend:
    """The backend of the target of that name, for `module`. Raises ValueError for a name that is none.

    `static` holds what other forms of the same module have computed of its weights on the same target.
    """
    return TARGETS.find(target, ValueError).backend(module, static or Static())


class NumPy(Target):
    """The interpreter, with compiled kernels: starts at once, and is the reference."""

    name = "numpy"

    def activation_passes(self, activations: str) -> tuple[str, ...]:
        """Unless something is asked for, int8 just where a kernel gains by it; weights as these kernels read them."""
        return _for_kernels(activations) if activations != "float" else ()

    def backend(self, module: Module, static: Static) -> Backend:
        from burnish.backends.interpreter import Interpreter

        return Interpreter(module, static)


class XlaTarget(Target):
    """XLA, by way of JAX: compiles a function for each size first."""

    name = "xla"
    passes = (
        ("set-layouts{layout=planes}", "before roll-blocks, which stacks the weights as they lie"),
        ("roll-blocks", "last: whatever made blocks unequal is done, and no pass need look into a loop"),
    )

    def activation_passes(self, activations: str) -> tuple[str, ...]:
        """On a CPU, the kernels of `NumPy` run the products, and want the same."""
        if activations == "float":
            return ()
        import jax

        return _for_kernels(activations) if jax.default_backend() == "cpu" else super().activation_passes(activations)

    def backend(self, module: Module, static: Static) -> Backend:
        from burnish.backends.xla import Xla

        return Xla(module, static)


def _for_kernels(activations: str) -> tuple[str, ...]:
    """Activations, rounded as asked or else where a compiled kernel gains by it, and weights as these read them."""
    from burnish.backends.kernels import layouts_for

    layouts = layouts_for("linear")
    formats = ["quantize-activations"] if activations else [f"quantize-activations{{format={f}}}" for f in layouts]
    return (*formats, *(f"set-layouts{{layout={layout}}}" for layout in dict.fromkeys(layouts.values())))
