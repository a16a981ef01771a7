"""Each op against float64, over shapes, strides and every kind of number, on both instruction sets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, find_kernel
from burnish.backends.kernels.elementwise import UNITS
from burnish.ir.evaluate import evaluate
from burnish.ir.op import Op, find_op
from burnish.ir.types import NUMPY, Type, dtype_name
from tests.backends.kernels.guarded import BOTH, call_kernel
from tests.backends.kernels.ulp import ulps

pytestmark = pytest.mark.skipif(not BOTH, reason="this CPU runs no native code")

Oracle = Callable[..., Any]
some = settings(max_examples=25)  # of each function: all share one loop


def sigmoid(x: np.ndarray) -> np.ndarray:
    return scipy.special.expit(x)  # type: ignore[no-any-return]


#: a function of float64, and how many units of f32 the kernel may be off
F32: dict[str, tuple[Oracle, float]] = {
    "add": (np.add, 0.5),
    "sub": (np.subtract, 0.5),
    "mul": (np.multiply, 0.5),
    "div": (np.divide, 0.5),
    "maximum": (np.maximum, 0),
    "minimum": (np.minimum, 0),
    "neg": (np.negative, 0),
    "abs": (np.abs, 0),
    "relu": (lambda x: np.maximum(x, 0), 0),
    "sqrt": (np.sqrt, 0.5),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5),
    "reciprocal": (lambda x: 1 / x, 0.5),
    "exp": (np.exp, 1.5),
    "log": (np.log, 0.51),
    "sin": (np.sin, 0.51),
    "cos": (np.cos, 0.51),
    "tanh": (np.tanh, 1.5),
    "erf": (scipy.special.erf, 1.5),
    "sigmoid": (sigmoid, 3),
    "softplus": (lambda x: np.logaddexp(x, 0), 0.51),
    "pow": (np.power, 0.51),
}
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "pow")
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38, 88.72, 88.73, -103.9]
SPECIAL += [0.5, 2.0, 3.0, -2.0, -3.0, -0.5, 0.625, 0.925, 16777216.0, 1e5, -87.5]


def numbers(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Of every size and kind, half of them of a size that models have."""
    rng = np.random.default_rng(seed)
    any_bits = rng.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)
    usual = rng.uniform(-12, 12, shape).astype(np.float32)
    special = rng.choice(np.array(SPECIAL, np.float32), shape)
    return np.where(rng.random(shape) < 0.5, usual, np.where(rng.random(shape) < 0.5, any_bits, special))


@st.composite
def shapes(draw: st.DrawFn, count: int) -> list[tuple[int, ...]]:
    """Shapes that broadcast to one."""
    size = st.sampled_from([0, 1, 1, 2, 3, 5, 16, 17, 31, 48, 70])
    whole = [draw(size) for _ in range(draw(st.integers(0, 4)))]
    found = []
    for _ in range(count):
        axes = [draw(st.sampled_from([n, n, n, 1])) for n in whole]
        found.append(tuple(axes[draw(st.sampled_from([0, 0, 0, 1])) :]))
    return found


def strided(x: np.ndarray, how: str) -> np.ndarray:
    """The same numbers, lying otherwise."""
    if how == "transposed":
        return np.ascontiguousarray(x.T).T
    if how == "gaps" and x.ndim:
        return np.concatenate([x, x], -1)[..., : x.shape[-1]]
    return x


layouts = st.sampled_from(["rows", "rows", "transposed", "gaps"])


def run(op: Op, *operands: np.ndarray, at_end: bool = True) -> np.ndarray:
    """What the kernel gives, the same on every instruction set."""
    results = [call_kernel(KERNELS[f"{op.name}.elementwise"], op, *operands, isa=s, at_end=at_end)[0] for s in BOTH]
    for other in results[1:]:
        assert_same(results[0], other)
    return results[0]


def assert_same(a: np.ndarray, b: np.ndarray) -> None:
    """The same bits, but for those of a NaN."""
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.array_equal(a != a, b != b)
    assert a[a == a].tobytes() == b[b == b].tobytes()


