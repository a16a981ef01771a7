"""rope against float64, and the sines that it is made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.backends.kernels import KERNELS, find_kernel
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.cpu import instruction_set, instruction_sets
from burnish.backends.native.emit import Emitter
from burnish.backends.native.tensor import tensor_of
from burnish.ir.op import find_op
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, LAYOUTS, call_kernel, lying

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="this CPU runs no native code")
KERNEL = KERNELS["rope.table"]
assert isinstance(KERNEL, NativeKernel)


def exact(x: np.ndarray, angles: np.ndarray, scale: float, interleaved: bool) -> np.ndarray:
    """In float64, of f32 angles [B, S, R/2]."""
    half = angles.shape[-1]
    cos, sin = (np.float32(scale) * f(angles.astype("f8"))[:, :, None] for f in (np.cos, np.sin))
    pairs = (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if interleaved else (slice(0, half), slice(half, 2 * half))
    out, left, right = x.astype("f8"), *(x[..., p].astype("f8") for p in pairs)
    out[..., pairs[0]], out[..., pairs[1]] = left * cos - right * sin, right * cos + left * sin
    return out


@given(st.data())
def test_it_rotates_by_the_angle_of_f32(data: st.DataObject) -> None:
    batch, tokens, heads = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(1, 3)))
    half = data.draw(st.integers(1, 40))
    n = data.draw(st.integers(2 * half, 2 * half + 20))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = lying(random.standard_normal((batch, tokens, heads, n)).astype("f4"), data.draw(st.sampled_from(LAYOUTS)))
    shape = data.draw(st.sampled_from([(batch, tokens), (1, tokens), (batch, 1)]))
    most, dtype = data.draw(st.sampled_from([(1, "i4"), (10**5, "i4"), (2**31 - 1, "i4"), (2**33, "i8")]))
    positions = lying(random.integers(-most, most, shape).astype(dtype), data.draw(st.sampled_from(LAYOUTS)))
    by_sequence = data.draw(st.sampled_from([(), (1,), (batch,)]))
    inv_freq = lying(random.random((*by_sequence, half)).astype("f4"), data.draw(st.sampled_from(LAYOUTS)))
    interleaved, scale = data.draw(st.booleans()), data.draw(st.sampled_from([1.0, 1.2]))
    op = find_op("rope")(interleaved=interleaved, scale=scale)
    angles = np.broadcast_to(positions.astype("f4")[..., None] * inv_freq.reshape(-1, 1, half), (batch, tokens, half))
    results = [
        call_kernel(KERNEL, op, x, positions, inv_freq, isa=isa, at_end=data.draw(st.booleans()))[0] for isa in BOTH
    ]
    expected = exact(x, angles, scale, interleaved)
    largest = np.abs(x).max(initial=0) * scale
    assert np.abs(results[0] - expected).max(initial=0) <= 4 * 2.0**-24 * largest  # 3 roundings, 2 of them of a product
    for other in results[1:]:
        assert other.tobytes() == results[0].tobytes()


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e5, 1e9, 2.0**50])
@pytest.mark.parametrize("isa", BOTH, ids=lambda s: s.name)
def test_sines_are_the_nearest_numbers_but_for_a_few(isa: object, scale: float) -> None:
    """A head (1, 0) turns to (cos, sin)."""
    random = np.random.default_rng(0)
    angles = np.concatenate([random.uniform(-scale, scale, 20_000), np.pi / 2 * np.arange(-50, 50)]).astype("f4")
    x = np.tile(np.array([1, 0], "f4"), (1, 1, 1, len(angles)))
    op = find_op("rope")(interleaved=True)
    (turned,) = call_kernel(KERNEL, op, x, np.ones((1, 1), "i4"), angles, isa=isa)  # type: ignore[arg-type]  # of BOTH
    for found, f in ((turned[0, 0, 0, 0::2], np.cos), (turned[0, 0, 0, 1::2], np.sin)):
        exactly = f(angles.astype("f8"))
        ulps = np.abs(found - exactly) / np.spacing(np.abs(exactly).astype("f4")).astype("f8")
        assert ulps.max() <= 0.501


def test_what_is_not_finite_is_no_number() -> None:
    x, inv_freq = np.ones((1, 1, 1, 6), "f4"), np.array([np.inf, -np.inf, np.nan], "f4")
    assert np.isnan(call_kernel(KERNEL, find_op("rope")(), x, np.ones((1, 1), "i4"), inv_freq)[0]).all()


def test_nodes_that_turn_by_the_same_angles_share_their_table() -> None:
    isa = instruction_set()
    assert isa is not None
    emitter = Emitter(isa, 1)
    q, positions, inv_freq = (
        tensor_of(np.zeros(s, t), "given") for s, t in (((1, 2, 3, 8), "f4"), ((1, 2), "i4"), (4, "f4"))
    )
    other = tensor_of(np.zeros((1, 2), "i4"), "given")
    op, twice = find_op("rope")(), find_op("rope")(scale=2.0)
    made = []
    for o, at in ((op, positions), (op, positions), (op, other), (twice, positions)):
        KERNEL.emit(emitter, o, [Type("f32", (1, 2, 3, 8))], q, at, inv_freq)
        made.append([c.function for c in emitter.calls])
        emitter.calls = []
    assert made == [["table", "halves"], ["halves"], ["table", "halves"], ["table", "halves"]]


@pytest.mark.parametrize(
    ("dtypes", "reason"),
    [
        (("f16", "i32", "f32"), "rope.table: f16[1, 2, 3, 8], f32[4] are not f32"),
        (("f32", "i32", "f64"), "rope.table: f32[1, 2, 3, 8], f64[4] are not f32"),
        (("f32", "u8", "f32"), "rope.table: positions are u8[1, 2]"),
    ],
)
def test_a_refusal_has_a_reason(dtypes: tuple[str, ...], reason: str) -> None:
    types = [Type(d, s) for d, s in zip(dtypes, [(1, 2, 3, 8), (1, 2), (4,)], strict=True)]
    assert find_kernel(find_op("rope")(), types) == (None, reason)
