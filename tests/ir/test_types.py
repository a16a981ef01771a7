"""Types and their text."""

import numpy as np
import pytest

from burnish.ir import FORMATS, InferError, Type
from burnish.ir.dims import Sym
from burnish.ir.parser import TextError, parse_type
from burnish.ir.types import NUMPY, dtype_name

B, S = Sym("B"), Sym("S")


@pytest.mark.parametrize(
    "text", ["bf16[B, S, 2048]", "i32[B]", "f32[]", "q4_0[4096, 4096]", "q8_0.planes[B, 64]", "bool[{2*S + 1}, 0]"]
)
def test_text_reads_back(text: str) -> None:
    assert str(parse_type(text)) == text
    assert parse_type(str(parse_type(text))) == parse_type(text)


@pytest.mark.parametrize("name", [*NUMPY, *FORMATS])
def test_every_element_type_has_a_text(name: str) -> None:
    assert parse_type(str(Type(name, (2, 256)))) == Type(name, (2, 256))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f33[2]", "unknown element type 'f33'"),
        ("f32.planes[2]", "f32 has no layouts"),
        ("q4_0[]", "needs at least one axis"),
        ("q4_0[2, 33]", "groups of 32 do not divide an input axis of 33"),
        ("q4_0[2, S]", "do not divide an input axis of S"),
        ("f32[-2]", "negative size"),
        ("f32[2.5]", "an integer"),
        ("f32[Max]", "cannot name a dimension"),
        ("f32[{S + }]", "ends early"),
        ("f32[2", "line 1"),
    ],
)
def test_what_is_no_type_is_refused(text: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        parse_type(text)


def test_sizes() -> None:
    assert Type("bf16", (2, 3)).nbytes == 12
    assert Type("q4_0", (4, 64)).nbytes == 4 * 2 * 18
    assert Type("int8", (4, 64)).nbytes == 4 * (4 + 64)
    assert Type("bf16", (B, 64)).nbytes is B * 128
    assert Type("f32", (2, 3)).sizes == (2, 3)
    with pytest.raises(InferError, match="still has symbols"):
        assert Type("f32", (B,)).sizes


def test_symbols_are_bound() -> None:
    t = Type("f32", (B, S * 2, B))
    assert t.symbols == ("B", "S")
    assert t.bind({"S": 3}) == Type("f32", (B, 6, B))
    assert t.bind({}) is t


def test_axes_count_from_either_end() -> None:
    t = Type("f32", (2, 3))
    assert [t.axis(a) for a in (0, 1, -1, -2)] == [0, 1, 1, 0]
    with pytest.raises(InferError, match="has no axis 2"):
        t.axis(2)


def test_only_our_element_types_have_names() -> None:
    assert dtype_name(np.dtype("float32")) == "f32"
    for dtype in ("complex64", "U3", ">f4", "O"):
        with pytest.raises(InferError, match="not supported"):
            dtype_name(np.dtype(dtype))
