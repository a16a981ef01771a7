"""Blocks that repeat, as a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from burnish.backends.xla_kernels.kernel import Slot, XlaKernel, whole
from burnish.ir.op import Array
from burnish.ir.ops.control import Repeat
from burnish.ir.types import Type

__all__ = ["RepeatAsLoop"]


class RepeatAsLoop(XlaKernel):
    """One `lax.scan`, its body given slots; the stacks of states are carried, so that XLA writes into them."""

    name = "repeat.loop"
    op = "repeat"
    in_stack = ("operands",)  # what is shared is handed on as it lies

    def why_not(self, op: Repeat, *operands: Type) -> str | None:
        """It takes all of them."""
        return None

    def how(self, op: Repeat, *operands: Type) -> str:
        """That states are not copied."""
        return f"kernel {self.name}, its states written in place"

    def __call__(
        self, op: Repeat, dtypes: Sequence[str], *operands: Array, bodies: Sequence[Callable[..., Any]]
    ) -> tuple[Array, ...]:
        carried, shared, stacked = op.apart(operands)
        stacks = [whole(x) for x in stacked]

        def step(state: tuple[list[Array], list[Array]], i: Array) -> tuple[Any, Any]:
            carries, states = state
            slots = [Slot(x, i, n) for n, x in enumerate(states)] + [Slot(x, i) for x in stacks[op.states :]]
            results = bodies[0](*carries, *shared, *slots)
            new = [_written(states[n], i, n, r) for n, r in enumerate(results[op.carries : op.carries + op.states])]
            further = [whole(r) for r in results[op.carries + op.states :]]
            return ([whole(r) for r in results[: op.carries]], new), further

        start = [whole(x) for x in carried], stacks[: op.states]
        (carries, states), further = jax.lax.scan(step, start, jnp.arange(op.count, dtype="int32"))
        return (*carries, *states, *further)


def _written(stack: Array, index: Array, state: int, new: Array) -> Array:
    """The stack after a run that returned `new` for its block."""
    if isinstance(new, Slot) and new.state == state:
        return new.stack
    return jax.lax.dynamic_update_index_in_dim(stack, whole(new), index, axis=0)
