"""Layers that change alike are told once; refusals are counted by reason."""

from burnish.debug.controllers import Fuel, PrintChanges
from burnish.debug.folding import alike, fold_changes, fold_layers, fold_remarks, places
from burnish.passes.engine import Application, Context, Remark
from burnish.passes.pipelines import parse_pipeline
from tests.decoder import decoder


def application(scope: str, rule: str = "Rule", id: str = "") -> Application:
    return Application(id or f"{scope}!{rule}", "pass", rule, "exact", "forward", scope, (scope,), "op()")


def changes(blocks: int, pipeline: str) -> list[tuple[Application, str]]:
    told: list[tuple[Application, str]] = []
    module = decoder(blocks)
    context = Context(module, observers=[PrintChanges(lambda a, text: told.append((a, text)), module)])
    for pass_ in parse_pipeline(pipeline):
        context.run(pass_)
    return told


def test_layers_that_change_alike_are_told_once_with_where_the_others_are() -> None:
    told = changes(5, "fuse-fma")
    assert len(told) == 5
    ((first, text),) = fold_changes(told)
    assert first.scope == "layers[0]"
    assert text == told[0][1] + "\n  and the same in 4 other layers: layers[1..4]"


def test_what_differs_in_more_than_names_is_told_apart() -> None:
    told = [
        (application("a[0]"), "- %0.1: f32[2] = exp(%0.0)\n+ %0.1: f32[2] = log(%0.0)"),
        (application("a[1]"), "- %1.1: f32[2] = exp(%1.0)\n+ %1.1: f32[2] = log(%1.0)"),
        (application("a[2]"), "- %2.1: f32[3] = exp(%2.0)\n+ %2.1: f32[3] = log(%2.0)"),  # a size
        (application("a[3]"), "- %3.1: f32[2] = exp(%3.0)\n+ %3.1: f32[2] = log(%3.1)"),  # an operand
        (application("a[4]", "Other"), "- %4.1: f32[2] = exp(%4.0)\n+ %4.1: f32[2] = log(%4.0)"),  # a rule
    ]
    folded = fold_changes(told)
    assert [a.scope for a, _ in folded] == ["a[0]", "a[2]", "a[3]", "a[4]"]
    assert [text.count("and the same") for _, text in folded] == [1, 0, 0, 0]
    assert folded[0][1].endswith("\n  and the same in 1 other layer: a[1]")


def test_a_number_that_is_no_layers_index_counts() -> None:
    assert alike("%0.1 = slice(%0.0, axes=[0])", "a[0]") != alike("%1.1 = slice(%1.0, axes=[1])", "a[1]")
    assert alike('%0.1 = f() <- "x:a[0].b"', "a[0].b") == alike('%7.1 = f() <- "x:a[7].b"', "a[7].b")
    assert alike('%0.1 = f() <- "x:a[0].b"', "a[0].b") != alike('%7.1 = f() <- "x:b[7].b"', "a[7].b")
    assert alike('%"a 1" = f(@w.1.x)') == alike('%"b" = f(@w.2.y)')


def test_a_change_to_all_layers_at_once_is_told_for_the_first() -> None:
    ((_, text),) = changes(4, "insert-state")
    folded = fold_layers(text).splitlines()
    own = [line for line in text.splitlines() if line[2:].startswith("%1.")]
    assert len(own) > 1
    assert "  and the same in 3 other layers: 1..3" in folded
    assert not set(own) & set(folded)
    assert [line for line in folded if " return " in line or " graph " in line] == [
        line for line in text.splitlines() if " return " in line or " graph " in line
    ]


def test_a_layer_that_changes_otherwise_is_told() -> None:
    layers = [f"- %{i}.0: f32[2] = exp(%x)\n+ %{i}.0: f32[2] = {'log' if i == 2 else 'sin'}(%x)" for i in range(4)]
    assert fold_layers("\n".join(layers)).splitlines() == [
        *layers[0].splitlines(),
        "  and the same in 2 other layers: 1, 3",
        *layers[2].splitlines(),
    ]


def test_remarks_begin_with_what_was_applied_and_count_what_was_not() -> None:
    module = decoder(3)
    context = Context(module, Fuel(2))
    for pass_ in parse_pipeline("fuse-fma,fuse-qkv"):
        context.run(pass_)
    applied, refused = fold_remarks(context.remarks)
    assert [" ".join(line.split()) for line in applied] == ["2× fuse-fma/MulAddToFma at layers[0..1]"]
    assert refused[0].split("\n") == [
        f"{3:>11}× fuse-qkv/FuseQueryKeyValue at layers[0..2].attn",
        f"{'':13}out of fuel after 2",
    ]
    assert refused[1].split()[1:] == "fuse-fma/MulAddToFma at layers[2] out of fuel after 2".split()  # by its id


def test_nothing_to_remark() -> None:
    assert fold_remarks([]) == ([], [])
    a = application("x")
    assert fold_remarks([Remark(a, None)]) == ([f"{a.id} pass/Rule at x"], [])


def test_places() -> None:
    scopes = ["l[0].mlp", "l[2].mlp", "l[1].mlp", "l[0].attn", "head", "m[3]", ""]
    assert places(map(application, scopes)) == "l[0..2].mlp, l[0].attn, head, m[3], forward"
