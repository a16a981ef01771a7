"""Partial evaluation in tiles: the values are those of a whole evaluation, and neither memory nor bytes are wasted."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from burnish.ir.builder import Ops
from burnish.ir.format import Packed
from burnish.ir.graph import Value
from burnish.ir.module import Module, WeightEntry
from burnish.ir.types import NUMPY, Type
from burnish.ir.weights import StoredTensor, StoredWeights
from burnish.runtime.weight_time import tiles
from burnish.testing import run_graph

REVERSED = np.arange(64, dtype="i4")[::-1]


def pairs_apart(op: Ops, x: Value, size: int) -> Value:
    """Heads of `size` rows, each with its even rows first and then its odd ones."""
    rows, inputs = x.type.sizes
    heads = op.reshape(x, shape=(rows // size, size // 2, 2, inputs))
    return op.reshape(op.transpose(heads, perm=(0, 2, 1, 3)), shape=(rows, inputs))


SHAPES = {"a": (64, 96), "b": (32, 96), "c": (96, 64), "row": (96,), "e": (3, 32, 64), "one": (1, 64, 96)}
CASES: dict[str, Callable[..., Value]] = {
    "a weight": lambda op, w: w("a"),
    "a vector": lambda op, w: w("row"),
    "three axes": lambda op, w: w("e"),
    "cast": lambda op, w: op.cast(w("a"), to="bf16"),
    "transposed": lambda op, w: op.transpose(w("a"), perm=(1, 0)),
    "three axes transposed": lambda op, w: op.transpose(w("e"), perm=(2, 0, 1)),
    "joined": lambda op, w: op.concat(w("a"), w("b"), axis=0),
    "joined along the last axis": lambda op, w: op.concat(w("a"), op.transpose(w("c"), perm=(1, 0)), axis=-1),
    "transposed, joined, quantized": lambda op, w: op.quantize(
        op.concat(w("a"), op.transpose(w("c"), perm=(1, 0)), axis=0), format="q4_0"
    ),
    "a format with rows": lambda op, w: op.quantize(w("e"), format="int8"),
    "packed, of three axes": lambda op, w: op.quantize(w("e"), format="q4_0"),
    "packed and stacked": lambda op, w: op.stack(
        op.quantize(w("a"), format="q8_0"), op.quantize(op.transpose(w("c"), perm=(1, 0)), format="q8_0")
    ),
    "packed stacks joined": lambda op, w: op.concat(
        op.quantize(w("e"), format="q4_0"), op.quantize(w("e"), format="q4_0"), axis=1
    ),
    "packed rows joined": lambda op, w: op.concat(
        op.quantize(w("a"), format="q8_0"), op.quantize(w("b"), format="q8_0"), axis=0
    ),
    "stacked": lambda op, w: op.stack(w("a"), op.transpose(w("c"), perm=(1, 0))),
    "packed, stacked and indexed": lambda op, w: op.index(
        op.stack(op.quantize(w("a"), format="q4_0"), op.quantize(w("a"), format="q4_0")), index=1
    ),
    "quantized and back": lambda op, w: op.dequantize(op.quantize(w("a"), format="q4_0")),
    "back, then transposed": lambda op, w: op.transpose(op.dequantize(op.quantize(w("a"), format="q4_0")), perm=(1, 0)),
    "a folded norm": lambda op, w: op.mul(w("a"), w("row")),
    "a row of two axes": lambda op, w: op.mul(op.unsqueeze(w("row"), axes=(0,)), w("a")),
    "a row that is repeated": lambda op, w: op.add(w("a"), op.broadcast_to(w("row"), shape=(64, 96))),
    "sliced": lambda op, w: op.slice(w("a"), axis=1, start=8, stop=40),
    "the second of a split": lambda op, w: op.split(w("a"), axis=0, sizes=(16, 48))[1],
    "squeezed": lambda op, w: op.squeeze(w("one"), axes=(0,)),
    "unsqueezed": lambda op, w: op.unsqueeze(w("a"), axes=(0, 2)),
    "an op that does not know its parts": lambda op, w: op.gather(w("a"), op.constant(REVERSED), axis=0),
    "heads apart": lambda op, w: op.reshape(w("a"), shape=(4, 16, 96)),
    "heads joined": lambda op, w: op.reshape(w("e"), shape=(96, 64)),
    "rows cut elsewhere": lambda op, w: op.reshape(w("c"), shape=(64, 96)),
    "two axes cut elsewhere": lambda op, w: op.reshape(w("e"), shape=(8, 12, 64)),
    "pairs of rows apart": lambda op, w: pairs_apart(op, w("a"), 8),
    "packed, pairs of rows apart": lambda op, w: pairs_apart(op, op.quantize(w("a"), format="q4_0"), 16),
    "packed, split and sliced": lambda op, w: op.slice(
        op.split(op.quantize(w("a"), format="q8_0"), axis=0, sizes=(16, 48))[1], axis=0, start=3, stop=40
    ),
    "without weights": lambda op, w: op.broadcast_to(op.constant(np.arange(96, dtype="f4")), shape=(64, 96)),
}


def stored(folder: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "f32") -> tuple[Ops, StoredWeights]:
    """Ops of a graph over random tensors that lie one after the other in a file."""
    rng, tensors, at = np.random.default_rng(0), {}, 0
    with (folder / "weights").open("wb") as f:
        for name, shape in shapes.items():
            tensors[name] = StoredTensor(folder / "weights", at, Type(dtype, shape))
            at += f.write(rng.standard_normal(shape).astype(NUMPY[dtype]).tobytes())
    source = StoredWeights(tensors)
    module = Module({n: WeightEntry(t.type) for n, t in tensors.items()}, source=source)
    return module.graph("forward").ops, source


def raw(x: np.ndarray | Packed) -> bytes:
    return x.planes["bytes"].tobytes() if isinstance(x, Packed) else x.tobytes()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("elements", [128, 1000, 1 << 20])
def test_tiles_make_up_the_whole(tmp_path: Path, name: str, elements: int) -> None:
    op, source = stored(tmp_path, SHAPES)
    value = CASES[name](op, op.weight)
    op.graph.set_outputs({"y": value})
    op.graph.normalize()
    (whole,) = run_graph(op.graph, np, [], {n: source.read(n) for n in SHAPES})
    pieces = list(tiles(value, source, elements))
    assert b"".join(map(raw, pieces)) == raw(whole)
    row = value.type.sizes[-1]
    if elements < 1 << 20 and name != "a vector":
        assert max(math.prod(p.shape) for p in pieces) <= max(elements, row)


@pytest.mark.parametrize("name", [n for n in CASES if not any(w in n for w in ("slice", "split", "elsewhere"))])
def test_each_byte_is_read_once_for_each_operand_that_needs_it(tmp_path: Path, name: str) -> None:
    op, source = stored(tmp_path, SHAPES)
    read: list[str] = []

    def weight(tensor: str) -> Value:
        read.append(tensor)
        return op.weight(tensor)

    value = CASES[name](op, weight)
    op.graph.set_outputs({"y": value})
    op.graph.normalize()
    for _ in tiles(value, source, 128):
        pass
    expected = sum(4 * math.prod(SHAPES[t]) for t in read)
    if name == "packed, stacked and indexed":
        expected //= 2  # the row that is not asked for is not read
    assert source.bytes_read == expected


@pytest.mark.parametrize("format", ["q4_0", "q8_0", "int8"])
def test_packed_experts_are_read_row_by_row(tmp_path: Path, format: str) -> None:
    """Stored packed, [E, N, K]: some rows of one of them are some bytes of the file."""
    packed = Packed.quantize(np, np.random.default_rng(0).standard_normal((3, 8, 64)).astype("f4"), format)
    (tmp_path / "experts").write_bytes(raw(packed))
    source = StoredWeights({"experts": StoredTensor(tmp_path / "experts", 0, Type(format, packed.shape))})
    op = Module({"experts": WeightEntry(Type(format, packed.shape))}, source=source).graph("forward").ops
    experts, row = op.weight("experts"), packed.nbytes // (3 * 8)
    pieces = list(tiles(experts, source, 2 * 64))
    assert [p.shape for p in pieces] == [(1, 2, 64)] * 12
    assert b"".join(map(raw, pieces)) == raw(packed)
    assert source.bytes_read == packed.nbytes
    one, before = op.index(experts, index=2), source.bytes_read
    assert b"".join(map(raw, tiles(one, source, 64))) == raw(packed)[-8 * row :]
    assert source.bytes_read - before == 8 * row, "the other experts are not read"
    some = source.read_part("experts", (slice(1, 3), slice(3, 4), slice(0, 64)))
    assert some.shape == (2, 1, 64)
    assert raw(some) == raw(packed)[11 * row : 12 * row] + raw(packed)[19 * row : 20 * row]


# What is made of one stored tensor for a package, and how often each of its bytes is read for all that together.
SHARED: dict[str, tuple[Callable[[Ops, Value], list[Value]], tuple[int, ...]]] = {
    "q, k and v, one after the other": (lambda op, w: list(op.split(w, axis=0, sizes=(32, 16, 16))), (1,)),
    "in slices": (lambda op, w: [op.slice(w, axis=0, start=i, stop=i + 16) for i in (0, 16, 32, 48)], (1,)),
    "transposed": (lambda op, w: list(op.split(op.transpose(w, perm=(1, 0)), axis=0, sizes=(32, 32, 32))), (1,)),
    "split, then transposed": (
        lambda op, w: [op.transpose(x, perm=(1, 0)) for x in op.split(w, axis=1, sizes=(32, 64))], (1,)
    ),
    "split, then quantized": (
        lambda op, w: [op.quantize(x, format="q4_0") for x in op.split(w, axis=0, sizes=(32, 32))], (1,)
    ),
    "split and joined in another order": (
        lambda op, w: [op.concat(*reversed(list(op.split(w, axis=0, sizes=(32, 32)))), axis=0)], (1,)
    ),
    "in two blocks": (lambda op, w: [op.cast(w, to="bf16"), op.transpose(w, perm=(1, 0))], (2,)),
    "heads of q and k in turns": (lambda op, w: [op.reshape(x, shape=(32, 96)) for x in in_turns(op, w)], (1, 4)),
}  # fmt: skip


def in_turns(op: Ops, w: Value) -> Value:
    """Rows of q and k as GPT-NeoX fuses them; a tile that cuts through a head reads its rows again."""
    return op.split(op.reshape(w, shape=(4, 2, 8, 96)), axis=1, sizes=(1, 1))


@pytest.mark.parametrize("case", SHARED)
def test_a_tensor_that_feeds_several_is_read_a_bounded_number_of_times(tmp_path: Path, case: str) -> None:
    build, times = SHARED[case]
    op, source = stored(tmp_path, SHAPES)
    made = build(op, op.weight("a"))
    op.graph.set_outputs({f"y{i}": v for i, v in enumerate(made)})
    op.graph.normalize()
    for elements in (128, 1000, 1 << 20):  # however small the tiles
        before = source.bytes_read
        for value in made:
            for _ in tiles(value, source, elements):
                pass
        read = (source.bytes_read - before) / (4 * math.prod(SHAPES["a"]))
        assert times[0] <= read <= times[-1]


def test_what_is_cut_away_is_not_read(tmp_path: Path) -> None:
    op, source = stored(tmp_path, SHAPES)
    for name, elements in (("sliced", 64 * 32), ("the second of a split", 48 * 96)):
        value, before = CASES[name](op, op.weight), source.bytes_read
        op.graph.normalize()
        assert sum(x.size for x in tiles(value, source, 128)) == elements
        assert source.bytes_read - before == 4 * elements


@pytest.mark.parametrize(("name", "elements"), [("rows cut elsewhere", 128), ("two axes cut elsewhere", 192)])
def test_what_a_tile_cuts_through_is_read_again(tmp_path: Path, name: str, elements: int) -> None:
    op, source = stored(tmp_path, SHAPES)
    value = CASES[name](op, op.weight)
    op.graph.set_outputs({"y": value})
    op.graph.normalize()
    for _ in tiles(value, source, elements):
        pass
    assert 1 < source.bytes_read / (4 * math.prod(value.type.sizes)) < 3


MEASURE = """
import re, sys
from pathlib import Path
import numpy as np
from burnish.ir.module import Module, WeightEntry
from burnish.ir.types import Type
from burnish.ir.weights import StoredTensor, StoredWeights
from burnish.runtime.weight_time import tiles

