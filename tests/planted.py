"""Planted faults: each is noticed by `debug check`, and named rightly by `debug bisect` or called inconclusive.

    python -m tests.planted             prints the table: fault, noticed, verdict, right, runs, seconds
    python -m tests.planted NAME ...    those of that name, with the whole report

`tests/debug/test_planted.py` holds to the same what is fast.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import burnish
from burnish.backends.xla_kernels import XlaKernel
from burnish.debug.bisect import Bisection, bisect_pipeline
from burnish.debug.check import Checker
from burnish.debug.numbers import made_up_weights
from burnish.frontends.architecture import build_module, parameters
from burnish.frontends.architectures.llama import Llama
from burnish.frontends.config import Config
from burnish.frontends.stored import Tensors
from burnish.ir import parse
from burnish.ir.builder import Ops
from burnish.ir.format import Parts
from burnish.ir.formats.q8_0 import Q8_0
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.guards import AtMost
from burnish.ir.module import Module
from burnish.ir.op import Array, Arrays, Op
from burnish.ir.ops.attention import Attention, CacheUpdate, LastRow, Positions, RingUpdate
from burnish.ir.ops.elementwise import Add, Mul, Silu
from burnish.ir.ops.linear import Embedding, Linear
from burnish.ir.ops.normalization import RmsNorm
from burnish.ir.registry import Registry
from burnish.ir.types import Type
from burnish.passes.engine import Context, Match, Pass, RewritePass, Rule
from tests.decoder import decoder

TINY_LM = Path(__file__).parents[1] / "examples" / "tiny-lm"


@dataclass(frozen=True)
class Fault:
    """What is planted: `plant` defines the pass `planted` and whatever else; `right` judges the verdict."""

    name: str
    plant: Callable[[], None]
    right: Callable[[Bisection], bool]
    model: Callable[[], Module] = lambda: decoder(4)
    pipeline: str = "planted"
    backend: str = ""


@dataclass(frozen=True)
class Ran:
    """What became of a fault."""

    fault: Fault
    noticed: bool
    found: Bisection
    seconds: float

    @property
    def is_right(self) -> bool:
        """Noticed, and named rightly, or called inconclusive with the fault shown where that is right."""
        return self.noticed and self.fault.right(self.found)


FAULTS: dict[str, Fault] = {}


def planted(
    right: Callable[[Bisection], bool],
    model: Callable[[], Module] = lambda: decoder(4),
    pipeline: str = "planted",
    backend: str = "",
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Enters a fault by the name of the function that plants it."""

    def enter(plant: Callable[[], None]) -> Callable[[], None]:
        name = plant.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, plant, right, model, pipeline, backend)
        return plant

    return enter


def run(fault: Fault) -> Ran:
    """Plant it, check, bisect; what was defined is gone afterwards."""
    saved = Registry.snapshot()
    began = time.perf_counter()
    try:
        fault.plant()
        checker = Checker(fault.model(), backend=fault.backend)
        found = bisect_pipeline(checker, fault.pipeline)
        return Ran(fault, _is_noticed(checker, fault.pipeline), found, time.perf_counter() - began)
    finally:
        Registry.restore(saved)


def _is_noticed(checker: Checker, pipeline: str) -> bool:
    try:
        return any(v.fault is not None or v.misfits for v in checker.verdicts(checker.passes(pipeline)))
    except ValueError:  # a pass that crashes, or goes round the door
        return True


# ------------------------------------------------------------------------------------------------------ what is right


def rule(name: str, *scopes: str) -> Callable[[Bisection], bool]:
    """One culprit: this rule, at just these places."""

    def right(found: Bisection) -> bool:
        if found.culprits is None or len(found.culprits) != 1:
            return False
        (culprit,) = found.culprits
        places = [a.scope for a in culprit.applications]
        return not culprit.untried and {a.rule for a in culprit.applications} == {name} and places == list(scopes)

    return right


def _is_restructuring(found: Bisection) -> bool:
    return [[a.rule for a in c.applications] for c in found.culprits or ()] == [["_Restructuring"]]


def _all_quantized(found: Bisection) -> bool:
    culprits = found.culprits or []
    return len(culprits) == 1 and {a.rule for a in culprits[0].applications} == {"QuantizeWeight"}


