"""linear.floats against float64, and the law that an output's bits depend on its token and its row of weights alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, float_linear
from burnish.backends.native.cpu import InstructionSet
from burnish.ir.format import Packed
from burnish.ir.op import Array, find_op
from burnish.ir.types import NUMPY, Type
from tests.backends.kernels.guarded import BOTH, ENDS, call_kernel

KERNEL, LINEAR = KERNELS["linear.floats"], find_op("linear")()
STORED = ("f32", "f16", "bf16")
pytestmark = pytest.mark.skipif(not BOTH, reason="this CPU runs no native code")
every_cpu = pytest.mark.parametrize("isa", BOTH, ids=lambda isa: isa.name)
every_type = pytest.mark.parametrize("dtype", STORED)
MANY = float_linear.MANY


def run(x: np.ndarray, w: Array, b: np.ndarray | None, isa: InstructionSet | None = None, **how: object) -> np.ndarray:
    (y,) = call_kernel(KERNEL, LINEAR, x, w, b, isa=isa, **how)
    return y.copy()


def floats(*shape: int, dtype: str = "f32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape, np.float32).astype(NUMPY[dtype])


def check(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, y: np.ndarray) -> None:
    """Each output within the roundings of a sum of K + 1 terms, of the magnitudes of its terms.

    A term goes through at most K / 16 + 1 sums in its part, four of the parts, and the bias's.
    """
    wide, terms = x.astype("f8") @ w.astype("f8").T, np.abs(x).astype("f8") @ np.abs(w.astype("f8")).T
    wide, terms = (wide, terms) if b is None else (wide + b, terms + np.abs(b))
    assert y.dtype == np.float32
    assert y.shape == wide.shape
    assert np.all(np.abs(y - wide) <= (x.shape[-1] // 16 + 6) * 2.0**-24 * terms)


sizes = st.tuples(
    st.sampled_from([(), (1,), (7,), (2, 3), (0,), (MANY,), (2, MANY + 5)]),  # of x
    st.integers(1, 70),  # outputs
    st.one_of(st.integers(1, 70), st.sampled_from([128, 640, 641, 1300])),  # inputs
)


@every_cpu
@every_type
@given(sizes, st.booleans(), st.sampled_from(ENDS), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_it_agrees_with_float64(
    isa: InstructionSet, dtype: str, size: tuple[tuple[int, ...], int, int], biased: bool, at_end: bool, seed: int
) -> None:
    lead, outputs, inputs = size
    x, w, b = floats(*lead, inputs), floats(outputs, inputs, dtype=dtype), floats(outputs) if biased else None
    check(x, w, b, run(x, w, b, isa, at_end=at_end, seed=seed))


@every_type
@pytest.mark.parametrize("inputs", [5, 96, 1300])
def test_bits_depend_on_the_token_and_the_row_alone(dtype: str, inputs: int) -> None:
    """Not on the other tokens, nor the other rows, threads or instruction sets."""
    x, w, b = floats(2 * MANY + 7, inputs), floats(70, inputs, dtype=dtype), floats(70)
    expected = run(x, w, b)
    for isa in BOTH:
        for tokens in (1, 2, 3, 5, 6, 13, MANY, len(x)):
            assert np.array_equal(run(x[:tokens], w, b, isa, seed=tokens), expected[:tokens])
            assert np.array_equal(run(x[-tokens:], w[3:], b[3:], isa), expected[-tokens:, 3:])


@every_cpu
@pytest.mark.parametrize("tokens", [3, MANY])
def test_bits_do_not_depend_on_where_operands_lie(isa: InstructionSet, tokens: int) -> None:
    x, w, b = floats(tokens, 128), floats(40, 128), floats(40)
    expected = run(x, w, b, isa)
    apart = np.zeros((tokens, 3, 2048), np.float32)
    apart[:, 1, 5:133] = x
    wide = np.zeros((40, 200), np.float32)
    wide[:, 7:135] = w
    assert np.array_equal(run(apart[:, 1, 5:133], wide[:, 7:135], b, isa), expected)
    assert np.array_equal(run(np.asfortranarray(x), np.asfortranarray(w), np.repeat(b, 2)[::2], isa), expected)


@every_cpu
def test_nothing_but_numbers_in_their_place_counts(isa: InstructionSet) -> None:
    """What is not finite spoils its own outputs only."""
    x, w = floats(MANY, 70), floats(41, 70)
    expected = run(x, w, None, isa)
    x[3], w[9, 69] = np.nan, np.inf
    for tokens in (7, MANY):
        y = run(x[:tokens], w, None, isa)
        spoiled = np.zeros(y.shape, bool)
        spoiled[3], spoiled[:, 9] = True, True
        assert np.array_equal(np.isfinite(y), ~spoiled)
        assert np.array_equal(y[~spoiled], expected[:tokens][~spoiled])


@every_cpu
@pytest.mark.parametrize("format", ["q4_0", "q4_k", "int8"])
def test_quantized_weights_are_those_that_they_stand_for(isa: InstructionSet, format: str) -> None:
    """The bits of a linear with the weights unpacked."""
    for rows, inputs in ((9, 256), (36, 1280)):
        w, b = Packed.made_up(format, (rows, inputs), np.random.default_rng(0)), floats(rows)
        for tokens in (1, 5, MANY):
            x = floats(tokens, inputs)
            expected = run(x, w.dequantize(np), b, isa)
            for at_end in ENDS:
                assert np.array_equal(run(x, w, b, isa, at_end=at_end), expected)


@pytest.mark.parametrize(
    ("dtypes", "to", "reason"),
    [
        (("f32", "int8_32", "f32"), "", "int8_32 has a meaning of its own"),
        (("f32", "f64", "f32"), "", "w is f64[8, 64], not f32, f16, bf16 or quantized"),
        (("bf16", "bf16", "f32"), "f32", "x is bf16[2, 64]"),
        (("f32", "bf16", "f32"), "bf16", "the result is bf16, not f32"),
        (("f32", "bf16", "f64"), "", "b is f64[8], wider than f32"),
    ],
)
def test_what_it_does_not_take_has_a_reason(dtypes: tuple[str, str, str], to: str, reason: str) -> None:
    x, w, b = (Type(d, shape) for d, shape in zip(dtypes, ((2, 64), (8, 64), (8,)), strict=True))
    assert reason in str(KERNEL.why_not(find_op("linear")(to=to), x, w, b))


def test_the_check_sees_an_input_that_is_left_out() -> None:
    x, w = floats(2, 4864), floats(5, 4864)
    check(x, w, None, run(x, w, None))
    with pytest.raises(AssertionError):
        check(x, w, None, run(x[:, :-1], w[:, :-1], None))
