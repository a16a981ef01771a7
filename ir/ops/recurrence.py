"""Recurrences over tokens: a convolution that looks back, and the scan of a state space.

Axes: B sequences, S tokens, C channels, N numbers of state a channel. Batches are right-padded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from burnish.ir.guards import assume_equal
from burnish.ir.op import Array, Arrays, Op
from burnish.ir.signature import COUNT
from burnish.ir.state import INDEPENDENT, Independent, Refused, Steps
from burnish.ir.types import Type, require

if TYPE_CHECKING:
    from burnish.ir.builder import Ops
    from burnish.ir.graph import Node, Value


class CausalConv(Op):
    """b[c] + sum_j w[c, j] * x[b, s + j - (K - 1), c], each channel by itself: x[B, S, C], w[C, K] -> [B, S, C].

    The K - 1 rows before the first are before[B, K - 1, C], or zeros.
    """

    def infer(self, x: Type, w: Type, b: Type | None = None, before: Type | None = None) -> Type:
        _require_floats("causal_conv", x, w, b, before)
        size = w.shape[-1] if w.rank == 2 else None
        good = x.rank == 3 and isinstance(size, int) and size > 0 and w.shape[0] == x.shape[2]
        require(good, f"causal_conv: {w} is not a kernel for each channel of {x}")
        require(b is None or b.shape == x.shape[2:], f"causal_conv: {b} does not fit {x}")
        if before is not None and isinstance(size, int):
            fits = before.dtype == x.dtype and before.rank == 3 and before.shape[1:] == (size - 1, x.shape[2])
            require(fits, f"causal_conv: {before} are not the {size - 1} rows before {x}")
            assume_equal(x.shape[0], before.shape[0], f"causal_conv({x}, {before})")
        return x

    def stateful(self, op: Ops, node: Node, state: Steps) -> Value | Independent | Refused:
        """The rows before are those of earlier steps."""
        size = node["w"].shape[1]
        if not state.carries_tokens(node["x"]) or size == 1:
            return INDEPENDENT
        if node.get("before") is not None or not isinstance(size, int):
            return Refused("it has rows before already")
        return op.again(node, before=state.before("conv", node["x"], size - 1, exact=True))

    def eval(self, xp: Arrays, x: Array, w: Array, b: Array | None = None, before: Array | None = None) -> Array:
        (batch, tokens, channels), size = x.shape, w.shape[1]
        first = xp.zeros((batch, size - 1, channels), x.dtype) if before is None else before
        rows = xp.concatenate([first, x], axis=1)
        y = sum(rows[:, j : j + tokens] * w[:, j] for j in range(size))
        return y if b is None else y + b


class SelectiveScan(Op):
    """h = exp(dt * a) * h + dt * b * x; y = c · h + d * x, a token at a time (arXiv:2312.00752).

    x[B, S, C], dt[B, S, C], a[C, N], b[B, S, N], c[B, S, N], d[C] -> y[B, S, C] and the last h[B, C, N]. h is `state`
    at first, or zero, and stays as it is behind count[b] tokens.
    """

    def infer(
        self,
        x: Type,
        dt: Type,
        a: Type,
        b: Type,
        c: Type,
        d: Type | None = None,
        state: Type | None = None,
        count: Type | None = None,
    ) -> tuple[Type, Type]:
        _require_floats("selective_scan", x, dt, a, b, c, d, state)
        require(x.rank == 3 and a.rank == 2 and a.shape[0] == x.shape[2], f"selective_scan: {a} does not fit {x}")
        for operand, last in ((dt, x.shape[2]), (b, a.shape[1]), (c, a.shape[1])):
            fits = operand.dtype == x.dtype and operand.rank == 3 and operand.shape[2] == last
            require(fits, f"selective_scan: {operand} does not fit {x} and {a}")
            for i in (0, 1):
                assume_equal(x.shape[i], operand.shape[i], f"selective_scan({x}, {operand})")
        require(d is None or d.shape == x.shape[2:], f"selective_scan: {d} does not fit {x}")
        require(count is None or (count.rank == 1 and count.dtype == "i32"), f"selective_scan: {count} are not counts")
        require(state is None or (state.rank == 3 and state.shape[1:] == a.shape), f"selective_scan: no state: {state}")
        for other in (state, count):
            if other is not None:
                assume_equal(x.shape[0], other.shape[0], f"selective_scan({x}, {other})")
        return x, state or Type(x.dtype, (x.shape[0], *a.shape))

    def stateful(self, op: Ops, node: Node, state: Steps) -> Sequence[Value] | Independent | Refused:
        """h goes on from step to step."""
        if not state.carries_tokens(node["x"]):
            return INDEPENDENT
        if node.get("state") is not None:
            return Refused("it has a state already")
        if node.outputs[1].uses:
            return Refused("its last state, which is read, is another one in each step")
        if (count := node.get("count")) is not None and count.role != COUNT:
            return Refused("its count is not that of the tokens")

        def step(old: Value) -> tuple[Value, Value]:
            y, new = op.again(node, state=old, count=state.count)
            return new, y

        new, y = state.carry("h", node.outputs[1].type, step)
        return y, new

    def eval(
        self,
        xp: Arrays,
        x: Array,
        dt: Array,
        a: Array,
        b: Array,
        c: Array,
        d: Array | None = None,
        state: Array | None = None,
        count: Array | None = None,
    ) -> tuple[Array, Array]:
        if count is not None:  # exp(0 * a) * h + 0 is h
            dt = xp.where((xp.arange(x.shape[1], dtype="int32") < count[:, None])[..., None], dt, 0)

        def step(h: Array, token: tuple[Array, ...]) -> tuple[Array, Array]:
            dt, x, b, c = token
            h = xp.exp(dt[..., None] * a) * h + (dt * x)[..., None] * b[:, None]
            return h, xp.matmul(h, c[..., None])[..., 0]

        h = xp.zeros((x.shape[0], *a.shape), x.dtype) if state is None else state
        h, y = _scan(xp, step, h, (dt, x, b, c), like=x)
        return (y if d is None else y + d * x), h


def _scan(
    xp: Arrays,
    step: Callable[[Array, tuple[Array, ...]], tuple[Array, Array]],
    h: Array,
    xs: tuple[Array, ...],
    like: Array,
) -> tuple[Array, Array]:
    """The last h, and what each step gives, along axis 1: token t of all `xs` is taken together."""
    if xp is np:
        y = np.empty_like(like)
        for t in range(like.shape[1]):
            h, y[:, t] = step(h, tuple(x[:, t] for x in xs))
        return h, y
    import jax

    h, ys = jax.lax.scan(step, h, tuple(xp.moveaxis(x, 1, 0) for x in xs))
    return h, xp.moveaxis(ys, 0, 1)


def _require_floats(name: str, *operands: Type | None) -> None:
    """All of them floats; f64 goes with f64 alone, for the others are computed in f32."""
    given = [t for t in operands if t is not None]
    good = all(t.is_float for t in given) and len({t.dtype == "f64" for t in given}) == 1
    require(good, f"{name}: {', '.join(map(str, given))} are not floats that go together")
