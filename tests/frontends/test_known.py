"""Shape arithmetic that is known while a file is read: the same numbers as ONNX's own evaluator, at every size.

Each case computes y from the sizes of x[N, 8] alone, or reshapes and cuts x by them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from burnish.backends.target import make_backend
from burnish.frontends.onnx_file import load_onnx
from burnish.passes.pipelines import run_passes

SIZES = (1, 2, 3, 4, 7)
FAR, FARTHEST = 2**31 - 1, 2**63 - 1
Step = tuple[Any, ...]  # operator, inputs, outputs, attributes

ROWS: Step = ("Shape", "x", "n", {"end": 1})  # i64[1]
ROW_COUNT: list[Step] = [ROWS, ("Squeeze", "n", "rows")]


def step(operator: str, inputs: str, output: str, attributes: dict[str, Any] | None = None) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), output.split(), **(attributes or {}))


def check(steps: list[Step], dtype: int, folder: Path, **constants: Any) -> None:
    """`steps` end in y; `constants` are integers, unless they are arrays."""
    arrays = {k: v if isinstance(v, np.ndarray) else np.array(v, "i8") for k, v in constants.items()}
    graph = helper.make_graph(
        [step(*s) for s in steps],
        "g",
        [helper.make_tensor_value_info("x", T.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", dtype, None)],
        [numpy_helper.from_array(a, name) for name, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "m.onnx")
    module = load_onnx(folder / "m.onnx")
    for pipeline in ("", "default"):
        runner = make_backend("numpy", run_passes(module.copy(), pipeline).module)
        for n in SIZES:
            x = np.arange(n * 8, dtype="f4").reshape(n, 8)
            (want,) = ReferenceEvaluator(model).run(None, {"x": x})
            inputs = {v.name: x for v in runner.module.graphs["forward"].inputs}
            (found,) = runner("forward", inputs).values()
            assert found.shape == np.shape(want), f"{n} rows"
            assert (np.asarray(found, "f8") == np.asarray(want, "f8")).all(), f"{n} rows: {found}, not {want}"


NUMBERS: dict[str, tuple[list[Step], int, dict[str, Any]]] = {
    "a negative size, halved": ([ROWS, ("Mul", "n m", "a"), ("Div", "a t", "y")], T.INT64, {"m": [-1], "t": [2]}),
    "below zero for few": ([ROWS, ("Sub", "n m", "a"), ("Div", "a t", "y")], T.INT64, {"m": [5], "t": [2]}),
    "by a negative number": ([ROWS, ("Div", "n t", "y")], T.INT64, {"t": [-2]}),
    "of constants": ([ROWS, ("Div", "a t", "b"), ("Add", "b n", "y")], T.INT64, {"a": [-7], "t": [2]}),
    "in i32": ([ROWS, ("Cast", "n", "a", {"to": T.INT32}), ("Mul", "a t", "y")], T.INT32, {"t": np.array([3], "i4")}),
    "in f32": (
        [ROWS, ("Cast", "n", "a", {"to": T.FLOAT}), ("Mul", "a t", "b"), ("Cast", "b", "y", {"to": T.INT64})],
        T.INT64,
        {"t": np.array([-0.5], "f4")},
    ),
    "a root": ([ROWS, ("Cast", "n", "a", {"to": T.DOUBLE}), ("Sqrt", "a", "y")], T.DOUBLE, {}),
    "as a truth": ([ROWS, ("Sub", "n m", "a"), ("Cast", "a", "y", {"to": T.BOOL})], T.BOOL, {"m": [3]}),
    "wrapped around": ([ROWS, ("Mul", "n m", "a"), ("Cast", "a", "y", {"to": T.INT8})], T.INT8, {"m": [100]}),
    "within bounds": ([ROWS, ("Min", "n m", "a"), ("Max", "a t", "y")], T.INT64, {"m": [3], "t": [2]}),
    "chosen by equality": (
        [ROWS, ("Equal", "n m", "e"), ("Where", "e a b", "y")],
        T.INT64,
        {"m": [3], "a": [10], "b": [20]},
    ),
    "chosen by two": (
        [ROWS, ("Less", "n m", "e"), ("Greater", "n k", "f"), ("And", "e f", "g"), ("Where", "g n k", "y")],
        T.INT64,
        {"m": [5], "k": [2]},
    ),
    "a chain of truths": (
        [ROWS, ("Equal", "n m", "e"), ("Not", "e", "f"), ("Cast", "f", "g", {"to": T.INT64}), ("Mul", "g n", "y")],
        T.INT64,
        {"m": [3]},
    ),
    "a distance": ([ROWS, ("Sub", "n m", "a"), ("Abs", "a", "y")], T.INT64, {"m": [5]}),
    "a power": ([ROWS, ("Pow", "n m", "y")], T.INT64, {"m": [2]}),
    "a large product": ([ROWS, ("Mul", "n m", "a"), ("Mul", "a n", "y")], T.INT64, {"m": [2**40]}),
    "of all sizes": (
        [("Shape", "x", "s"), ("Gather", "s i", "a"), ("Gather", "s j", "b"), ("Mul", "a b", "y")],
        T.INT64,
        {"i": -1, "j": -2},
    ),
    "the last size": ([("Shape", "x", "s"), ("Slice", "s a b", "y")], T.INT64, {"a": [-1], "b": [FARTHEST]}),
    "counted from 1": ([*ROW_COUNT, ("Range", "a rows d", "y")], T.INT64, {"a": 1, "d": 1}),
    "counted to less than none": (
        [*ROW_COUNT, ("Sub", "rows f", "l"), ("Range", "a l d", "y")],
        T.INT64,
        {"a": 0, "d": 1, "f": 3},
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_made_of_sizes(name: str, tmp_path: Path) -> None:
    steps, dtype, constants = NUMBERS[name]
    check(steps, dtype, tmp_path, **constants)


@pytest.mark.parametrize(
    "shape", [[0, -1, 2], [-1], [-1, 4], [0, 0, -1], [0, 2, -1, 1]], ids=lambda s: ",".join(map(str, s))
)
def test_a_shape_with_sizes_left_open(shape: list[int], tmp_path: Path) -> None:
    check([("Reshape", "x s", "y")], T.FLOAT, tmp_path, s=shape)


def test_shapes_put_together_of_sizes(tmp_path: Path) -> None:
    joined = ("Concat", "n m t", "s", {"axis": 0})
    check([ROWS, joined, ("Reshape", "x s", "y")], T.FLOAT, tmp_path, m=[-1], t=[4])
    pair = ("Concat", "n k", "s", {"axis": 0})
    check([ROWS, pair, ("ConstantOfShape", "s", "y")], T.FLOAT, tmp_path, k=[3])
    check([ROWS, pair, ("Expand", "v s", "y")], T.FLOAT, tmp_path, k=[3], v=np.array([[1, 2, 3]], "f4"))
    check([ROWS, ("Mul", "n k", "s"), ("ConstantOfShape", "s", "y")], T.FLOAT, tmp_path, k=[0])
    asked = [("Equal", "s m", "e"), ("Where", "e o s", "w"), ("ConstantOfShape", "w", "y")]
    check(asked, T.FLOAT, tmp_path, s=[-1, 4], m=[-1], o=[1, 1])  # as an expansion that keeps an axis is written


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize(
    ("start", "stop"),
    [(1, FAR), (1, FARTHEST), (-2, FARTHEST), (0, -1), (-3, -1), (-FARTHEST - 1, 2), (5, 9), (3, 1), (-100, 2)],
)
def test_bounds_of_a_slice(start: int, stop: int, axis: int, tmp_path: Path) -> None:
    check([("Slice", "x a b c", "y")], T.FLOAT, tmp_path, a=[start], b=[stop], c=[axis])


def test_bounds_of_a_slice_made_of_sizes(tmp_path: Path) -> None:
    check([ROWS, ("Sub", "n o", "e"), ("Slice", "x z e z", "y")], T.FLOAT, tmp_path, z=[0], o=[1])
    check([ROWS, ("Neg", "n", "e"), ("Slice", "x e q z", "y")], T.FLOAT, tmp_path, z=[0], q=[2])
    check([ROWS, ("Sub", "n o", "e"), ("Slice", "x e q z", "y")], T.FLOAT, tmp_path, z=[0], q=[FAR], o=[5])


def test_a_size_in_i32_meets_a_number_in_i32(tmp_path: Path) -> None:
    counted = [("Cast", "x", "c", {"to": T.INT32}), ("ReduceMax", "c", "m", {"keepdims": 0})]
    size = [ROWS, ("Cast", "n", "a", {"to": T.INT32}), ("Mul", "a t", "b")]
    check([*counted, *size, ("Add", "m b", "y")], T.INT32, tmp_path, t=np.array([3], "i4"))
    check([*counted, *size, ("Less", "m b", "y")], T.BOOL, tmp_path, t=np.array([3], "i4"))


def test_a_number_made_of_sizes_takes_no_room_of_its_size(tmp_path: Path) -> None:
    """2^40 rows are not counted to find 2^40 times a size."""
    steps = [*ROW_COUNT, ("Mul", "rows m", "a"), ("Cast", "a", "b", {"to": T.FLOAT}), ("Div", "x b", "y")]
    check(steps, T.FLOAT, tmp_path, m=2**40)
