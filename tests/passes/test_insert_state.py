"""insert-state: golden/insert-state shows what it does; caches against the plain forward."""

from collections.abc import Callable

import numpy as np
import pytest

from burnish.backends.interpreter import Interpreter
from burnish.frontends.architecture import build_module, parameters
from burnish.frontends.architectures.t5 import T5
from burnish.frontends.config import Config
from burnish.frontends.stored import Tensors
from burnish.ir.graph import Node
from burnish.ir.module import Module
from burnish.ir.parser import parse
from burnish.passes import door
from burnish.passes.engine import Context, PassError
from burnish.passes.pipelines import parse_pipeline
from tests.ir.oracles import apart, attended

CONFIG = {"vocab_size": 32, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4}


def passed(pipeline: str, skip: str = "") -> tuple[Module, Context]:
    config = Config(CONFIG | {"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 8})
    module = build_module("T5ForConditionalGeneration", config, Tensors(parameters(T5, config)))
    context = Context(module, controller=lambda a: "skipped" if a.rule == skip else None)
    for pass_ in parse_pipeline(pipeline):
        context.run(pass_)
    return module, context


def signature(module: Module, graph: str) -> tuple[list[str], list[str]]:
    g = module.graphs[graph]
    return [v.name for v in g.inputs], list(g.outputs)


@pytest.mark.parametrize("case", ["decoder", "cross_attention"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("insert-state", case)


@pytest.mark.parametrize("before", ["", "default,"])
def test_the_encoder_makes_the_keys_and_values_that_the_tokens_have_no_part_in(before: str) -> None:
    """Of a T5, whether or not its projections were joined before."""
    module, context = passed(f"{before}insert-state")
    cross = ["cross_k0", "cross_v0", "cross_k1", "cross_v1"]
    assert signature(module, "encoder") == (["ids", "count"], ["hidden", *cross])
    caches = ["k0", "v0", "k1", "v1"]
    assert signature(module, "decoder") == (["ids", "encoder_count", "past", *caches, *cross], ["logits", *caches])
    applied = [f"{a.rule} {a.graph}" for a in context.applied if a.pass_name == "insert-state"]
    assert applied == ["MakeStateful decoder", "CrossAttentionOnce decoder"]


def test_what_moved_to_the_encoder_says_where_it_came_from() -> None:
    module, _ = passed("default,insert-state")
    node = module.graphs["encoder"].outputs["cross_k1"].node
    assert node is not None
    assert node.origin.scope == "decoder.block[1].layer.1.EncDecAttention"
    assert node.origin.rules == ("CrossAttentionOnce",)
    assert node.operands[0].node.source_tensors == ("decoder.block.1.layer.1.EncDecAttention.k.weight",)


def test_what_it_makes_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the graph has its new signature, as a whole: no node of it is left for the end of the pass."""
    left = list[Node]()
    monkeypatch.setattr(door, "verify_nodes", lambda nodes, graph: left.extend(nodes))
    _, context = passed("insert-state")
    assert len(context.applied) == 2 and not left


def test_each_of_its_two_rewrites_can_be_refused() -> None:
    module, context = passed("stateful", skip="CrossAttentionOnce")
    assert "encoder_hidden" in signature(module, "decoder")[0] and signature(module, "encoder")[1] == ["hidden"]
    assert [r.reason for r in context.remarks if r.application.rule == "CrossAttentionOnce"] == ["skipped"]
    module, _ = passed("stateful", skip="MakeStateful")
    assert signature(module, "decoder")[0] == ["ids", "encoder_hidden", "encoder_count"]


def test_a_second_run_changes_nothing() -> None:
    once, _ = passed("insert-state")
    text = str(once)
    context = Context(once)
    for pass_ in parse_pipeline("insert-state"):
        context.run(pass_)
    assert str(once) == text and not context.applied


def test_rows_of_padding_are_overwritten() -> None:
    """Two sequences of which one is shorter in the first step: what was written behind it must not be seen later."""
    text = """
    module {
      graph forward(%ids: i32[B, S] is tokens, %x: f32[B, S, 1, 2], %v: f32[B, S, 1, 2]) {
        %0: f32[B, S, 1, 2] = attention(%x, %x, %v, scale=1.0, causal=true)
        return y=%0
      }
    }
    """
    plain, module = parse(text), parse(text)
    Context(module).run(parse_pipeline("insert-state")[0])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 1, 2)).astype("f4")
    expected = Interpreter(plain)("forward", {"ids": np.zeros((2, 5), "i4"), "x": x, "v": x})["y"]
    run, ids = Interpreter(module), np.zeros((2, 3), "i4")
    state = {name: np.full((2, 6, 1, 2), 1e9, "f4") for name in ("k0", "v0")}  # what was there before is never seen
    first = x[:, :3].copy()
    first[1, 1:] = 1e6  # padding
    results = run("forward", {"ids": ids, "x": first, "v": first, "past": np.array([0, 0], "i4"), **state})
    second = np.stack([np.concatenate([x[0, 3:], x[0, :1]]), x[1, 1:4]])
    again = {name: results[name] for name in state}
    y = run("forward", {"ids": ids, "x": second, "v": second, "past": np.array([3, 1], "i4"), **again})["y"]
    off = apart(attended(1.0, x, x, x, causal=True))
    assert (np.abs(y[0, :2] - expected[0, 3:]) <= off[0, 3:]).all()
    assert (np.abs(y[1] - expected[1, 1:4]) <= off[1, 1:4]).all()


def test_keys_within_two_windows_have_two_rings() -> None:
    """And those within one window are kept once, however many attend to them."""
    module = parse("""module {
      graph forward(%ids: i32[B, S] is tokens, %x: f32[B, S, 1, 2]) {
        %0: f32[B, S, 1, 2] = attention(%x, %x, %x, scale=1.0, causal=true, window=3) <- "a"
        %1: f32[B, S, 1, 2] = attention(%0, %x, %x, scale=1.0, causal=true, window=5) <- "b"
        %2: f32[B, S, 1, 2] = attention(%1, %x, %x, scale=1.0, causal=true, window=3) <- "c"
        return y=%2
      }
    }""")
    plain = module.copy()
    Context(module).run(parse_pipeline("insert-state")[0])
    states = module.graphs["forward"].states
    assert {name: str(v.role) for name, v in states.items()} == {
        "k0": "ring(batch=0, axis=1, most=2)",
        "k1": "ring(batch=0, axis=1, most=4)",
    }
    x = np.random.default_rng(0).standard_normal((1, 9, 1, 2)).astype("f4")
    (expected,) = Interpreter(plain)("forward", {"ids": np.zeros((1, 9), "i4"), "x": x}).values()
    run, state = Interpreter(module), {name: np.zeros((1, v.role.most, 1, 2), "f4") for name, v in states.items()}
    for at, n in ((0, 4), (4, 1), (5, 4)):
        given = {"ids": np.zeros((1, n), "i4"), "x": x[:, at : at + n]}
        given |= {"past": np.array([at], "i4"), "count": np.array([n], "i4")}
        results = run("forward", given | state)
        state = {name: results[name] for name in state}
        assert np.allclose(results["y"], expected[:, at : at + n], rtol=1e-5, atol=1e-6)


def test_an_output_that_would_be_of_another_type_in_a_step_is_refused() -> None:
    module = parse("""module {
      weights { @table: f32[8, 2] }
      graph forward(%ids: i32[B, S] is tokens) {
        %0: f32[1, 2, S, S] = relative_bias(@table, query=S, key=S, bidirectional=false) <- "bias"
        return bias=%0
      }
    }""")
    with pytest.raises(PassError, match=r"output bias of graph forward would become f32\[B, 2, S, C\] in a step"):
        Context(module).run(parse_pipeline("insert-state")[0])


def test_a_column_by_the_number_of_tokens_is_refused() -> None:
    """Each token's result is made of that token alone; but of which number, depends on how many there are."""
    module = parse("""module {
      guard at_most(1, S)
      guard at_most(S, 9)
      graph forward(%ids: i32[B, S] is tokens, %x: f32[B, S, 9]) {
        %0: f32[B, S, 1] = slice(%x, axis=2, start={S - 1}, stop=S) <- "column"
        return y=%0
      }
    }""")
    with pytest.raises(PassError, match="slice cannot go on from step to step: it counts tokens from 0"):
        Context(module).run(parse_pipeline("insert-state")[0])
