"""Mixtures of experts."""

import numpy as np
import pytest

import burnish.backends.kernels  # noqa: F401  # registers the layouts of tiles
from burnish.ir import OPS, InferError, Packed, Type
from burnish.ir.dims import Sym
from burnish.testing import check_op, run_jax, run_numpy
from tests.ir.oracles import ORACLES, family, normal, op, packed


@pytest.mark.parametrize("name", family("ops.experts"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


def test_there_must_be_as_many_to_choose_from() -> None:
    x = Type("f32", (Sym("B"), 8))
    assert op("top_k", k=8).results(x) == (x, Type("i32", (Sym("B"), 8)))
    for k, message in ((9, "9 is more than 8"), (0, "0 are none")):
        with pytest.raises(InferError, match=message):
            op("top_k", k=k).results(x)
    for dtype in ("bool", "int8"):
        with pytest.raises(InferError, match="is not a vector of numbers"):
            op("top_k", k=1).results(Type(dtype, (8,)))


B = Sym("B")
X, W, AT = Type("f32", (B, 1, 64)), Type("q4_0", (4, 6, 64)), Type("i32", (B, 2))


@pytest.mark.parametrize("x", [X, Type("f32", (B, 2, 64)), Type("bf16", (B, 1, 64))])
def test_what_a_token_gives_each_of_its_experts(x: Type) -> None:
    for w in (W, Type("f16", W.shape), Type("q8_0", W.shape, "planes")):
        assert op("expert_linear").results(x, w, AT) == (Type(x.dtype, (B, 2, 6)),)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ((Type("f32", (B, 64)), W, AT), "expected x"),
        ((X, Type("f32", (6, 64)), AT), "expected x"),
        ((Type("f32", (B, 1, 32)), W, AT), "expected x"),
        ((Type("f32", (3, 3, 64)), W, Type("i32", (3, 2))), "3 .* 2"),
        ((Type("f32", (3, 1, 64)), W, Type("i32", (4, 2))), "3 .* 4"),
        ((X, W, Type("f32", (B, 2))), "choices are not integers"),
        ((Type("int8_32", (B, 1, 64)), W, AT), "give `to`"),
        ((Type("i32", (B, 1, 64)), W, AT), "give `to`"),
        ((X, Type("i8", W.shape), AT), "are not floats"),
        ((X, W, AT, Type("f32", (4, 64))), "not one of each output of each expert"),
        ((X, W, AT, Type("i32", (4, 6))), "not one of each output of each expert"),
    ],
)
def test_what_does_not_fit_is_refused(types: tuple[Type, ...], message: str) -> None:
    with pytest.raises(InferError, match=message):
        op("expert_linear").results(*types)


def test_inputs_may_be_rounded_too_and_weights_lie_in_tiles() -> None:
    x, w = Type("int8_32", (B, 1, 64)), Type("q4_0", W.shape, "tiles8")
    assert op("expert_linear", to="f32").results(x, w, AT) == (Type("f32", (B, 2, 6)),)
    rounded, stored = packed("int8_32", 3, 1, 64), packed("q4_0", 4, 5, 64)
    chosen = np.array([[3, 1], [0, 0], [1, 2]], "i4")
    for run in (run_numpy, run_jax):
        (y,) = run(op("expert_linear", to="f32"), [rounded, stored.relayout(np, "tiles8"), chosen])
        (expected,) = run(op("expert_linear"), [rounded.dequantize(np), stored, chosen])
        assert np.array_equal(y, expected)


def test_only_experts_that_are_chosen_are_unpacked_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    w, unpacked = packed("q8_0", 4, 3, 64), list[tuple[int, ...]]()
    dequantize = Packed.dequantize

    def told(self: Packed, xp: object) -> np.ndarray:
        unpacked.append(self.shape)
        return dequantize(self, xp)

    monkeypatch.setattr(Packed, "dequantize", told)
    run_numpy(op("expert_linear"), [normal(2, 1, 64), w, np.array([[3, 1], [1, 3]], "i4")])
    assert unpacked == [(1, 3, 64), (1, 3, 64)]
