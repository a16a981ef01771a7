"""Every pass held to its word; and passes that break it are found out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import burnish
from burnish.backends.interpreter import Interpreter
from burnish.backends.native.cpu import instruction_set
from burnish.debug.check import Checker
from burnish.debug.controllers import Skip
from burnish.ir import Ops, Value, parse
from burnish.passes.engine import Pattern, RewritePass, Rule
from burnish.passes.pipelines import PIPELINES
from burnish.testing.ops import gamma
from tests import models
from tests.decoder import TERMS, decoder

pytestmark = pytest.mark.usefixtures("registries")


def plant(build: Any, exactness: str = "exact", wrong_in: str = "layers[1]") -> None:
    """Register the pass `plant`: add(x, linear(y, w)) becomes `build(op, x, y, w)` in one block, and is rewritten
    rightly everywhere else."""

    class Planted(Rule, replace=True):
        """add(x, linear(y, w)) -> sub(x, neg(linear(y, w)))"""

        def match(self, op: Ops, x: Value, y: Value, w: Value) -> Pattern:
            return op.add(x, op.linear(y, w))

        def build(self, op: Ops, x: Value, y: Value, w: Value, out: Value) -> Value:
            assert out.node is not None
            if out.node.origin.scope.startswith(wrong_in):
                return build(op, x, y, w)
            return op.sub(x, op.neg(op.linear(y, w)))

    Planted.exactness = exactness  # type: ignore[assignment]
    type("Plant", (RewritePass,), {"rules": (Planted,), "__doc__": "A fault."}, replace=True)


@pytest.mark.parametrize("pipeline", [p for p in PIPELINES if p in ("default", "stateful")])
def test_our_pipelines_keep_their_word(pipeline: str) -> None:
    verdicts = Checker(decoder())(f"{pipeline},quantize-weights,quantize-activations,canonicalize")
    assert [v.fault for v in verdicts] == [None] * len(verdicts)
    assert any(v.applications for v in verdicts)
    lossy = next(v for v in verdicts if v.pass_text == "quantize-weights")
    assert 0.001 < lossy.loss < 2 and lossy.error < gamma(TERMS)
    assert {t.format for t in lossy.tensors} == {"q4_0"} and all(0.4 < t.off <= 1 for t in lossy.tensors)


@pytest.mark.parametrize("family", ["llama", "bert", pytest.param("t5", marks=pytest.mark.slow)])
def test_every_family_keeps_its_word(family: str, tmp_path: Path) -> None:
    """An encoder's results reach its decoder, the last row is that of the last token."""
    module = burnish.load(models.saved(getattr(models, family)(), tmp_path))
    stateful = ",stateful" if module.facts.makes_text else ""
    verdicts = Checker(module)(f"default{stateful},quantize-weights{{recipe=q8_0}},canonicalize")
    assert [v.fault for v in verdicts] == [None] * len(verdicts)


def test_a_pass_is_not_held_to_the_rounding_of_a_kernel_that_it_lets_run() -> None:
    isa = instruction_set()
    layout = isa.layout if isa is not None else "tiles8"
    module, pipeline = decoder(), f"quantize-weights,quantize-activations,set-layouts{{layout={layout}}}"
    verdicts = Checker(module)(pipeline)
    assert [v.fault for v in verdicts] == [None] * 3 and verdicts[-1].applications == 9
    if isa is not None:
        assert "kernel linear.int8" in Interpreter(burnish.optimize(module, pipeline)).plan_text("forward")


def test_a_right_rule_is_left_alone() -> None:
    plant(lambda op, x, y, w: op.sub(x, op.neg(op.linear(y, w))))
    (verdict,) = Checker(decoder())("plant")
    assert (verdict.fault, verdict.applications) == (None, 2)
    assert str(verdict) == "ok    plant                        exact     2 applied        no bit differs"


def test_one_wrong_bit_breaks_exactness() -> None:
    plant(lambda op, x, y, w: op.linear(op.concat(y, x, axis=-1), _beside_identity(op, w)))
    (verdict,) = Checker(decoder())("plant")
    assert verdict.fault is not None
    assert ": not the same bits; error " in verdict.fault
    assert str(verdict).startswith("FAIL  plant")


def _beside_identity(op: Ops, w: Value) -> Value:
    """[w, 1]: a residual as part of the product, which adds up in another order."""
    return op.concat(w, op.constant(np.eye(w.shape[0], dtype="f4")), axis=1)  # type: ignore[arg-type]


def test_another_order_of_adding_up_is_rounding() -> None:
    plant(lambda op, x, y, w: op.linear(op.concat(y, x, axis=-1), _beside_identity(op, w)), "rounding")
    (verdict,) = Checker(decoder())("plant")
    assert verdict.fault is None
    assert 0 < verdict.error <= verdict.limit < 5 * gamma(TERMS)


@pytest.mark.parametrize("factor", [1.0001, 1.00001])
def test_a_small_error_in_one_application_is_more_than_rounding(factor: float) -> None:
    plant(lambda op, x, y, w: op.sub(op.mul(x, factor), op.neg(op.linear(y, w))), "rounding")
    (verdict,) = Checker(decoder())("plant")
    assert verdict.fault is not None
    assert "against float64, at most" in verdict.fault


def test_a_lossy_pass_is_not_judged_unless_its_results_are_no_numbers() -> None:
    plant(lambda op, x, y, w: op.mul(x, 1.1), "lossy")
    (verdict,) = Checker(decoder())("plant")
    assert verdict.fault is None and verdict.loss > 0.01
    plant(lambda op, x, y, w: op.log(op.neg(op.abs(x))), "lossy")
    (verdict,) = Checker(decoder())("plant")
    assert verdict.fault == "the results are of another shape, or not finite"
    json.dumps(verdict.as_json(), allow_nan=False)


def test_passes_after_a_fault_are_judged_by_themselves() -> None:
    plant(lambda op, x, y, w: op.mul(x, 2.0))
    verdicts = Checker(decoder())("plant,fuse-qkv,canonicalize,fuse-fma")
    assert [v.fault is None for v in verdicts] == [False, True, True, True]


def test_a_controller_can_leave_the_fault_out() -> None:
    plant(lambda op, x, y, w: op.mul(x, 2.0))
    (verdict,) = Checker(decoder())("plant", Skip(["plant"]))
    assert (verdict.fault, verdict.applications) == (None, 0)


def test_given_inputs_are_used() -> None:
    """The fault shows only where an id is 7."""
    text = """module {
      graph forward(%ids: i32[S]) {
        %0: bool[S] = equal(%ids, i32(7)) <- "seven"
        %1: bool[S] = logical_not(%0) <- "not"
        return y=%1
      }
    }"""

    class Forget(Rule):
        """logical_not(equal(x, c)) -> equal(x, x)"""

        def match(self, op: Ops, x: Value, c: Value) -> Pattern:
            return op.logical_not(op.equal(x, c))

        def build(self, op: Ops, x: Value, c: Value) -> Value:
            return op.equal(x, x)

    type("Forgetful", (RewritePass,), {"rules": (Forget,), "__doc__": "A fault."})
    for ids, right in (([1, 2, 3], True), ([1, 7, 3], False)):
        (verdict,) = Checker(parse(text), {"ids": np.array(ids, "i4")})("forgetful")
        assert (verdict.fault is None) == right


def test_a_graph_without_weights_gets_some() -> None:
    module = parse(str(decoder()))
    assert module.source is None
    assert all(v.fault is None for v in Checker(module)("default"))
    assert module.source is None