@pytest.mark.parametrize("name", F32)
@some
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_it_is_the_function_of_float64(name: str, data: st.DataObject, seed: int) -> None:
    oracle, limit = F32[name]
    given_shapes = data.draw(shapes(2 if name in BINARY else 1))
    operands = [strided(numbers(seed + i, s), data.draw(layouts)) for i, s in enumerate(given_shapes)]
    if name in ("sin", "cos"):
        operands = [np.where(np.abs(x) < 1e15, x, np.nan).astype("f4") for x in operands]
    got = run(find_op(name)(), *operands, at_end=data.draw(st.booleans()))
    with np.errstate(all="ignore"):
        exact = np.asarray(oracle(*[x.astype("f8") for x in operands]))
    assert ulps(got, exact) <= limit
    if name in ("pow", "div", "mul"):  # the sign of a zero too
        assert np.array_equal(np.signbit(got), np.signbit(exact), equal_nan=True) or np.isnan(exact).any()


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@some
@given(shape=shapes(1), seed=st.integers(0, 2**32))
def test_gelu_is_off_by_a_share_of_its_operand(approximate: str, shape: list[tuple[int, ...]], seed: int) -> None:
    x = numbers(seed, shape[0])
    got = run(find_op("gelu")(approximate=approximate), x)
    with np.errstate(all="ignore"):
        wide = x.astype("f8")
        if approximate == "tanh":
            exact = wide * sigmoid(2 * np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))
        else:
            exact = wide * scipy.special.ndtr(wide)
        assert np.array_equal(np.isnan(got), np.isnan(exact))
        good = np.isfinite(exact)
        assert np.all(np.abs(got - exact)[good] <= 1.5 * 2.0**-23 * np.abs(wide[good]) + 2.0**-126)


@some
@given(shape=shapes(1), seed=st.integers(0, 2**32))
def test_silu_is_within_units_where_its_factor_is_a_normal_number(shape: list[tuple[int, ...]], seed: int) -> None:
    x = numbers(seed, shape[0])
    got = run(find_op("silu")(), x)
    with np.errstate(all="ignore"):
        wide = x.astype("f8")
        exact = wide * sigmoid(wide)
        small = np.abs(exact) < 1e-35
        assert ulps(got[~small], exact[~small]) <= 3.5
        assert np.all(np.abs(got - exact)[small] <= 2.0**-126)


@some
@given(shape=shapes(3), seed=st.integers(0, 2**32), at_end=st.booleans())
def test_fma_is_rounded_once(shape: list[tuple[int, ...]], seed: int, at_end: bool) -> None:
    a, b, c = (numbers(seed + i, s) for i, s in enumerate(shape))
    got = run(find_op("fma")(), a, b, c, at_end=at_end)
    with np.errstate(all="ignore"):
        exact = a.astype("f8") * b.astype("f8") + c.astype("f8")  # the product is exact
    assert ulps(got, exact) <= 0.5


