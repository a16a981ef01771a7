"""The text form: it reads back equal, it reads back the same, and what is no module is refused with its line."""

import contextlib
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.ir import OPS, Module, TextError, Type, VerifyError, WeightEntry, parse, verify
from burnish.ir.dims import Sym
from burnish.ir.literal import attribute_text
from burnish.ir.signature import HIDDEN, TOKENS, Facts, Linked, Rows
from burnish.ir.text import Names, module_text, neighbourhood, side_by_side, statements
from tests.ir.graphs import ATTRIBUTES, modules

SAMPLE = """\
module {
  architecture = "llama"
  task = "text-generation"
  context = 4096
  eos = [2, 3]
  labels = ["a \\"b\\"", "graph"]
  weights {
    @lm.weight: q4_0.planes[4096, 64]
    @"onnx::MatMul 12": bf16[64, 64] <- "file.onnx:MatMul_12"
    @"0.3": f32[64]
  }
  guard equal(S, T)
  guard at_most(8, {2*S + 1})
  guard "the mask is causal" graph mask() {
    %0: bool[S] = less_or_equal(@"0.3", f32(1.0))
    return all=%0
  }
  graph forward(%ids: i32[B, S] is tokens, %"0": bool[], %k: f32[B, C] is rows(batch=0, axis=1)) {
    weights {
      @0: f32[64, 64] = cast(@"onnx::MatMul 12", to="f32") <- "cast"
      scope "model.layers[7].mlp"
      @7.0: f32[64] = constant(value="0123456789abcdef0123456789abcdef")
    }
    scope "model"
    %0: f32[B, S, 64] = embedding(%ids, @lm.weight) <- "embed", "tokens" by "FuseEmbedding"
    scope "model.layers[7].mlp"
    %7.0: f32[B, S, 64] = linear(%0, @0, @7.0) <- "linear"
    %7.1: f32[B, S, 64] = layer_norm(%7.0, @"0.3", _, eps=1e-05)
    scope ""
    %1: f32[B, S, 64] = if(%"0", %7.1) {
      graph then(%x: f32[B, S, 64]) {
        %0: f32[B, S, 64] = add(%x, f32(2.0)) <- "then"
        return y=%0
      }
      graph else(%x: f32[B, S, 64]) {
        return y=%x
      }
    } <- "if"
    scope "model.layers[7].mlp"
    %7.2, %7.3: f32[B, S, 60], f32[B, S, 4] = split(%7.0, axis=-1, sizes=[60, 4]) <- "split"
    return y=%1 is hidden, few=%7.3, k=%k is rows(batch=0, axis=1)
  }
  graph "graph"(%y: f32[B, S, 64] is linked(graph="forward", name="y")) {
    %0: f32[B] = softmax(%y, axis=[1, [-0.0, nan, inf], S, {2*S + 1}, none, true, [], "x"])
    return "inf"=%0
  }
  graph empty() {
    return
  }
}
"""


@given(modules())
def test_a_module_reads_back_equal(module: Module) -> None:
    text = str(module)
    again = parse(text, module.constants())
    assert again == module
    assert str(again) == text
    assert {k: v.tobytes() for k, v in again.constants().items()} == {
        k: v.tobytes() for k, v in module.constants().items()
    }
    nameless = parse(text)  # constants known by their sha alone
    assert nameless == module and str(nameless) == text


