"""Constants and the text of attributes."""

import math

import numpy as np
import pytest

from burnish.ir.dims import Sym
from burnish.ir.literal import Literal, attribute_text
from burnish.ir.types import NUMPY


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((True, "true"), (1, "1"), (1.0, "1.0"), (-0.0, "-0.0"), (1e-5, "1e-05"), (1e22, "1e+22"), (None, "none")),
        *((math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "nan"), ('a"b\n\u2028é', '"a\\"b\\n\u2028é"')),
        *(((1, (2.0, "x")), '[1, [2.0, "x"]]'), ((), "[]"), (Sym("S"), "S"), (Sym("S") * 2, "{2*S}")),
    ],
)
def test_attributes(value: object, text: str) -> None:
    assert attribute_text(value) == text


def test_what_has_no_text_is_refused() -> None:
    for value in (np.float32(1), {}, object()):
        with pytest.raises(TypeError, match="cannot be an attribute"):
            attribute_text(value)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array(2.0, "f4"), "f32(2.0)"),
        (np.array([0.1, 3e38], "f4"), "f32([0.1, 3e+38])"),
        (np.array([0.1], "f8"), "f64([0.1])"),
        (np.array([0.1, -0.0, np.inf], NUMPY["bf16"]), "bf16([0.10009765625, -0.0, inf])"),
        (np.array([6e-8], "f2"), "f16([6e-08])"),
        (np.array([[True], [False]]), "bool([[true], [false]])"),
        (np.array([2**64 - 1], "u8"), "u64([18446744073709551615])"),
    ],
)
def test_few_numbers_are_written_inline(array: np.ndarray, text: str) -> None:
    assert Literal(array).inline == text


def test_the_others_are_known_by_their_sha() -> None:
    for array in (np.zeros(9, "f4"), np.zeros(0, "f4"), np.array([np.nan], "f4")):
        literal = Literal(array)
        assert literal.inline is None
        assert repr(literal) == f'"{literal.sha}"'


def test_equal_means_the_same_type_shape_and_bytes() -> None:
    arrays = [np.zeros(3, "f4"), np.zeros(3, "i4"), np.zeros((3, 1), "f4"), -np.zeros(3, "f4"), np.zeros((), "f4")]
    assert len({Literal(a) for a in arrays}) == len(arrays)
    assert Literal(arrays[0]) == Literal(np.zeros(6, "f4")[::2])


def test_the_data_cannot_change_and_the_callers_array_still_can() -> None:
    array = np.zeros(3, "f4")
    literal = Literal(array)
    with pytest.raises(ValueError, match="read-only"):
        literal.data[0] = 1
    assert array.flags.writeable


def test_a_literal_may_be_only_a_name() -> None:
    whole = Literal(np.arange(9))
    name = Literal.named("i64", (9,), whole.sha)
    assert name == whole and not name.has_data
    with pytest.raises(LookupError, match="has no data"):
        assert name.data is None