def _two_that_cancel(found: Bisection) -> bool:
    rules = [{a.rule for a in c.applications} for c in found.culprits or ()]
    return sorted(map(sorted, rules)) in ([["Halved"], ["Doubled"]], [["Doubled"], ["Halved"]])


def _random(found: Bisection) -> bool:
    """No other rule is named."""
    rules = {a.rule for c in found.culprits or () for a in c.applications}
    return found.fault is not None and rules <= {"Flaky"}


def _together(found: Bisection) -> bool:
    culprits = found.culprits or []
    return (
        len(culprits) == 1
        and culprits[0].together
        and [a.scope for a in culprits[0].applications] == ["layers[0]", "layers[2]"]
    )


BLOCKS = [f"layers[{i}]" for i in range(4)]
TINY = [f"model.layers[{i}]" for i in range(4)]


# ------------------------------------------------------------------------------------------------------- how to plant


def rewrite(
    name: str,
    at: type[Op] | tuple[type[Op], ...],
    build: Callable[[Ops, Node], Any],
    scope: str = "",
    exactness: str = "exact",
    where: Callable[[Node], bool] = lambda node: True,
) -> type[Rule]:
    """A rule that replaces each node of an op, within scopes that hold `scope`, once."""

    def find(self: Rule, node: Node) -> Iterable[Match]:
        if scope in node.origin.scope and name not in node.origin.rules and where(node):
            yield Match({}, [node], list(node.outputs), [])

    def built(self: Rule, op: Ops, out: Value) -> Any:
        assert out.node is not None
        return build(op, out.node)

    kinds = at if isinstance(at, tuple) else (at,)
    fields = {"__doc__": f"a planted fault at {kinds[0].__name__}", "at": kinds, "find": find, "build": built}
    return type(name, (Rule,), fields | {"exactness": exactness})


def planted_pass(*rules: type[Rule], name: str = "Planted") -> None:
    """The pass `planted` that applies these."""
    type(name, (RewritePass,), {"rules": rules, "__doc__": "A planted fault."})


class _Restructuring(Rule):
    exactness = "exact"


def restructuring(change: Callable[[Ops, Graph], None]) -> None:
    """The pass `planted` that restructures the main graph."""

    def run(self: Pass, module: Module, ctx: Context) -> None:
        graph = module.main or next(iter(module.graphs.values()))
        ctx.restructure(_Restructuring(), graph, lambda op: change(op, graph))

    type("Planted", (Pass,), {"rules": (_Restructuring,), "__doc__": "A planted fault.", "run": run})


def tiny_lm() -> Module:
    """The bundled model."""
    return burnish.load(TINY_LM)


def small_llama(blocks: int = 2) -> Module:
    """Blocks of the bundled model's kind, narrow."""
    sizes = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 256}
    config = Config(sizes | {"num_hidden_layers": blocks, "num_attention_heads": 4, "num_key_value_heads": 2})
    module = build_module("LlamaForCausalLM", config, Tensors(parameters(Llama, config)))
    module.source = made_up_weights(module)
    return module


def silu() -> Module:
    """One op."""
    return parse('module { graph forward(%x: f32[N, 8]) { %0: f32[N, 8] = silu(%x) <- "silu" return y=%0 } }')


def windowed() -> Module:
    """The small decoder with a window of 7."""
    return parse(str(decoder(4)).replace("causal=true", "causal=true, window=7"))


TWO_OUTPUTS = """module {
  graph forward(%x: f32[B, 8]) {
    %0: f32[B, 8] = exp(%x) <- "exp"
    %1: f32[B, 8] = tanh(%x) <- "tanh"
    return grown=%0, bounded=%1
  }
}"""

TWO_TABLES = """module {
  weights {
    @words: f32[20, 8]
    @types: f32[2, 8]
  }
  graph forward(%ids: i32[B, S] is tokens, %types: i32[B, S] is token_types) {
    %0: f32[B, S, 8] = embedding(%ids, @words) <- "words"
    %1: f32[B, S, 8] = embedding(%types, @types) <- "types"
    %2: f32[B, S, 8] = add(%0, %1) <- "sum"
    return hidden=%2 is hidden
  }
}"""