@settings(max_examples=settings.default.max_examples // 2)
@given(modules())
def test_random_modules_verify(module: Module) -> None:
    verify(module)
    verify(parse(str(module)))


def test_every_part_of_the_form() -> None:
    module = parse(SAMPLE)
    assert str(module) == SAMPLE
    assert parse(str(module)) == module
    assert module.facts == Facts("llama", "text-generation", 4096, eos=(2, 3), labels=('a "b"', "graph"))
    graph = module.graphs["forward"]
    assert [v.role for v in graph.inputs] == [TOKENS, None, Rows(batch=0, axis=1)]
    assert graph.roles == {"y": HIDDEN, "k": Rows(batch=0, axis=1)}
    assert module.graphs["graph"].inputs[0].role == Linked("forward", "y")
    assert module.weights["lm.weight"] == WeightEntry(Type("q4_0", (4096, 64), "planes"))
    nodes = {n.op.name: n for n in module.graphs["forward"]}
    assert nodes["embedding"].origin.sources == ("embed", "tokens")
    assert nodes["embedding"].origin.rules == ("FuseEmbedding",)
    assert nodes["linear"].origin.scope == "model.layers[7].mlp"
    assert nodes["layer_norm"].inputs[2] is None
    assert nodes["if"].bodies[0].name == "then"
    assert [nodes[n].time for n in ("cast", "linear")] == ["weight", "run"]


@given(ATTRIBUTES)
def test_any_attribute_reads_back_equal(value: Any) -> None:
    """Whether the op accepts it is the verifier's to say."""
    module = Module()
    graph = module.graph("f")
    x = graph.input("x", Type("f32", (2,)))
    graph.set_outputs({"y": graph.ops.emit_typed(OPS["softmax"](axis=value), [x], [x.type])})
    text = str(module)
    again = parse(text)
    assert again == module and str(again) == text
    assert attribute_text(again.graphs["f"].outputs["y"].op.axis) == attribute_text(value)


def test_values_are_numbered_by_block() -> None:
    """One more node in block 7 changes lines of block 7 alone."""
    more = SAMPLE.replace("%7.1: f32", "%7.9: f32[B, S, 64] = neg(%7.0)\n%7.1: f32", 1)
    more = more.replace("layer_norm(%7.0", "layer_norm(%7.9", 1)
    changed = set(str(parse(more)).splitlines()) ^ set(SAMPLE.splitlines())
    assert changed and all("%7." in line for line in changed)


def test_comments_and_layout_do_not_matter() -> None:
    loose = "\n".join(f"\t{line}  # {line}" for line in SAMPLE.replace("(", "(\n").replace(": ", ":\n ").splitlines())
    assert str(parse(loose)) == SAMPLE


def test_large_constants_come_back_when_they_are_given() -> None:
    module = Module()
    graph = module.graph("f")
    data = np.arange(100, dtype="f4")
    graph.set_outputs({"y": graph.ops.neg(graph.ops.constant(data)), "z": graph.ops.constant([1.0, 2.0])})
    module.normalize()
    text = str(module)
    assert "f32([1.0, 2.0])" in text and "constant(value=" in text
    again = parse(text, constants=module.constants())
    (back,) = again.constants().values()
    assert np.array_equal(back, data)
    assert parse(text).constants() == {}
    (sha,) = module.constants()
    with pytest.raises(TextError, match=r"line 5: constant .* is not the data that was given"):
        parse(text, constants={sha: data + 1})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cast(", "kast(", "there is no op 'kast'; did you mean cast"),
        ("cast(", "weight(", "there is no op 'weight'"),
        ("f32[64, 64]", "f33[64, 64]", "unknown element type 'f33'"),
        ("[4096, 64]", "[4096, 63]", "do not divide an input axis of 63"),
        ("linear(%0", "linear(%9", "%9 is not defined before"),
        ("linear(%0, @0", "linear(%0, @nope", "there is no weight 'nope'"),
        ("axis=-1", "axle=-1", "attributes of split"),
        (", sizes=[60, 4]", "", "split's attributes ['sizes']"),
        ("%7.2, %7.3: ", "%7.2: ", "a type for each of 1 results"),
        ("%7.1: f32", "%7.0: f32", "%7.0 is defined twice"),
        ("%x: f32", "%x f32", "expected ':'"),
        ("few=%7.3, k=%k is rows(batch=0, axis=1)\n  }", "y=%7.2\n  }", "two outputs of one name"),
        ("few=%7.3", "few=_", "expected a value"),
        ('@"0.3": f32[64]', "@lm.weight: f32[64]", "weight 'lm.weight' is there twice"),
        ('%"0": bool[]', "%ids: bool[]", "two inputs called 'ids'"),
        ("graph empty", "graph forward", "two graphs called 'forward'"),
        ("{2*S + 1}", "{2*S + }", "ends early"),
        ("{2*S + 1}", "{__import__('os')}", "cannot read dimension"),
        ("{2*S + 1}", "9" * 5000, "an integer"),
        ("none, ", "[" * 200, "less nesting"),
        ('"llama"', r'"\ud800"', "a string in JSON's form"),
        ('"llama"', '"lla\tma"', "a string in JSON's form"),
        ('"llama"', "$", "found $"),
        ("f32(2.0)", "f32([2.0, [1.0]])", "a constant ("),
        ("f32(2.0)", "u8(-1)", "a constant ("),
        ("f32(2.0)", "q4_0(1)", "an operand"),
        ("0123456789abcdef0", "x", "a constant's sha"),
        ("guard equal(S, T)", "guard equal(S, Max)", "cannot name a dimension"),
        ("guard at_most", "guard at_least", "expected 'equal' or 'at_most', found at_least"),
        ("S] is tokens", "S] is token", "there is no role 'token'"),
        ("S] is tokens", "S] is tokens(a=1)", "there is no role 'tokens' with fields"),
        ("is rows(batch=0, axis=1)", "is rows(batch=0)", "the role rows is rows(batch: int, axis: int)"),
        ("is rows(batch=0, axis=1)", "is rows(0, 1)", "a name"),
        ("y=%1 is hidden", "y=%1 is 3", "expected a role"),
        ("context = 4096", "contexts = 4096", "there is no fact 'contexts'"),
        ("context = 4096", "context = 4096.0", "the fact context is int | None, not 4096.0"),
        ("context = 4096", 'task = "fill-mask"', "the fact task is there twice"),
        ('"text-generation"', '"chess"', "the fact task is one of text-generation, "),
    ],
)
def test_what_is_no_module_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    before, found, after = SAMPLE.partition(old)
    assert found
    refused(before + new + after, (before + old).count("\n") + 1, message)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "expected 'module', found the end"),
        ("module {", 1, "expected a name, found the end"),
        (SAMPLE + "x", SAMPLE.count("\n") + 1, "expected the end, found x"),
    ],
)
def test_a_module_begins_and_ends(text: str, line: int, message: str) -> None:
    refused(text, line, message)


