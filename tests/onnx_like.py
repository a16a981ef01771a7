"""A decoder as torch.onnx.export writes it, of any number of blocks, built op by op: what recovery has to undo."""

from __future__ import annotations

import numpy as np

from burnish.debug.numbers import made_up_weights
from burnish.ir.builder import Ops
from burnish.ir.dims import Sym
from burnish.ir.graph import Value
from burnish.ir.module import Module, WeightEntry
from burnish.ir.signature import LOGITS, TOKENS, Facts
from burnish.ir.types import Type

B, S = Sym("B"), Sym("S")
WIDTH, HEADS, GROUPS, SIZE, INNER, VOCABULARY = 32, 4, 2, 8, 48, 40
MATRICES = {"q": HEADS * SIZE, "k": GROUPS * SIZE, "v": GROUPS * SIZE, "o": WIDTH, "gate": INNER, "up": INNER}


def onnx_like(blocks: int) -> Module:
    """Norms, rotary positions, grouped heads, a mask of shapes alone and a gated MLP, all of them in primitives."""
    shapes: dict[str, tuple[int, ...]] = {"embed": (VOCABULARY, WIDTH), "norm": (WIDTH,), "head": (WIDTH, VOCABULARY)}
    for i in range(blocks):
        shapes |= {f"layers.{i}.{n}": (WIDTH, out) for n, out in MATRICES.items()}
        shapes |= {f"layers.{i}.o": (HEADS * SIZE, WIDTH), f"layers.{i}.down": (INNER, WIDTH)}
        shapes |= {f"layers.{i}.norm1": (WIDTH,), f"layers.{i}.norm2": (WIDTH,)}
    weights = {name: WeightEntry(Type("f32", shape)) for name, shape in shapes.items()}
    module = Module(weights, facts=Facts(task="text-generation"))
    graph = module.graph("forward")
    op = graph.ops
    ids = graph.input("ids", Type("i32", (B, S)), TOKENS)
    x = op.gather(op.weight("embed"), op.cast(ids, to="i64"), axis=0)
    bias, cos, sin = _mask(op), *_tables(op)
    for i in range(blocks):
        with op.block("layers", i):
            x = op.add(x, _attention(op, f"layers.{i}", _norm(op, x, f"layers.{i}.norm1"), bias, cos, sin))
            x = op.add(x, _mlp(op, f"layers.{i}", _norm(op, x, f"layers.{i}.norm2")))
    graph.set_outputs({"logits": op.matmul(_norm(op, x, "norm"), op.weight("head"))}, {"logits": LOGITS})
    module.normalize()
    module.source = made_up_weights(module)
    return module


def _norm(op: Ops, x: Value, weight: str) -> Value:
    mean = op.reduce_mean(op.pow(x, 2.0), axes=(-1,))
    return op.mul(op.weight(weight), op.mul(x, op.reciprocal(op.sqrt(op.add(mean, 1e-6)))))


def _mask(op: Ops) -> Value:
    row, key = op.unsqueeze(op.iota(size=S, dtype="i64"), axes=(0, 1, 3)), op.iota(size=S, dtype="i64")
    seen = op.logical_and(op.constant(np.array(True)), op.less_or_equal(key, row))
    return op.where(op.broadcast_to(seen, shape=(B, 1, S, S)), op.constant(0.0), op.constant(-3.4028234663852886e38))


def _tables(op: Ops) -> tuple[Value, Value]:
    at = op.cast(op.unsqueeze(op.unsqueeze(op.iota(size=S, dtype="i64"), axes=(0,)), axes=(2,)), to="f32")
    angles = op.mul(at, op.constant([1.0, 0.25, 0.0625, 0.015625]))
    twice = op.concat(angles, angles, axis=-1)
    return op.cos(twice), op.sin(twice)


def _rope(op: Ops, x: Value, cos: Value, sin: Value) -> Value:
    left, right = (op.slice(x, axis=3, start=s, stop=s + SIZE // 2) for s in (0, SIZE // 2))
    cos, sin = op.unsqueeze(cos, axes=(1,)), op.unsqueeze(sin, axes=(1,))
    return op.add(op.mul(x, cos), op.mul(op.concat(op.neg(right), left, axis=-1), sin))


def _attention(op: Ops, name: str, x: Value, bias: Value, cos: Value, sin: Value) -> Value:
    def heads(weight: str, count: int) -> Value:
        y = op.reshape(op.matmul(x, op.weight(f"{name}.{weight}")), shape=(B, S, count, SIZE))
        return op.transpose(y, perm=(0, 2, 1, 3))

    def repeated(y: Value) -> Value:
        wide = op.broadcast_to(op.unsqueeze(y, axes=(2,)), shape=(B, GROUPS, HEADS // GROUPS, S, SIZE))
        return op.reshape(wide, shape=(B, HEADS, S, SIZE))

    q, k, v = heads("q", HEADS), heads("k", GROUPS), heads("v", GROUPS)
    q, k, v = _rope(op, q, cos, sin), repeated(_rope(op, k, cos, sin)), repeated(v)
    flat = op.transpose(op.reshape(k, shape=(HEADS * B, S, SIZE)), perm=(0, 2, 1))
    k = op.reshape(flat, shape=(B, HEADS, SIZE, S))
    root = float(np.float32(SIZE**-0.25))
    p = op.softmax(op.add(op.matmul(op.mul(q, root), op.mul(k, root)), bias))
    y = op.matmul(op.where(op.isnan(p), op.constant(0.0), p), v)
    y = op.reshape(op.transpose(y, perm=(0, 2, 1, 3)), shape=(B, S, HEADS * SIZE))
    return op.matmul(y, op.weight(f"{name}.o"))


def _mlp(op: Ops, name: str, x: Value) -> Value:
    gate = op.matmul(x, op.weight(f"{name}.gate"))
    inner = op.mul(op.mul(gate, op.sigmoid(gate)), op.matmul(x, op.weight(f"{name}.up")))
    return op.matmul(inner, op.weight(f"{name}.down"))