NORM = """module {
  graph forward(%x: f32[N, 8]) {
    %0: f32[N, 8] = mul(%x, %x) <- "square"
    %1: f32[N, 1] = reduce_mean(%0, axes=[1], keepdims=true) <- "mean"
    %2: f32[N, 1] = add(%1, f32(1e-6)) <- "eps"
    %3: f32[N, 1] = rsqrt(%2) <- "rsqrt"
    %4: f32[N, 8] = mul(%x, %3) <- "scale"
    return y=%4
  }
}"""


# --------------------------------------------------------------------------------------------------------- the faults


@planted(rule("Wrong", *(f"{b}.mlp" for b in TINY)), tiny_lm)
def wrong_everywhere() -> None:
    planted_pass(rewrite("Wrong", Silu, lambda op, n: op.sigmoid(n["x"])))


@planted(rule("Wrong", "model.layers[2].mlp"), tiny_lm)
def wrong_in_one_layer() -> None:
    def build(op: Ops, n: Node) -> Value:
        return op.mul(op.silu(n["x"]), 1.001 if "layers[2]" in n.origin.scope else 1.0)

    planted_pass(rewrite("Wrong", Silu, build, exactness="rounding"))


@planted(rule("Wrong", "layers[1]", "layers[3]"))
def wrong_in_two_of_four_layers() -> None:
    def build(op: Ops, n: Node) -> Value:
        odd = any(f"layers[{i}]" in n.origin.scope for i in (1, 3))
        return op.add(op.mul(n["a"], n["b"]), 1e-3 if odd else 0.0)

    planted_pass(rewrite("Wrong", Mul, build, exactness="rounding"))


@planted(rule("Uncounted", "model"), small_llama, "default,stateful,planted")
def positions_forget_the_past() -> None:
    past = lambda n: n["past"] is not None  # noqa: E731
    planted_pass(rewrite("Uncounted", Positions, lambda op, n: op.positions(n["ids"]), where=past))


@planted(rule("Forgetful", "layers[1].attn"), pipeline="stateful,planted")
def dropped_state() -> None:
    def build(op: Ops, n: Node) -> Value:
        return op.cache_update(op.mul(n["cache"], 0.0), n["new"], n["past"])

    planted_pass(rewrite("Forgetful", CacheUpdate, build, where=lambda n: n["cache"].name == "k1"))


@planted(_is_restructuring, pipeline="stateful,planted")
def removed_state() -> None:
    def change(op: Ops, graph: Graph) -> None:
        state = graph.states["k0"]
        zeros = op.mul(graph.states["v0"], 0.0)
        graph.replace(state, zeros)
        graph.set_outputs({k: v for k, v in graph.outputs.items() if k != "k0"})
        graph.remove_input(state)

    restructuring(change)


@planted(rule("LastOfAll", ""), small_llama, "default,stateful,planted")
def ragged_batches_only() -> None:
    def build(op: Ops, n: Node) -> Value:
        length = n["x"].shape[1]
        return op.slice(n["x"], axis=1, start=length - 1, stop=length)

    planted_pass(rewrite("LastOfAll", LastRow, build))


@planted(rule("Wider", *(f"{b}.attn" for b in BLOCKS)), windowed)
def beyond_the_window_only() -> None:
    planted_pass(rewrite("Wider", Attention, lambda op, n: op.again(n, n.op.changed(window=8)), exactness="rounding"))


@planted(rule("Leaky", "layers[1].attn"), pipeline="stateful,planted")
def what_does_not_fit_without_a_state() -> None:
    def build(op: Ops, n: Node) -> Value:
        past = op.linear(n["q"], n["k"]) if n["past"] is None else n["past"]  # the first does not fit
        return op.again(n, past=op.minimum(past, 5))

    planted_pass(rewrite("Leaky", Attention, build, "layers[1]", exactness="rounding"))


@planted(rule("NoRing", "layers[2].attn"), windowed, "stateful,planted")
def ring_wrong_once_it_is_full() -> None:
    def build(op: Ops, n: Node) -> Any:
        return op.ring_update(n["ring"], n["new"], op.minimum(n["past"], 6), n["count"])

    planted_pass(rewrite("NoRing", RingUpdate, build, where=lambda n: n["ring"].name == "v2"))