def refused(text: str, line: int, message: str) -> None:
    with pytest.raises(TextError) as error:
        parse(text)
    found = re.match(r"line (\d+): (.*)", str(error.value), re.S)
    assert found and message in found[2], str(error.value)
    assert abs(int(found[1]) - line) <= 1, str(error.value)  # what is missing may be missed on the next line


PARTS = re.findall(r'"(?:[^"\\]|\\.)*"|[\w.%@]+|\s+|.', SAMPLE)
PIECES = st.one_of(
    st.sampled_from(sorted(set(PARTS))),
    st.text(max_size=3),
    st.sampled_from(["9" * 5000, "-1", "1e999", "{", "{{", "(" * 300]),
)
EDITS = st.lists(
    st.tuples(st.sampled_from(["drop", "put", "swap", "copy"]), st.integers(0, len(PARTS) - 1), PIECES),
    min_size=1,
    max_size=4,
)


@settings(max_examples=4 * settings.default.max_examples)
@given(EDITS)
def test_damaged_text_is_refused_or_read(edits: list[tuple[str, int, str]]) -> None:
    """Never another exception; and whatever is read can be written, read again and judged by the verifier."""
    tokens = list(PARTS)
    for kind, at, piece in edits:
        at %= len(tokens)
        if kind == "drop":
            del tokens[at : at + 1 + len(piece)]
            tokens = tokens or [""]
        elif kind == "swap":
            other = len(piece) * 31 % len(tokens)
            tokens[at], tokens[other] = tokens[other], tokens[at]
        else:
            tokens[at:at] = [piece] if kind == "put" else tokens[at : at + 12]
    try:
        module = parse("".join(tokens))
    except TextError as e:
        assert str(e).startswith("line ")
        return
    text = str(module)
    again = parse(text)
    assert again == module and str(again) == text
    assert (module == parse(SAMPLE)) == (text == SAMPLE)
    with contextlib.suppress(VerifyError):
        verify(module)


def test_neighbourhood_marks_the_node() -> None:
    nodes = {n.op.name: n for n in parse(SAMPLE).graphs["forward"]}
    lines = neighbourhood(nodes["layer_norm"], context=1).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["%7.0:", ">", "%1:"]
    assert lines[1].startswith("  > %7.1: f32[B, S, 64] = layer_norm(")


def test_side_by_side() -> None:
    assert side_by_side("a\nb", "a\nc\nd", width=3) == "a   | a\nb   ≠ c\n    ≠ d"


def test_symbols_may_have_any_name() -> None:
    module = Module()
    graph = module.graph("f")
    graph.input("x", Type("f32", (Sym("inf"), Sym("E"))))
    graph.set_outputs({"y": graph.ops.iota(size=Sym("true"))})
    assert "size={true}" in str(module) and "f32[{inf}, E]" in str(module)
    assert parse(str(module)) == module


def test_a_value_keeps_its_name_while_the_graph_changes() -> None:
    graph, names = parse(SAMPLE).graphs["forward"], Names()
    first = statements(graph, names)
    assert [line for line in first if line not in SAMPLE and " if(" not in line] == []  # the names of the text
    assert len(first) == 1 + 7 + 1  # the head, the statements, the end
    op, y = graph.ops, graph.outputs["y"]
    graph.set_outputs(graph.outputs | {"y": op.add(op.exp(y), op.sin(y))})
    second = statements(graph, names)
    gone, new = ([x for x in a if x not in b] for a, b in ((first, second), (second, first)))
    assert gone == first[-1:]
    assert {line.split(":")[0] for line in new[:-1]} == {"%2", "%3", "%4"}  # numbers that nothing had


def test_what_takes_a_values_place_may_take_its_name() -> None:
    graph, names = parse(SAMPLE).graphs["forward"], Names()
    before = statements(graph, names)
    old = graph.outputs["y"]
    graph.set_outputs(graph.outputs | {"y": graph.ops.exp(graph.outputs["k"])})
    graph.erase_dead(list(graph))
    names.hand_over(old, graph.outputs["y"])
    after = statements(graph, names)
    assert [line for line in after if line not in before] == ['%1: f32[B, C] = exp(%k) <- "forward:exp"']
    names.hand_over(graph.outputs["y"], graph.outputs["few"])  # which has a name
    assert statements(graph, names) == after


def test_provenance_may_be_left_out() -> None:
    module = parse(SAMPLE)
    text = module_text(module, provenance=False)
    assert [line for line in text[text.index("  graph forward") :].splitlines() if " <- " in line] == []
    assert [n.op for n in parse(text).graphs["forward"]] == [n.op for n in module.graphs["forward"]]
