"""A mixture of experts from end to end: against transformers, quantized, in steps, rolled, on both backends."""

from collections import Counter

import jax
import ml_dtypes
import numpy as np
import pytest
import torch
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

import burnish
from burnish.backends.interpreter import Interpreter
from burnish.backends.xla import Xla
from burnish.backends.xla_kernels import XLA_KERNELS, linear
from burnish.ir import Module, Packed, Type, Value
from burnish.ir.builder import Ops
from burnish.ir.dims import Sym
from burnish.ir.evaluate import evaluate
from burnish.ir.module import WeightEntry
from burnish.ir.op import find_op
from burnish.ir.origin import dotted
from burnish.ir.signature import LOGITS, TOKENS
from burnish.ir.weights import MemoryWeights
from burnish.passes.engine import Context
from burnish.passes.pipelines import parse_pipeline, quantized
from burnish.testing.ops import gamma
from tests import models

KERNEL = XLA_KERNELS["expert_linear.rows"]
BLOCKS, VOCABULARY, WIDTH, INNER, EXPERTS, CHOSEN = 3, 48, 64, 96, 8, 2
CONFIG = MixtralConfig(
    hidden_size=WIDTH, intermediate_size=INNER, num_local_experts=EXPERTS, num_experts_per_tok=CHOSEN
)


def mixture(op: Ops, x: Value, block: int) -> Value:
    """Mixtral's: softmax over all, the largest renormalised; silu(w1 x) * (w3 x), then w2."""
    b, s, _ = x.shape
    with op.scope("gate"):
        scores = op.linear(x, weight(op, f"layers.{block}.gate", EXPERTS, WIDTH))
    values, chosen = op.top_k(op.softmax(scores), k=CHOSEN)
    shares = op.div(values, op.reduce_sum(values, axes=(2,)))
    given = op.reshape(x, shape=(b, s, 1, WIDTH))
    with op.scope("w1"):
        gate = op.expert_linear(given, weight(op, f"layers.{block}.w1", EXPERTS, INNER, WIDTH), chosen)
    with op.scope("w3"):
        up = op.expert_linear(given, weight(op, f"layers.{block}.w3", EXPERTS, INNER, WIDTH), chosen)
    with op.scope("w2"):
        y = op.expert_linear(op.mul(op.silu(gate), up), weight(op, f"layers.{block}.w2", EXPERTS, WIDTH, INNER), chosen)
    return op.reduce_sum(op.mul(y, op.reshape(shares, shape=(b, s, CHOSEN, 1))), axes=(2,), keepdims=False)


def weight(op: Ops, name: str, *shape: int) -> Value:
    op.graph.module.weights[name] = WeightEntry(Type("f32", shape))
    return op.weight(name)


@pytest.fixture(scope="module")
def oracle() -> list[MixtralSparseMoeBlock]:
    torch.manual_seed(0)
    made = [MixtralSparseMoeBlock(CONFIG).eval() for _ in range(BLOCKS)]
    for p in (p for block in made for p in block.parameters()):
        torch.nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    return made


@pytest.fixture(scope="module")
def module(oracle: list[MixtralSparseMoeBlock]) -> Module:
    """x + mixture(x), three times, between a table and a head."""
    made = Module()
    graph = made.graph("forward")
    op = graph.ops
    ids = graph.input("ids", Type("i32", (Sym("B"), Sym("S"))), TOKENS)
    with op.scope("embed"):
        x = op.embedding(ids, weight(op, "embed.weight", VOCABULARY, WIDTH))
    for i in range(BLOCKS):
        with op.block("layers", i):
            x = op.add(x, mixture(op, x, i))
    with op.scope("lm_head"):
        logits = op.linear(x, weight(op, "lm_head.weight", VOCABULARY, WIDTH))
    graph.set_outputs({"logits": logits}, {"logits": LOGITS})
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal(e.type.sizes).astype("f4") for n, e in made.weights.items()}
    with torch.no_grad():
        for i, block in enumerate(oracle):
            w1, w3 = block.experts.gate_up_proj.chunk(2, dim=1)
            parts = {"gate": block.gate.weight, "w1": w1, "w2": block.experts.down_proj, "w3": w3}
            arrays |= {f"layers.{i}.{n}": w.numpy().copy() for n, w in parts.items()}
    made.source = MemoryWeights(arrays)
    made.normalize()
    return made


IDS = np.random.default_rng(1).integers(0, VOCABULARY, (2, 7), dtype="i4")


def test_it_is_transformers(module: Module, oracle: list[MixtralSparseMoeBlock]) -> None:
    arrays = {n: torch.tensor(module.source.read(n)) for n in ("embed.weight", "lm_head.weight")}
    with torch.no_grad():
        x = arrays["embed.weight"][torch.tensor(IDS)]
        for block in oracle:
            x = x + block(x)
        expected = (x @ arrays["lm_head.weight"].T).numpy()
    for backend in (Interpreter, Xla):
        results = backend(burnish.optimize(module))("forward", {"ids": IDS})["logits"]
        assert np.abs(np.asarray(results) - expected).max() <= models.WITHIN * np.abs(expected).max()


