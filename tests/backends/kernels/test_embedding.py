"""embedding.rows, bit for bit what NumPy's `evaluate` gives, for every format."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS
from burnish.backends.kernels.stored import why_not_stored
from burnish.backends.native.cpu import InstructionSet
from burnish.ir.evaluate import evaluate
from burnish.ir.format import FORMATS, Packed, QuantFormat
from burnish.ir.op import Array, find_op
from burnish.ir.parts import Part
from burnish.ir.types import NUMPY, Type
from tests.backends.kernels.guarded import BOTH, ENDS, call_kernel

KERNEL, EMBEDDING = KERNELS["embedding.rows"], find_op("embedding")(to="f32")
FLOATS = ("f32", "f16", "bf16")
READ = [name for name, format in FORMATS.items() if why_not_stored(Type(name, (1, format.group or 1))) is None]
needs_code = pytest.mark.skipif(not BOTH, reason="this CPU runs no native code")
every_cpu = pytest.mark.parametrize("isa", BOTH, ids=lambda isa: isa.name)
every_table = pytest.mark.parametrize("dtype", [*FLOATS, *READ])


def table(dtype: str, rows: int, n: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    if dtype in FORMATS:
        return Packed.made_up(dtype, (rows, n), rng)
    return rng.standard_normal((rows, n), np.float32).astype(NUMPY[dtype])


def check(ids: np.ndarray, w: Array, isa: InstructionSet, at_end: bool = True) -> None:
    (y,), (expected,) = (
        call_kernel(KERNEL, EMBEDDING, ids, w, isa=isa, at_end=at_end),
        evaluate(EMBEDDING, np, [ids, w], ["f32"]),
    )
    assert y.shape == expected.shape
    assert y.tobytes() == expected.tobytes()


def test_every_format_of_ours_is_read_but_that_of_activations() -> None:
    assert {*FORMATS} - {*READ} == {"int8_32"}


@needs_code
@every_cpu
@every_table
@given(st.data())
@settings(max_examples=10, deadline=None)
def test_rows_of_every_kind_of_table(isa: InstructionSet, dtype: str, data: st.DataObject) -> None:
    """Ids count from the end where they are negative, and are clipped to the nearest where there is no such row."""
    group = FORMATS[dtype].group or 1 if dtype in FORMATS else 1
    rows, n = data.draw(st.integers(1, 9)), group * data.draw(st.integers(1, 3 if group > 1 else 70))
    shape = data.draw(st.sampled_from([(), (1,), (2, 3), (0,), (3, 0), (17,)]))
    ids = np.random.default_rng(0).integers(-12, 12, shape).astype(data.draw(st.sampled_from(["i4", "i8"])))
    check(ids, table(dtype, rows, n), isa, data.draw(st.sampled_from(ENDS)))


@needs_code
@every_cpu
@pytest.mark.parametrize("format", [name for name in READ if any(p.dtype == "f2" for p in FORMATS[name].parts)])
def test_scales_of_every_kind(isa: InstructionSet, format: str) -> None:
    """Zeros of both signs, subnormal ones and infinite ones."""
    parts = dict(table(format, 6, 256).unpack(np))
    for name in ("scale", "minimum"):
        if name in parts:
            parts[name] = parts[name].copy()
            parts[name][:, 0] = np.array([0.0, -0.0, 6e-8, -3e-5, np.inf, -65504], "f2")
    check(np.arange(6, dtype="i4"), Packed.of_parts(np, format, parts), isa)


@needs_code
@every_cpu
def test_ids_and_rows_that_lie_apart(isa: InstructionSet) -> None:
    w = np.zeros((9, 3, 40), np.float32)
    w[:] = table("f32", 27, 40).reshape(9, 3, 40)
    check(np.arange(12, dtype="i4").reshape(3, 4).T, w[:, 1, 5:27], isa)
    check(np.arange(6, dtype="i8")[::2], w[:, 2].T, isa)


@pytest.mark.parametrize(
    ("ids", "w", "to", "reason"),
    [
        ("u8", Type("f32", (9, 32)), "f32", "ids are u8[2], not i32 or i64"),
        ("i32", Type("f64", (9, 32)), "f32", "w is f64[9, 32], not f32, f16, bf16 or quantized"),
        ("i32", Type("bf16", (9, 32)), "", "the result is bf16, not f32"),
        ("i32", Type("q4_0", (9, 32), "planes"), "f32", "not in the layout of files"),
        ("i32", Type("int8_32", (9, 32)), "f32", "int8_32 has a meaning of its own"),
    ],
)
def test_what_it_does_not_take_has_a_reason(ids: str, w: Type, to: str, reason: str) -> None:
    assert reason in str(KERNEL.why_not(find_op("embedding")(to=to), Type(ids, (2,)), w))


CODE = Part("code", per="input", bits=3)


def made(registries: None, **changes: object) -> QuantFormat:
    sound = {"__doc__": "A format of a plugin.", "group": 64, "parts": (Part("scale", "f4"), CODE)}
    return FORMATS[type("Other", (QuantFormat,), {**sound, **changes}).name]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dequantize": lambda self, xp, parts: parts["code"].astype("f4")}, "other has a meaning of its own"),
        ({"parts": (Part("scale", "f8"), CODE)}, "other has a scale of type f8"),
        ({"parts": (Part("scale", "f4"), Part("code", "i2", per="input"))}, "other has a code of type i2"),
        ({"group": 0}, "other has parts that share bytes, or runs, and no groups"),
    ],
)
def test_a_format_that_is_not_read_has_a_reason(registries: None, changes: dict[str, object], reason: str) -> None:
    assert reason in str(why_not_stored(Type(made(registries, **changes).name, (1, 64))))


@needs_code
@pytest.mark.slow
@every_cpu
def test_a_format_of_a_plugin_is_read_by_its_parts(registries: None, isa: InstructionSet) -> None:
    """3 bits, runs of 8, signed sub-scales, f32 scales and minima, and a constant zero: as no format of ours."""
    parts = (Part("scale", "f4"), Part("minimum", "f4"), Part("subscale", "i1", per="run"), CODE)
    made(registries, parts=parts, run=8, zero=4)
    check(np.arange(5, dtype="i4"), table("other", 5, 192), isa)