@planted(rule("FirstType", ""), lambda: parse(TWO_TABLES))
def tokens_of_another_type_only() -> None:
    def build(op: Ops, n: Node) -> Value:
        return op.again(n, ids=op.mul(n["ids"], 0))

    planted_pass(rewrite("FirstType", Embedding, build, where=lambda n: n["ids"].name == "types"))


@planted(rule("Short", "model.layers[1].input_layernorm"), tiny_lm)
def beyond_forty_tokens_only() -> None:
    def build(op: Ops, n: Node) -> Value:
        length = n["x"].shape[1]
        early = op.less(op.iota(size=length), 40)
        return op.again(n, x=op.mul(n["x"], op.reshape(op.cast(early, to="f32"), shape=(1, length, 1))))

    planted_pass(rewrite("Short", RmsNorm, build, "layers[1].input"))


@planted(rule("OneToken", "layers[3].attn.o"))
def one_token_only() -> None:
    def build(op: Ops, n: Node) -> Value:
        length = n["x"].shape[1]
        one = op.cast(op.equal(op.reduce_max(op.iota(size=length), axes=(0,)), 0), to="f32")
        return op.linear(op.mul(n["x"], op.sub(1.0, op.mul(one, 0.1))), n["w"])

    planted_pass(rewrite("OneToken", Linear, build, "layers[3].attn.o", where=lambda n: "attn.o" in n.origin.scope))


@planted(lambda found: [op.op for op in found.ops] == ["silu"], lambda: small_llama(1), "default", "xla")
def xla_kernel() -> None:
    class SiluWrong(XlaKernel):
        name, op = "silu.wrong", "silu"

        def why_not(self, op: Op, x: Type) -> str | None:
            return None

        def __call__(self, op: Op, dtypes: Any, x: Array) -> tuple[Array, ...]:
            import jax

            return (jax.nn.silu(x) * 1.001,)


@planted(
    lambda found: [op.op for op in found.ops] == ["almost_silu"],
    pipeline="planted",
    backend="xla",
    model=silu,
)
def op_wrong_in_jax() -> None:
    class AlmostSilu(Op):
        """x * sigmoid(x), but by JAX"""

        def infer(self, x: Type) -> Type:
            return x

        def eval(self, xp: Arrays, x: Array) -> Array:
            return x / (1 + xp.exp(-x)) * x.dtype.type(1.0 if xp is np else 1.001)

    planted_pass(rewrite("ToPlugin", Silu, lambda op, n: op.almost_silu(n["x"]), exactness="rounding"))


@planted(rule("ToPlugin", ""), model=silu)
def op_wrong_in_a_plugin() -> None:
    class FastSilu(Op):
        """x * sigmoid(x), nearly"""

        def infer(self, x: Type) -> Type:
            return x

        def eval(self, xp: Arrays, x: Array) -> Array:
            return x * (x.dtype.type(0.5) + xp.tanh(x / 2) * x.dtype.type(0.4999))

    planted_pass(rewrite("ToPlugin", Silu, lambda op, n: op.fast_silu(n["x"]), exactness="rounding"))


def quantizing(damage: Callable[[Ops, Value], Value], scope: str) -> None:
    """Weights in q8_0, that of one product after `damage`."""

    def build(op: Ops, n: Node) -> Value:
        w = damage(op, n["w"]) if scope in n.origin.scope else n["w"]
        return op.linear(n["x"], op.quantize(w, format="q8_0"), to=n.out.dtype)

    planted_pass(rewrite("ToQ8", Linear, build, exactness="lossy"))


@planted(rule("ToQ8", "model.layers[1].mlp.up_proj"), small_llama, "recover,planted")
def one_tensor_scaled() -> None:
    quantizing(lambda op, w: op.mul(w, 1.03), "layers[1].mlp.up")


@planted(rule("ToQ8", "layers[2].attn.o"))
def one_tensor_by_the_wrong_axis() -> None:
    quantizing(lambda op, w: op.transpose(w, perm=(1, 0)), "layers[2].attn.o")


def quantizing_in(change: Callable[[Parts], Parts]) -> None:
    """A format that quantizes as q8_0 does, but for `change`."""

    def quantize(self: Q8_0, x: np.ndarray) -> Parts:
        return change(Q8_0.quantize(self, x))

    name = "Q8Planted"
    type(name, (Q8_0,), {"quantize": quantize, "__doc__": "Q8_0, with a fault."})