def test_the_router_is_not_quantized_and_experts_are(module: Module) -> None:
    made = burnish.optimize(module, quantized("q4_0"))
    stored = Counter(str(n[n.op.weight].type) for n in made.graphs["forward"] if n.op.weight)
    assert stored == {
        "q4_0[8, 96, 64]": 2 * BLOCKS,
        "q4_0[8, 64, 96]": BLOCKS,
        "f32[8, 64]": BLOCKS,  # routers
        "q4_0[48, 64]": 1,
        "f32[48, 64]": 1,  # the table
    }
    context = Context(module.copy())
    for pass_ in parse_pipeline(quantized("*.w2=q8_0;router=int8;q4_0")):
        context.run(pass_)
    nodes = {dotted(n.origin.scope): str(n[n.op.weight].dtype) for n in context.module.graphs["forward"] if n.op.weight}
    assert [nodes[f"layers.1.{n}"] for n in ("gate", "w1", "w2", "w3")] == ["int8", "q4_0", "q8_0", "q4_0"]


@pytest.mark.parametrize(
    "pipeline", [*(pytest.param(p, marks=pytest.mark.slow) for p in ("", "stateful")), "stateful,xla"]
)
def test_quantized_rolled_and_in_steps_it_is_the_interpreter(module: Module, pipeline: str) -> None:
    packed = burnish.optimize(module, quantized("q4_0"))
    expected = Interpreter(packed)("forward", {"ids": IDS})["logits"]
    ours = burnish.optimize(packed, pipeline)
    assert any(n.op.name == "repeat" for n in ours.graphs["forward"]) == pipeline.endswith("xla")
    inputs = {"ids": IDS}
    if pipeline:
        inputs |= {"past": np.zeros(2, "i4"), "count": np.full(2, IDS.shape[1], "i4")}
        expected = expected[:, -1:]
    results = Xla(ours)("forward", inputs)["logits"]
    assert np.abs(np.asarray(results) - expected).max() <= models.WITHIN * np.abs(expected).max()


def test_a_package_holds_what_it_was_made_of(module: Module, tmp_path) -> None:
    packed = burnish.optimize(module, quantized("q4_0"))
    burnish.compile(packed, tmp_path / "package")
    again = burnish.load(tmp_path / "package")
    results = [Interpreter(m)("forward", {"ids": IDS})["logits"] for m in (packed, again)]
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize("tokens", [1, 12])
@pytest.mark.parametrize("dtype", ["q4_0", "int8", "bf16", "f32"])
def test_a_block_of_rows_of_an_expert_at_a_time(dtype: str, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 outputs in blocks of 7: the last block overlaps the one before. Fewer choices than experts, and more."""
    monkeypatch.setattr(linear, "BLOCK", 7 * 64)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((tokens, 1, 64)).astype("f4"), rng.standard_normal((5, 24, 64)).astype("f4")
    chosen = rng.integers(0, 5, (tokens, 2), dtype="i4")
    stored = {"f32": lambda: w, "bf16": lambda: w.astype(ml_dtypes.bfloat16)}.get(
        dtype, lambda: Packed.quantize(np, w, dtype).relayout(np, "planes")
    )()
    op = find_op("expert_linear")()
    (expected,) = evaluate(op, np, (x, stored, chosen), ["f32"])
    size = evaluate(op, np, (np.abs(x), np.abs(w) * 2, chosen), ["f32"])[0]
    run = jax.jit(lambda *operands: KERNEL(op, ["f32"], *operands)[0])
    assert (np.abs(np.asarray(run(x, stored, chosen)) - expected) <= 2 * gamma(64) * size).all()
    assert "stablehlo.while" in run.lower(x, stored, chosen).as_text()


def test_inputs_may_be_rounded_and_weights_must_lie_by_rows() -> None:
    op, rng = find_op("expert_linear")(to="f32"), np.random.default_rng(0)
    x, w = (Packed.made_up(f, s, rng) for f, s in (("int8_32", (3, 1, 64)), ("q4_0", (5, 24, 64))))
    chosen = np.array([[4, 0], [1, 1], [2, 3]], "i4")
    (expected,), size = evaluate(op, np, (x, w, chosen), ["f32"]), 64 * np.abs(w.dequantize(np)).max()
    (y,) = KERNEL(op, ["f32"], x, w.relayout(np, "planes"), chosen)
    assert (np.abs(np.asarray(y) - expected) <= gamma(64) * size * np.abs(x.dequantize(np)).max()).all()
    tiles = Type("q4_0", w.shape, "tiles8")
    assert "rows cannot be read" in str(KERNEL.why_not(op, Type("int8_32", x.shape), tiles, Type("i32", (3, 2))))


@pytest.mark.parametrize("tokens", [1, 64])
def test_the_experts_are_never_unpacked_together(tokens: int) -> None:
    """Nor one of them as a whole; left to XLA, an expert is."""
    op, rng = find_op("expert_linear")(), np.random.default_rng(0)
    w = Packed.quantize(np, rng.standard_normal((8, 512, 1024)).astype("f4"), "q4_0").relayout(np, "planes")
    x, chosen = np.zeros((tokens, 1, 1024), "f4"), np.zeros((tokens, 2), "i4")
    temporary = [
        jax.jit(lambda *o, run=run: run(op, *o)).lower(x, w, chosen).compile().memory_analysis().temp_size_in_bytes
        for run in (lambda op, *o: KERNEL(op, ["f32"], *o), lambda op, *o: evaluate(op, jax.numpy, o, ["f32"]))
    ]
    expert, given = 512 * 1024 * 4, 2 * tokens * (1024 + 2 * 512) * 4
    assert temporary[0] < expert + given < temporary[1]
