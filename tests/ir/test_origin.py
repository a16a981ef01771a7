"""Where things come from: scopes, the blocks in them, and what is made of several."""

import pytest

from burnish.ir.origin import Block, Origin, block_of, dotted, ranges


@pytest.mark.parametrize(
    ("scope", "block"),
    [
        ("model.layers[3].self_attn", Block("model.layers", 3)),
        ("h[0]", Block("h", 0)),
        ("[12].mlp", Block("", 12)),
        ("decoder.block[1].layer.0.SelfAttention", Block("decoder.block", 1)),
        ("layers[3].experts[5].w1", Block("layers", 3)),  # the outermost
        ("model.0.layers[3]", Block("model.0.layers", 3)),
        ("model.layers.3.self_attn", None),  # a number is no block
        ("names[of].what[01].is[3]no[-1].block", None),
        ("h[9999999999]", None),  # no one has so many
        ("", None),
    ],
)
def test_a_block_is_a_stack_and_an_index(scope: str, block: Block | None) -> None:
    assert block_of(scope) == block


def test_the_names_of_parameters_are_dotted() -> None:
    scopes = ("model.layers[3].mlp", "[3].experts[5]", "names[of]", "")
    assert [dotted(s) for s in scopes] == ["model.layers.3.mlp", "3.experts.5", "names[of]", ""]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("model.0.layers.0.norm.weight", "norm.weight"),
        ("blk.0.attn_q.weight", "attn_q.weight"),  # another spelling of the way
        ("wrapper.model.0.layers.0.norm.weight", "norm.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("blk.10.attn_q.weight", "blk.10.attn_q.weight"),
    ],
)
def test_what_a_block_calls_its_own(name: str, own: str) -> None:
    assert Block("model.0.layers", 0).own_name(name) == own


def test_what_is_made_of_several_remembers_all() -> None:
    a = Origin("model.layers[3].mlp", ("up",), ("Recover",))
    b = Origin("model.layers[3].attn", ("q", "up"), ())
    assert Origin.union([a, b], "Fuse") == Origin("model.layers[3]", ("up", "q"), ("Recover", "Fuse"))
    assert Origin.union([a]) == a
    assert Origin.union([]) == Origin()
    assert Origin.union([a, Origin("modern")]).scope == ""


@pytest.mark.parametrize(
    ("scopes", "shared"),
    [
        (["model.layers[1].mlp", "model.layers[1]"], "model.layers[1]"),
        (["model.layers[1]", "model.layers[12]"], "model.layers"),  # what two blocks share is their stack's
        (["model.layers[1]", "model.norm"], "model"),
        (["[1].mlp", "[2].mlp"], ""),
        (["names[of].a", "names[of].b"], "names[of]"),
    ],
)
def test_the_innermost_scope_that_holds_all(scopes: list[str], shared: str) -> None:
    assert Origin.union(map(Origin, scopes)).scope == shared


def test_numbers_in_a_row_are_a_range() -> None:
    assert ranges([]) == ""
    assert ranges(["3"]) == "3"
    assert ranges("0 1 2 5 7 8".split()) == "0..2, 5, 7..8"
    assert ranges(["08", "09", "10", "12"]) == "08..10, 12"
