"""Equality of modules: by structure, and able to fail."""

import pytest

from burnish.ir import Graph, Module, Type, parse
from burnish.ir.structure import structure

TEXT = """\
module {
  architecture = "llama"
  context = 1
  weights {
    @w: f32[4, 4] <- "file:w"
    @v: f32[4, 4]
  }
  guard equal(S, T)
  guard at_most(1, S)
  guard "causal" graph mask() {
    %0: bool[S] = less(f32([1.0]), f32(2.0)) <- "m"
    return all=%0
  }
  graph forward(%x: f32[S, 4], %y: f32[S, 4], %k: f32[B, S] is rows(batch=0, axis=1)) {
    scope "model"
    %0: f32[S, 4] = linear(%x, @w) <- "a", "b" by "Rule"
    %1: f32[S, 4] = sub(%0, %y) <- "sub"
    %2: f32[S, 4] = rms_norm(%1, f32([1.0, 1.0, 1.0, 1.0]), eps=-0.0) <- "norm"
    scope ""
    %3: f32[S, 4] = if(bool(true), %2) {
      graph then(%x: f32[S, 4]) {
        %0: f32[S, 4] = neg(%x) <- "neg"
        return y=%0
      }
      graph else(%x: f32[S, 4]) {
        return y=%x
      }
    } <- "if"
    return y=%3 is hidden, k=%k is rows(batch=0, axis=1)
  }
}
"""

CHANGES = [
    ('"llama"', '"gpt"'),
    ('architecture = "llama"\n', ""),
    ("context = 1", "context = 2"),
    ("context = 1", 'labels = ["1"]'),
    ("context = 1", "context = 1 eos = [1]"),
    ("@v: f32[4, 4]", "@v: f32[4, 5]"),
    ("@v: f32[4, 4]", "@v: f32[4, 4]\n@u: f32[4, 4]"),
    ('"file:w"', '"file:v"'),
    ("equal(S, T)", "equal(S, U)"),
    ("guard equal(S, T)\n", ""),
    ("equal(S, T)", "at_most(S, T)"),
    ("at_most(1, S)", "at_most(2, S)"),
    ("guard at_most(1, S)\n", ""),
    ('"causal"', '"not causal"'),
    ("less(f32([1.0])", "less(f32([-1.0])"),
    ("graph forward", "graph backward"),
    ("%y: f32[S, 4]", "%y: bf16[S, 4]"),
    ("%y: f32[S, 4]", "%y: f32[S, 4], %z: f32[]"),
    ("linear(%x, @w)", "linear(%x, @v)"),
    ("linear(%x, @w)", "linear(%y, @w)"),
    ("linear(%x, @w)", "linear(%x, @w, _)"),
    ("sub(%0, %y)", "add(%0, %y)"),
    ("sub(%0, %y)", "sub(%y, %0)"),
    ("%1: f32[S, 4] = sub", "%1: f32[T, 4] = sub"),
    ("eps=-0.0", "eps=0.0"),
    ("eps=-0.0", "eps=nan"),
    ("1.0, 1.0]", "1.0, 1.5]"),
    ('"a", "b"', '"a"'),
    ('"Rule"', '"Ruler"'),
    ('scope "model"', 'scope "modem"'),
    ("graph then", "graph yes"),
    ("neg(%x)", "abs(%x)"),
    ('<- "neg"', ""),
    (" is rows(batch=0, axis=1))", ")"),
    ("axis=1))", "axis=2))"),
    ("rows(batch=0, axis=1))", "ring(batch=0, axis=1, most=1))"),
    ("is hidden", ""),
    ("is hidden", "is logits"),
    ("is hidden, k=%k is rows(batch=0, axis=1)", "is hidden, k=%k"),
    ("eps=-0.0", "eps=0"),
    ("return y=%3", "return z=%3"),
    ("return y=%3", "return y=%3, z=%3"),
    ("return y=%3", "return y=%2"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_any_change_makes_modules_unequal(old: str, new: str) -> None:
    assert TEXT.count(old) >= 1
    before, after = parse(TEXT), parse(TEXT.replace(old, new, 1))
    assert before == parse(TEXT)
    assert before != after
    assert str(before) != str(after)


def test_inputs_are_known_by_name() -> None:
    assert parse(TEXT) != parse(TEXT.replace("%y", "%z"))


def test_nan_equals_nan() -> None:
    text = TEXT.replace("-0.0", "nan")
    assert parse(text) == parse(text)


def test_modules_cannot_be_keys() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        {Module()}
    assert Module() != "module"


def two_of(first: str, second: str) -> Graph:
    module = Module()
    graph = module.graph("f")
    x = graph.input("x", Type("f32", (2,)))
    made = {name: getattr(graph.ops, name)(x) for name in (first, second)}
    graph.set_outputs({"y": graph.ops.add(made["exp"], made["neg"])})
    module.normalize()
    return graph


def test_the_order_of_making_does_not_matter() -> None:
    assert structure(two_of("exp", "neg"), provenance=False) == structure(two_of("neg", "exp"), provenance=False)


def test_a_leaf_that_nothing_reads_does_not_matter() -> None:
    """It is written where it is used: nowhere."""
    graph = two_of("exp", "neg")
    before = structure(graph)
    graph.ops.constant(3.0)
    assert structure(graph) == before


def test_names_and_provenance_may_be_left_out() -> None:
    renamed = (
        TEXT.replace("@w", "@weight").replace("%x: f32[S, 4], %y", "%a: f32[S, 4], %y").replace("(%x, @", "(%a, @")
    )
    renamed = renamed.replace('<- "a", "b" by "Rule"', '<- "c"').replace('scope "model"', 'scope "decoder"')
    a, b = (parse(t).graphs["forward"] for t in (TEXT, renamed))
    assert structure(a) != structure(b)
    assert structure(a, names=False) != structure(b, names=False)
    assert structure(a, provenance=False) != structure(b, provenance=False)
    assert structure(a, names=False, provenance=False) == structure(b, names=False, provenance=False)


def test_without_names_weights_are_told_apart_by_their_first_use() -> None:
    def graph(first: str, second: str) -> Graph:
        text = f"""module {{ weights {{ @w: f32[4, 4] @v: f32[4, 4] }} graph f(%x: f32[4]) {{
            %0: f32[4] = linear(%x, @{first}) %1: f32[4] = linear(%0, @{second}) return y=%1 }} }}"""
        return parse(text).graphs["f"]

    assert structure(graph("w", "v"), names=False) == structure(graph("v", "w"), names=False)
    assert structure(graph("w", "v"), names=False) != structure(graph("w", "w"), names=False)
    assert structure(graph("w", "v")) != structure(graph("v", "w"))