@planted(_all_quantized, pipeline="quantize-weights{recipe=q8planted}")
def scales_of_groups_exchanged() -> None:
    quantizing_in(lambda parts: {**parts, "scale": parts["scale"][::-1].copy()})


@planted(_all_quantized, pipeline="quantize-weights{recipe=q8planted}")
def codes_off_by_one() -> None:
    quantizing_in(lambda parts: {**parts, "code": np.clip(parts["code"], -126, 125) + parts["code"].dtype.type(2)})


@planted(rule("ToInt8", "layers[1].attn.v"), pipeline="quantize-weights,planted")
def one_activation_scaled() -> None:
    def build(op: Ops, n: Node) -> Value:
        x = op.mul(n["x"], 1.01) if "layers[1].attn.v" in n.origin.scope else n["x"]
        return op.linear(op.quantize(x, format="int8_32"), n["w"], to=n.out.dtype)

    planted_pass(rewrite("ToInt8", Linear, build, exactness="lossy"))


@planted(_is_restructuring)
def renamed_output() -> None:
    restructuring(
        lambda op, graph: graph.set_outputs({"scores": graph.outputs["logits"]}, {"scores": graph.roles["logits"]})
    )


@planted(_is_restructuring)
def added_output() -> None:
    restructuring(lambda op, graph: graph.set_outputs({**graph.outputs, "more": graph.outputs["logits"]}))


@planted(_is_restructuring, lambda: parse(TWO_OUTPUTS))
def missing_output() -> None:
    restructuring(lambda op, graph: graph.set_outputs({"grown": graph.outputs["grown"]}))


@planted(_is_restructuring, lambda: parse(TWO_OUTPUTS))
def swapped_outputs() -> None:
    restructuring(
        lambda op, graph: graph.set_outputs(dict(zip(graph.outputs, reversed(graph.outputs.values()), strict=True)))
    )


@planted(lambda found: found.pass_text == "planted")
def round_the_door() -> None:
    def run(self: Pass, module: Module, ctx: Context) -> None:
        graph = module.graphs["forward"]
        node = next(n for n in graph if isinstance(n.op, Add))
        node.op = type(node.op)()
        node.inputs = node.inputs[::-1]

    type("Planted", (Pass,), {"__doc__": "A planted fault.", "run": run})


@planted(lambda found: found.pass_text == "planted")
def pass_that_crashes() -> None:
    def run(self: Pass, module: Module, ctx: Context) -> None:
        raise KeyError("nothing by that name")

    type("Planted", (Pass,), {"__doc__": "A planted fault.", "run": run})


@planted(lambda found: "planted/Narrow" in str(found) and "layers[2].attn.v" in str(found))
def another_type() -> None:
    planted_pass(
        rewrite("Narrow", Linear, lambda op, n: op.cast(op.linear(n["x"], n["w"]), to="bf16"), "layers[2].attn.v")
    )


@planted(rule("Broken", *BLOCKS))
def build_that_crashes() -> None:
    planted_pass(rewrite("Broken", Mul, lambda op, n: {}["no"]))


@planted(
    lambda found: all(
        f"planted/{r} at layers[0]" in str(found) or f"{r} (exact)" in str(found) for r in ("Away", "Back")
    )
)
def rules_that_undo_each_other() -> None:
    class Away(Rule):
        """mul(x, w) -> mul(w, x), where x is not a weight"""

        def match(self, op: Ops, x: Value, w: Value) -> Any:
            return op.mul(x, w)

        def where(self, x: Value, w: Value) -> str | None:
            return None if w.is_weight else ""

        def build(self, op: Ops, x: Value, w: Value) -> Value:
            return op.mul(w, x)

    class Back(Rule):
        """mul(w, x) -> mul(x, w), where w is a weight"""

        def match(self, op: Ops, w: Value, x: Value) -> Any:
            return op.mul(w, x)

        def where(self, w: Value) -> str | None:
            return None if w.is_weight else ""

        def build(self, op: Ops, w: Value, x: Value) -> Value:
            return op.mul(x, w)

    planted_pass(Away, Back)