path, rows, known = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "parts"
types = {"a": Type("bf16", (rows, 32768)), "b": Type("bf16", (1024, rows))}
source = StoredWeights({"a": StoredTensor(path, 0, types["a"]), "b": StoredTensor(path, types["a"].nbytes, types["b"])})
op = Module({n: WeightEntry(t) for n, t in types.items()}, source=source).graph("forward").ops
if known:
    pairs = op.reshape(op.weight("a"), shape=(rows // 2, 2, 32768))
    a = op.reshape(op.transpose(pairs, perm=(1, 0, 2)), shape=(rows, 32768))
else:
    a = op.gather(op.weight("a"), op.constant(np.arange(rows, dtype="i4")), axis=0)
value = op.quantize(op.concat(op.transpose(a, perm=(1, 0)), op.weight("b"), axis=0), format="q4_0")
written = sum(x.nbytes for x in tiles(value, source))
assert written == value.type.nbytes
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())  # ru_maxrss would count its parent
print(int(peak[1]) >> 10, source.bytes_read)
"""


def measured(folder: Path, rows: int, known: str = "parts") -> tuple[int, int, int]:
    """(peak resident MiB, bytes read, bytes of the sources) of transposing [rows, 32768], joining, quantizing."""
    path, size = folder / "weights", rows * (32768 + 1024) * 2
    with path.open("wb") as f:
        f.truncate(size)  # zeros, and no room on the disk
    command = [sys.executable, "-c", MEASURE, str(path), str(rows), known]
    peak, read = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    return peak, read, size


@pytest.mark.parametrize(
    ("rows", "most"), [(2048, 128), pytest.param(16384, 192, marks=pytest.mark.large)], ids=["128 MiB", "1 GiB"]
)
@pytest.mark.slow
def test_memory_holds_a_few_tiles(tmp_path: Path, rows: int, most: int) -> None:
    peak, read, size = measured(tmp_path, rows)
    assert peak < most, f"{peak} MiB at the peak"
    assert read == size


@pytest.mark.slow
def test_an_op_that_does_not_know_its_parts_costs_memory(tmp_path: Path) -> None:
    """The measure above can fail."""
    peak, read, size = measured(tmp_path, 2048, "whole")
    assert peak > 128
    assert read == size
