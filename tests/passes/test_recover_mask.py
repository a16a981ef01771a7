"""recover-mask: golden/recover-mask shows what it does; what it concludes is checked when sizes are bound."""

from collections.abc import Callable

import numpy as np
import pytest

from burnish.backends.binding import BindError
from burnish.backends.interpreter import Interpreter
from burnish.ir import Module, Ops, Value
from burnish.ir.dims import Sym
from burnish.ir.parser import parse
from burnish.ir.types import Type
from burnish.passes.engine import Context
from burnish.passes.pipelines import parse_pass, run_passes
from tests.ir.oracles import apart, attended

B, S = Sym("B"), Sym("S")


def test_golden(golden: Callable[[str, str], None]) -> None:
    golden("recover-mask", "masks")


def masked(mask: Callable[[Ops], Value]) -> Module:
    """An attention over x with a mask as the exporter writes it, and the same after the pass."""
    module = Module()
    graph = module.graph("forward")
    op = graph.ops
    x = graph.input("x", Type("f32", (B, S, 2, 4)))
    bias = op.where(mask(op), op.constant(0.0), op.constant(np.float32(np.finfo("f4").min)))
    graph.set_outputs({"y": op.attention(x, x, x, None, None, bias, scale=0.5)})
    module.normalize()
    return module


def recovered(module: Module) -> Context:
    context = Context(module.copy())
    context.run(parse_pass("recover-mask"))
    return context


def causal(op: Ops) -> Value:
    return op.less_or_equal(op.iota(size=S), op.unsqueeze(op.iota(size=S), axes=(1,)))


def causal_but_at_21(op: Ops) -> Value:
    last = op.reduce_max(op.iota(size=S), axes=(0,))
    return op.logical_or(causal(op), op.equal(op.mul(last, last), 400))


def windowed(op: Ops) -> Value:
    at = op.sub(op.unsqueeze(op.iota(size=S), axes=(1,)), 40)
    return op.logical_and(causal(op), op.less(at, op.iota(size=S)))


def test_a_window_wider_than_the_sizes_that_are_tried_first() -> None:
    module = recovered(masked(windowed)).module
    (attention,) = [n.op for n in module.graphs["forward"] if n.op.name == "attention"]
    assert str(attention) == "attention(scale=0.5, causal=true, window=40)"
    x = np.random.default_rng(0).standard_normal((2, 60, 2, 4), "f4")
    (ours,), (theirs,) = (Interpreter(m)("forward", {"x": x}).values() for m in (module, masked(windowed)))
    assert (np.abs(ours - theirs) <= apart(attended(0.5, x, x, x, causal=True, window=40))).all()


def test_a_guard_catches_a_mask_that_is_causal_at_the_sizes_that_were_tried() -> None:
    module = masked(causal_but_at_21)
    run = Interpreter(recovered(module).module)
    for length in (1, 7, 20, 22):
        x = np.ones((2, length, 2, 4), "f4")
        run("forward", {"x": x})
    x = np.random.default_rng(0).standard_normal((2, 21, 2, 4), "f4")
    with pytest.raises(BindError, match=r"assumed that the mask .* is causal, which does not hold with B=2, S=21"):
        run("forward", {"x": x})
    (theirs,) = Interpreter(module)("forward", {"x": x}).values()
    (ours,) = Interpreter(recovered(masked(causal)).module)("forward", {"x": x}).values()
    assert np.abs(ours - theirs).max() > 0.1, "what the guard prevents"


@pytest.mark.parametrize(
    "mask",
    [
        lambda op: op.equal(op.mod(op.iota(size=S), 2), 0),
        lambda op: op.less(op.iota(size=S), op.unsqueeze(op.iota(size=S), axes=(1,))),  # not even itself
        lambda op: op.less_or_equal(op.unsqueeze(op.iota(size=S), axes=(1,)), op.iota(size=S)),  # the other way round
        lambda op: op.logical_or(causal(op), op.less(op.iota(size=S), 3)),  # a prefix that all see
        lambda op: op.less(op.sub(op.iota(size=S), op.unsqueeze(op.iota(size=B), axes=(1, 2, 3))), 2),  # by sequence
    ],
)
def test_other_masks_stay_data(mask: Callable[[Ops], Value]) -> None:
    module = masked(mask)
    context = recovered(module)
    assert context.applied == []
    assert [r.reason for r in context.remarks] == ["it is neither causal nor without effect: it stays data"]
    assert context.module == module


def test_skipped_it_leaves_no_guard() -> None:
    context = Context(masked(causal), controller=lambda application: "skipped")
    context.run(parse_pass("recover-mask"))
    assert context.module.guards == []


@pytest.mark.parametrize("window", [7, 8, 9])
def test_a_window_as_wide_as_the_largest_size_that_is_tried_first(window: int) -> None:
    def near(op: Ops) -> Value:
        at = op.sub(op.unsqueeze(op.iota(size=S), axes=(1,)), window)
        return op.logical_and(causal(op), op.less(at, op.iota(size=S)))

    (attention,) = [n.op for n in recovered(masked(near)).module.graphs["forward"] if n.op.name == "attention"]
    assert (attention.causal, attention.window) == (True, window)


def test_a_mask_that_is_too_large_to_look_at_stays_data() -> None:
    text = """module { graph forward(%q: f32[1, 100000, 1, 4]) {
      %0: i32[100000] = iota(size=100000)
      %1: i32[100000, 1] = unsqueeze(%0, axes=[1])
      %2: bool[100000, 100000] = less_or_equal(%0, %1)
      %3: f32[1, 100000, 1, 4] = attention(%q, %q, %q, _, _, %2, scale=0.5)
      return y=%3
    } }"""
    context = run_passes(parse(text), "recover-mask")
    assert [r.reason for r in context.remarks] == ["looking at it takes more than 256 MB: it stays data"]


def test_a_mask_that_would_fill_memory_is_not_tried() -> None:
    text = """module {
      graph forward(%q: f32[1, S, 1, 4]) {
        %0: i32[1099511627776] = iota(size=1099511627776) <- "iota"
        %1: i32[] = reduce_max(%0, axes=[0], keepdims=false) <- "most"
        %2: i32[S] = iota(size=S) <- "count"
        %3: bool[S] = less(%2, %1) <- "mask"
        %4: bool[1, S] = unsqueeze(%3, axes=[0]) <- "row"
        %5: f32[1, S, 1, 4] = attention(%q, %q, %q, _, _, %4, scale=0.5) <- "attention"
        return y=%5
      }
    }"""
    context = run_passes(parse(text), "recover-mask")
    assert [r.reason for r in context.remarks] == ["looking at it takes more than 256 MB: it stays data"]
