"""A node or more for every op that a kernel runs, in the sizes of a model of 0.5 B parameters: `benchmarks.kernels`.

Operands are types, as graphs write them, behind which integers say what they are: `= 900`, or `< 900` for random ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from burnish.backends.kernels import layouts_for
from burnish.ir.op import OPS, Op, find_op

__all__ = ["Example", "examples"]

HIDDEN, INNER, HEADS, GROUPS, SIZE, KEYS = 896, 4864, 14, 2, 64, 1024
LOGICAL = ("logical_and", "logical_or", "logical_not")


class Example(NamedTuple):
    """An op and what it is given."""

    op: Op
    operands: tuple[str, ...]

    @property
    def title(self) -> str:
        """What is printed of it."""
        return f"{self.op.name}({', '.join(self.types)})"

    @property
    def types(self) -> list[str]:
        """The types of the operands."""
        return [t.partition(" = ")[0].partition(" < ")[0] for t in self.operands]


def example(name: str, *operands: str, **attributes: object) -> Example:
    """Of the op of that name."""
    return Example(find_op(name)(**attributes), operands)


def examples() -> Iterator[Example]:
    """Of every op: one token, and the rows of a prompt."""
    yield example("stack", *["f32[14, 64]"] * 8)
    yield example("mod", "i32[1, 128]", "i32[1] = 7")
    for rows in (1, 128):
        yield from of_rows(f"1,{rows}".replace(",", ", "), rows)
        yield from of_tokens(rows)
    for rows in (1, 4, 128, 512):
        yield from products(rows)
    for layout in sorted(set(layouts_for("linear").values())):
        yield example("relayout", f"q4_0[{INNER}, {HIDDEN}]", layout=layout)
    yield example("dequantize", f"q4_0[{INNER}, {HIDDEN}]")


def of_rows(rows: str, count: int) -> Iterator[Example]:
    """What works element by element, or along the last axis."""
    x, wide = f"f32[{rows}, {HIDDEN}]", f"f32[{rows}, {INNER}]"
    for op in OPS.values():
        if op.elementwise and op.name != "cast" and not any(o.variadic for o in op.operands()):
            number = sum(not o.optional for o in op.operands())
            kinds = ["bool" if op.name in LOGICAL or o.name == "condition" else "f32" for o in op.operands()[:number]]
            given = {"approximate": "none"} if op.name == "gelu" else {}
            yield Example(op(**given), tuple(f"{kind}[{rows}, {INNER}]" for kind in kinds))
    for to in ("f16", "bf16"):
        yield example("cast", wide, to=to)
    yield example("rms_norm", x, f"f32[{HIDDEN}]", eps=1e-6)
    yield example("layer_norm", x, f"f32[{HIDDEN}]", f"f32[{HIDDEN}]", eps=1e-6)
    yield example("quantize", wide, format="int8_32")
    yield example("softmax", f"f32[{rows}, {KEYS}]")
    yield from (example(f"reduce_{how}", wide, axes=(-1,), keepdims=True) for how in ("sum", "mean", "max"))
    yield example("top_k", f"f32[{rows}, 64]", k=8)
    yield example("concat", x, wide, axis=-1)
    yield example("gather", f"f32[{KEYS}, {HIDDEN}]", f"i32[{rows}] < {KEYS}", axis=0)
    yield example("gather_elements", wide, f"i32[{rows}, 64] < {INNER}", axis=2)
    yield example("gather_nd", f"f32[{KEYS}, {HIDDEN}]", f"i32[{count}, 1] < {KEYS}")


def of_tokens(rows: int) -> Iterator[Example]:
    """What knows of tokens and of what came before them."""
    past = f"i32[1] = {KEYS - rows}"
    new, cache = f"f32[1, {rows}, {GROUPS}, {SIZE}]", f"f32[1, {KEYS}, {GROUPS}, {SIZE}]"
    yield example("embedding", f"i32[1, {rows}] < 32000", f"f32[32000, {HIDDEN}]")
    yield example("embedding", f"i32[1, {rows}] < 32000", f"q4_0[32000, {HIDDEN}]")
    yield example("last_row", f"f32[1, {rows}, {HIDDEN}]", f"i32[1] = {rows}")
    yield example("positions", f"i32[1, {rows}] = 1", past)
    yield example("rope", f"f32[1, {rows}, {HEADS}, {SIZE}]", f"i32[1, {rows}] = 900", f"f32[{SIZE // 2}]")
    yield example("attention", f"f32[1, {rows}, {HEADS}, {SIZE}]", cache, cache, past, scale=0.125, causal=True)
    yield example("cache_update", cache, new, past)
    yield example("ring_update", cache, new, past, f"i32[1] = {rows}")
    yield example("relative_bias", f"f32[32, {HEADS}]", past, query=rows, key=KEYS, bidirectional=False)
    yield example("alibi", f"f32[{HEADS}]", past, query=rows, key=KEYS)


def products(rows: int) -> Iterator[Example]:
    """Products with weights as they are stored, and without weights."""
    x = f"f32[{rows}, {INNER}]"
    for dtype in ("f32", "bf16", "f16"):
        yield example("linear", x, f"{dtype}[{HIDDEN}, {INNER}]")
    for format, layout in layouts_for("linear").items() if rows in (1, 128) else ():
        yield example("linear", f"int8_32[{rows}, {INNER}]", f"{format}.{layout}[{HIDDEN}, {INNER}]", to="f32")
        if format in ("q4_0", "q8_0"):
            given = f"int8_32[{rows}, 1, {HIDDEN}]", f"{format}.{layout}[8, 768, {HIDDEN}]", f"i32[{rows}, 2] < 8"
            yield example("expert_linear", *given, to="f32")
    yield example("matmul", f"f32[{HEADS}, {rows}, {SIZE}]", f"f32[{HEADS}, {SIZE}, {KEYS}]")
    if rows <= 4:
        for dtype in ("f32", "q4_0"):
            weight = f"{dtype}[8, 768, {HIDDEN}]"
            yield example("expert_linear", f"f32[{rows}, 1, {HIDDEN}]", weight, f"i32[{rows}, 2] < 8")
