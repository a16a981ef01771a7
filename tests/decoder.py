"""A small decoder, built op by op: what the tests of the engine and of the debugging tools run passes on."""

from __future__ import annotations

from burnish.debug.numbers import made_up_weights
from burnish.ir.builder import Ops
from burnish.ir.dims import Sym
from burnish.ir.graph import Value
from burnish.ir.module import Module, WeightEntry
from burnish.ir.signature import LOGITS, TOKENS, Facts
from burnish.ir.types import Type

WIDTH, HEADS, VOCABULARY = 32, 2, 24
TERMS = 240  # that are added up one sum after another on the way to a logit
PIPELINE = "fuse-qkv,fuse-fma,insert-state,quantize-weights"


def decoder(blocks: int = 2) -> Module:
    """Blocks of a self-attention (qkv to fuse) and of a scale and shift (an fma to fuse), and a head."""
    module = Module(_weights(blocks), facts=Facts(task="text-generation"))
    graph = module.graph("forward")
    op = graph.ops
    ids = graph.input("ids", Type("i32", (Sym("B"), Sym("S"))), TOKENS)
    x = op.embedding(ids, op.weight("embed.weight"))
    for i in range(blocks):
        with op.block("layers", i):
            x = op.add(x, _attention(op, x, f"layers.{i}.attn"))
            x = op.add(op.mul(x, op.weight(f"layers.{i}.scale")), op.weight(f"layers.{i}.shift"))
    graph.set_outputs({"logits": op.linear(x, op.weight("head.weight"))}, {"logits": LOGITS})
    module.normalize()
    module.source = made_up_weights(module)
    return module


def _weights(blocks: int) -> dict[str, WeightEntry]:
    shapes = {"embed.weight": (VOCABULARY, WIDTH), "head.weight": (VOCABULARY, WIDTH)}
    for i in range(blocks):
        shapes |= {f"layers.{i}.attn.{n}.weight": (WIDTH, WIDTH) for n in "qkvo"}
        shapes |= {f"layers.{i}.{n}": (WIDTH,) for n in ("scale", "shift")}
    return {name: WeightEntry(Type("f32", shape)) for name, shape in shapes.items()}


def _attention(op: Ops, x: Value, scope: str) -> Value:
    def linear(name: str, x: Value) -> Value:
        with op.scope(name):
            return op.linear(x, op.weight(f"{scope}.{name}.weight"))

    with op.scope("attn"):
        q, k, v = (op.reshape(linear(n, x), shape=(*x.shape[:2], HEADS, WIDTH // HEADS)) for n in "qkv")
        y = op.attention(q, k, v, causal=True, scale=0.25)
        return linear("o", op.reshape(y, shape=x.shape))
