"""The layouts of the kernels: exact both ways, and arranged as they say."""

import jax.numpy as jnp
import numpy as np
import pytest

from burnish.backends.kernels import tiles  # noqa: F401  # registers the layouts
from burnish.ir.dims import Sym
from burnish.ir.format import FORMATS, LAYOUTS, Packed
from burnish.ir.op import find_op
from burnish.ir.types import InferError, Type

LANES = {"tiles8": 8, "tiles16": 16}


def any_q4_0(rows: int, inputs: int) -> Packed:
    """Every bit of it random."""
    fmt = FORMATS["q4_0"]
    data = np.random.default_rng(rows * inputs).integers(0, 256, (rows, fmt.row_bytes(inputs)), np.uint8)
    return Packed("q4_0", "", (rows, inputs), {"bytes": data})


@pytest.mark.parametrize("layout", LANES)
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 16, 17, 50])
@pytest.mark.parametrize("inputs", [32, 96, 896])
def test_packing_is_exact_both_ways(layout: str, rows: int, inputs: int) -> None:
    weights = any_q4_0(rows, inputs)
    tiled = weights.relayout(np, layout)
    assert tiled.shape == weights.shape
    assert np.array_equal(tiled.relayout(np, "").planes["bytes"], weights.planes["bytes"])
    other = tiled.relayout(np, "tiles8" if layout == "tiles16" else "tiles16")
    assert np.array_equal(other.relayout(np, "planes").unpack(np)["q"], weights.unpack(np)["q"])


@pytest.mark.parametrize(("layout", "lanes"), LANES.items())
def test_words_lie_as_the_arrangement_says(layout: str, lanes: int) -> None:
    rows, inputs = 19, 64
    weights = any_q4_0(rows, inputs)
    q = weights.unpack(np)["q"]
    code = np.concatenate([q & 15, q >> 4], axis=-1)  # [rows, groups, input]
    words = weights.relayout(np, layout).planes["words"]
    for tile, group, word, lane, byte in np.ndindex(words.shape):
        row = tile * lanes + lane
        low, high = (code[row, group, 8 * word + byte + half] if row < rows else 0 for half in (0, 4))
        assert words[tile, group, word, lane, byte] == low | high << 4


@pytest.mark.parametrize("layout", LANES)
def test_planes_start_at_a_cache_line(layout: str) -> None:
    planes = any_q4_0(50, 96).relayout(np, layout).planes.values()
    assert all(plane.ctypes.data % 64 == 0 and plane.flags.c_contiguous for plane in planes)


@pytest.mark.parametrize("layout", LANES)
def test_jax_packs_and_unpacks_the_same(layout: str) -> None:
    weights = any_q4_0(9, 64)
    there, expected = (weights.relayout(xp, layout) for xp in (jnp, np))
    for name, plane in expected.planes.items():
        assert np.array_equal(np.asarray(there.planes[name]).view(np.uint8), plane.view(np.uint8))
    assert np.array_equal(there.relayout(jnp, "").planes["bytes"], weights.planes["bytes"])


@pytest.mark.parametrize(
    ("type", "reason"),
    [
        (Type("int8_32", (8, 64)), "arranges int8_32"),
        (Type("q4_0", (2, 8, 64)), "not a matrix"),
        (Type("q4_0", (Sym("N"), 64)), "known size"),
    ],
    ids=str,
)
def test_a_layout_says_why_it_does_not_fit(type: Type, reason: str) -> None:
    with pytest.raises(InferError, match=reason):
        find_op("relayout")(layout="tiles8").infer(type)


def test_rows_cannot_be_sliced_plane_by_plane() -> None:
    assert not any(LAYOUTS[layout].by_rows for layout in LANES)
