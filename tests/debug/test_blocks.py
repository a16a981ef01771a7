"""What a block adds is told apart from what it inherits."""

import pytest

import burnish
from burnish.debug.blocks import added_by_blocks
from burnish.debug.samples import readings_of
from burnish.ir.ops.elementwise import Mul
from burnish.testing.ops import gamma
from tests.decoder import TERMS, decoder
from tests.planted import planted_pass, rewrite

pytestmark = pytest.mark.usefixtures("registries")


def test_the_wrong_block_adds_and_those_behind_it_inherit() -> None:
    planted_pass(rewrite("Wrong", Mul, lambda op, n: op.mul(n["a"], op.mul(n["b"], 1.1)), "layers[1]"))
    before = decoder(4)
    reading = list(readings_of(before))[1].first
    blocks = added_by_blocks(before, burnish.optimize(before, "planted"), reading)
    assert [b.block for b in blocks] == [f"layers[{i}]" for i in range(4)]
    assert all((b.added > 1e-2) == (b.block == "layers[1]") for b in blocks)
    assert [b.total > 1e-2 for b in blocks] == [False, True, True, True]
    assert all(b.added < gamma(TERMS) for b in blocks if b.block != "layers[1]")


def test_a_right_pass_adds_but_roundings() -> None:
    before = decoder(4)
    reading = list(readings_of(before))[1].first
    for pipeline, count in (("fuse-qkv,fuse-fma", 4), ("insert-state", 4), ("stateful", 3)):  # the last leaves a row
        blocks = added_by_blocks(before, burnish.optimize(before, pipeline), reading)
        assert len(blocks) == count and all(b.total < gamma(TERMS) for b in blocks)


def test_blocks_in_a_loop_are_left_out() -> None:
    before = decoder(4)
    rolled = burnish.optimize(before, "roll-blocks")
    assert added_by_blocks(before, rolled, list(readings_of(before))[1].first) == []
