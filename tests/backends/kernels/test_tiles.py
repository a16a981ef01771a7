"""The layouts of the kernels: exact both ways, and arranged as they say."""

import jax.numpy as jnp
import numpy as np
import pytest

from burnish.backends.kernels import tiles
from burnish.ir.dims import Sym
from burnish.ir.format import FORMATS, LAYOUTS, Packed, QuantFormat
from burnish.ir.op import find_op
from burnish.ir.types import InferError, Type

LANES = {"tiles8": 8, "tiles16": 16}
every_layout = pytest.mark.parametrize(("layout", "lanes"), LANES.items())


def formats_in_tiles() -> list[str]:
    """Those of ours that lie in tiles."""
    return [name for name, f in FORMATS.items() if f.group % 32 == 0]


every_format = pytest.mark.parametrize("format", formats_in_tiles())


def anything(format: str, *shape: int) -> Packed:
    """Every bit of it random."""
    data = np.random.default_rng(0).integers(0, 256, (*shape[:-1], FORMATS[format].row_bytes(shape[-1])), np.uint8)
    return Packed(format, "", shape, {"bytes": data})


@pytest.mark.parametrize("layout", LANES)
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 16, 17, 50])
@every_format
def test_packing_is_exact_both_ways(layout: str, format: str, rows: int) -> None:
    weights = anything(format, rows, 512)
    tiled = weights.relayout(np, layout)
    assert tiled.shape == weights.shape
    assert np.array_equal(tiled.relayout(np, "").planes["bytes"], weights.planes["bytes"])
    other = tiled.relayout(np, "tiles8" if layout == "tiles16" else "tiles16").relayout(np, "planes")
    for name, plane in weights.relayout(np, "planes").planes.items():
        assert other.planes[name].tobytes() == plane.tobytes()


@every_layout
@every_format
def test_words_lie_as_the_layout_says(layout: str, lanes: int, format: str) -> None:
    rows, inputs, width = 19, 256, FORMATS[format].code.width
    weights = anything(format, rows, inputs)
    code = weights.unpack(np)["code"].view(np.uint8)
    words = weights.relayout(np, layout).planes["codes"]
    assert words.shape == (-(-rows // lanes), inputs // 32, width, lanes)
    bytes_ = words.view(np.uint8).reshape(*words.shape, 4)
    slices = {4: [4], 5: [4, 1], 6: [4, 2], 8: [8]}[width]
    for row, i in np.ndindex(rows, inputs):
        register, byte, low, value = i % 32 // 4, i % 4, 0, 0
        for n in slices:  # n bits of 8 registers are n words
            word, place = low + register * n // 8, register * n % 8
            value |= (int(bytes_[row // lanes, i // 32, word, row % lanes, byte]) >> place & (1 << n) - 1) << low
            low += n
        assert value == code[row, i]


@every_layout
def test_scales_lie_as_the_layout_says(layout: str, lanes: int) -> None:
    weights = anything("q4_k", 19, 512)
    scales, parts = weights.relayout(np, layout).planes["scales"], weights.unpack(np)
    assert scales.shape == (-(-19 // lanes), 2, 20 * lanes)
    for row, group in np.ndindex(19, 2):
        tile, lane = scales[row // lanes, group], row % lanes
        assert tile[: 2 * lanes].view(np.uint16)[lane] == parts["scale"].view(np.uint16)[row, group]
        assert tile[2 * lanes : 4 * lanes].view(np.uint16)[lane] == parts["minimum"].view(np.uint16)[row, group]
        assert np.array_equal(tile[4 * lanes + lane : 12 * lanes : lanes], parts["subscale"][row, 8 * group :][:8])
        assert np.array_equal(tile[12 * lanes + lane :: lanes], parts["subminimum"][row, 8 * group :][:8])


@pytest.mark.parametrize("layout", LANES)
def test_planes_start_at_a_cache_line(layout: str) -> None:
    planes = anything("q4_0", 50, 96).relayout(np, layout).planes.values()
    assert all(plane.ctypes.data % 64 == 0 and plane.flags.c_contiguous for plane in planes)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LANES)
@pytest.mark.parametrize("format", ["q4_0", "q6_k"])
def test_jax_packs_and_unpacks_the_same(layout: str, format: str) -> None:
    weights = Packed.made_up(format, (2, 9, 512), np.random.default_rng(0))
    there, expected = (weights.relayout(xp, layout) for xp in (jnp, np))
    for name, plane in expected.planes.items():
        assert np.array_equal(np.asarray(there.planes[name]), plane)
    assert np.array_equal(there.relayout(jnp, "").planes["bytes"], weights.planes["bytes"])


def test_a_matrix_of_many_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy converts some rows at a time, which is not to be seen."""
    weights = anything("q6_k", 2, 100, 256)
    whole = weights.relayout(np, "tiles16")
    monkeypatch.setattr("burnish.ir.format.BLOCK", 256)
    in_blocks = weights.relayout(np, "tiles16")
    assert all(np.array_equal(in_blocks.planes[k], p) for k, p in whole.planes.items())
    back = whole.relayout(np, "")
    assert np.array_equal(back.planes["bytes"], weights.planes["bytes"])
    assert whole.dequantize(np).tobytes() == weights.dequantize(np).tobytes()


@pytest.mark.parametrize(
    ("type", "reason"),
    [
        (Type("int8", (8, 48)), "its rows are not of 32 inputs or a multiple"),
        (Type("q4_0", (64,)), "not a matrix"),
        (Type("q4_0", (Sym("N"), 64)), "known size"),
    ],
    ids=str,
)
def test_a_layout_says_why_it_does_not_fit(type: Type, reason: str) -> None:
    with pytest.raises(InferError, match=reason):
        find_op("relayout")(layout="tiles8").infer(type)


def test_rows_cannot_be_sliced_plane_by_plane() -> None:
    assert not any(LAYOUTS[layout].by_rows for layout in LANES)


def test_a_row_that_is_one_group_has_its_scale_once() -> None:
    weights = anything("int8", 19, 96)
    planes, parts = weights.relayout(np, "tiles8").planes, weights.unpack(np)
    assert planes["scales"].shape == (3, 1, 4 * 8)
    assert planes["scales"].reshape(-1).view("u4")[:19].tobytes() == parts["scale"].tobytes()
    assert planes["codes"].shape == (3, 3, 8, 8)


def test_groups_of_other_sizes_are_refused(registries: None) -> None:
    made = type("Small", (QuantFormat,), {"__doc__": "A plugin's.", "group": 16, "parts": FORMATS["q8_0"].parts})
    why = LAYOUTS["tiles8"].accepts(FORMATS[made.name], (8, 64))
    assert why == "the groups of small are not of 32 inputs or a multiple"


def test_offsets_are_multiples_of_a_size() -> None:
    assert tiles.offsets(FORMATS["q6_k"], 8) == {"scale": 0, "subscale": 16, "": 16 + 16 * 8}