@planted(_random)
def rule_that_is_wrong_at_random() -> None:
    coin = itertools.cycle([True, True, False, True, False, False, False])

    planted_pass(
        rewrite(
            "Flaky", Mul, lambda op, n: op.mul(n["a"], op.mul(n["b"], 1.5 if next(coin) else 1.0)), exactness="rounding"
        )
    )


@planted(_two_that_cancel, pipeline="planted,planted-too")
def two_wrongs_that_cancel() -> None:
    planted_pass(rewrite("Doubled", Linear, lambda op, n: op.mul(op.linear(n["x"], n["w"]), 2.0), "layers[1].attn.o"))
    planted_pass(
        rewrite("Halved", Linear, lambda op, n: op.mul(op.linear(n["x"], n["w"]), 0.5), "layers[1].attn.o"),
        name="PlantedToo",
    )


@planted(_together)
def two_that_fail_only_together() -> None:
    class Remembers(Rule):
        """mul(x, w) -> mul(x, w of the place before), in blocks 0 and 2"""

        def match(self, op: Ops, x: Value, w: Value) -> Any:
            return op.mul(x, w)

        def where(self, out: Value) -> str | None:
            assert out.node is not None
            scope = out.node.origin.scope
            fresh = "Remembers" not in out.node.origin.rules
            return None if fresh and scope in ("layers[0]", "layers[2]") else ""

        def build(self, op: Ops, x: Value, w: Value) -> Value:
            self.__dict__.setdefault("w", w)
            return op.mul(x, self.__dict__["w"])

    planted_pass(Remembers)


@planted(rule("NoEps", ""), lambda: parse(NORM))
def not_a_number_for_zeros() -> None:
    planted_pass(rewrite("NoEps", Add, lambda op, n: op.mul(n["a"], 1.0), exactness="rounding"))


@planted(rule("Guarded", *(f"{b}.attn" for b in BLOCKS)))
def guard_that_refuses_too_much() -> None:
    def build(op: Ops, n: Node) -> Value:
        op.assume(AtMost(n["q"].shape[1], 16))
        return op.again(n)

    planted_pass(rewrite("Guarded", Attention, build))


@planted(rule("Unguarded", "layers[1].attn.q"))
def guard_that_is_missing() -> None:
    def build(op: Ops, n: Node) -> Value:
        length = n["x"].shape[1]
        kept = op.cast(op.less(op.iota(size=length), 16), to="f32")
        return op.linear(op.mul(n["x"], op.reshape(kept, shape=(1, length, 1))), n["w"])

    planted_pass(rewrite("Unguarded", Linear, build, "layers[1].attn.q"))


@planted(rule("Cast", "model.layers[3].mlp.down_proj"), tiny_lm)
def exact_only_by_its_own_word() -> None:
    def build(op: Ops, n: Node) -> Value:
        return op.cast(op.cast(op.linear(n["x"], n["w"]), to="bf16"), to="f32")

    planted_pass(rewrite("Cast", Linear, build, "layers[3].mlp.down", exactness="rounding"))


# ---------------------------------------------------------------------------------------------------------- the table


def verdict_of(found: Bisection) -> str:
    """In a few words."""
    if found.culprits is None:
        return f"inconclusive: {found.reason[:40]}"
    if found.pass_text:
        return f"pass {found.pass_text}"
    if found.ops:
        return ", ".join(f"op {op.op} ({op.how})" for op in found.ops)
    each = [f"{c.applications[0].rule} x{len(c.applications)}{' together' * c.together}" for c in found.culprits]
    return ", ".join(each) or "nothing"


def main(names: list[str]) -> int:
    """Print the table; 1 where a fault is not noticed, or the verdict is wrong."""
    wrong = 0
    print(f"{'fault':32} {'noticed':8} {'verdict':52} {'right':6} {'runs':>4} {'seconds':>7}")
    for fault in FAULTS.values():
        if names and fault.name not in names:
            continue
        ran = run(fault)
        wrong += not ran.is_right
        noticed, right = ("yes" if x else "NO" for x in (ran.noticed, ran.is_right))
        row = (
            f"{fault.name:32} {noticed:8} {verdict_of(ran.found):52} {right:6} {ran.found.probes:4} {ran.seconds:7.1f}"
        )
        print(row, flush=True)
        if names:
            print(ran.found)
    print(f"{len(names) or len(FAULTS)} faults, {wrong} not noticed or not named rightly")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