@pytest.mark.parametrize("name", ["sin", "cos"])
@some
@given(seed=st.integers(0, 2**32))
def test_beyond_its_range_a_sine_is_one_still(name: str, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(1e15, 3e38, 40).astype("f4")
    assert np.all(np.abs(run(find_op(name)(), x)) <= 1)


#: what is exact: held to `evaluate`
EXACT = [
    *((name, "i32") for name in ("add", "sub", "mul", "div", "mod", "maximum", "minimum")),
    *((name, dtype) for dtype in ("f32", "i32") for name in ("equal", "less", "less_or_equal", "where")),
    ("equal", "bool"), ("logical_and", "bool"), ("logical_or", "bool"), ("logical_not", "bool"), ("where", "bool"),
    ("isnan", "f32"),
]  # fmt: skip


def of_type(dtype: str, seed: int, shape: tuple[int, ...]) -> np.ndarray:
    rng, x = np.random.default_rng(seed), numbers(seed, shape)
    if dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype == "i32":
        ends = np.array([0, -1, 1, 2**31 - 1, -(2**31), 7, -3], np.int32)
        return np.where(rng.random(shape) < 0.5, rng.choice(ends, shape), rng.integers(-9, 9, shape)).astype("i4")
    with np.errstate(all="ignore"):
        return x.astype(NUMPY[dtype])


@pytest.mark.parametrize(("name", "dtype"), EXACT)
@some
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_what_is_exact_is_what_numpy_gives(name: str, dtype: str, data: st.DataObject, seed: int) -> None:
    op = find_op(name)()
    types = ["bool", dtype, dtype] if name == "where" else [dtype] * (1 if name in ("isnan", "logical_not") else 2)
    given_shapes = data.draw(shapes(len(types)))
    operands = [of_type(t, seed + i, s) for i, (t, s) in enumerate(zip(types, given_shapes, strict=True))]
    operands = [strided(x, data.draw(layouts)) for x in operands]
    got = run(op, *operands, at_end=data.draw(st.booleans()))
    with np.errstate(all="ignore"):
        (expected,) = evaluate(op, np, operands, [dtype_name(got.dtype)])
    assert_same(got, expected)


@pytest.mark.parametrize("pair", [n.split(".")[1:] for n in UNITS["casts"].split()], ids="-".join)
@some
@given(shape=shapes(1), seed=st.integers(0, 2**32), at_end=st.booleans())
def test_casts(pair: list[str], shape: list[tuple[int, ...]], seed: int, at_end: bool) -> None:
    op, x = find_op("cast")(to=pair[1]), of_type(pair[0], seed, shape[0])
    with np.errstate(all="ignore"):
        (expected,) = evaluate(op, np, [x], [pair[1]])
    assert_same(run(op, x, at_end=at_end), expected)


@some
@given(rows=st.integers(1, 6), n=st.integers(1, 70), seed=st.integers(0, 2**32))
def test_a_row_alone_has_the_bits_that_it_has_among_others(rows: int, n: int, seed: int) -> None:
    for name in ("silu", "tanh", "softplus", "sin"):
        x, op = numbers(seed, (rows, n)), find_op(name)()
        whole = run(op, x)
        assert_same(run(op, x[rows - 1 :]), whole[rows - 1 :])
        assert_same(run(op, x[0, n - 1 :]), whole[0, n - 1 :])  # nor on where in a row a number stands


def test_the_tables_of_both_sides_are_of_the_same_functions() -> None:
    simd = pytest.importorskip("burnish.backends.kernels.simd.elementwise", reason="Numba is not installed")
    assert {unit: " ".join(functions) for unit, functions in simd.OPERATIONS.items()} == UNITS


@pytest.mark.parametrize(
    ("op", "types", "reason"),
    [
        (find_op("add")(), ["f64", "f64"], "add.elementwise: f64[4], f64[4]: there is no add.f64"),
        (find_op("silu")(), ["bf16"], "silu.elementwise: bf16[4]: there is no silu.bf16"),
        (find_op("cast")(to="i64"), ["f32"], "cast.elementwise: f32[4]: there is no cast.f32.i64"),
        (find_op("gelu")(approximate="tanh"), ["f16"], "gelu.elementwise: f16[4]: there is no gelu_tanh.f16"),
    ],
)
def test_a_refusal_has_a_reason(op: Op, types: list[str], reason: str) -> None:
    assert find_kernel(op, [Type(t, (4,)) for t in types]) == (None, reason)


@pytest.mark.parametrize(
    ("got", "exact", "error"),
    [(1.0, 1.0 + 2**-24, 0.5), (np.inf, 1.0, np.inf), (1.0, np.nan, np.inf), (np.inf, 1e39, 0)],
)
def test_units_are_counted(got: float, exact: float, error: float) -> None:
    assert ulps(np.array([got], "f4"), np.array([exact])) == error
