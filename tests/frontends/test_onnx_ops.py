"""Each operator's meaning, against NumPy or PyTorch; and shape arithmetic on symbolic dimensions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper

from burnish.backends.interpreter import Interpreter
from burnish.frontends.onnx_file import load_onnx
from burnish.frontends.onnx_ops import NEWEST, OLDEST, TRANSLATIONS, OnnxOps
from burnish.ir import Module, Type, Value
from burnish.ir.dims import Sym
from burnish.ir.types import dtype_name

S = Sym("S")
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((2, 3, 4), "f4"), rng.standard_normal((2, 3, 4), "f4")
P = np.abs(X) + np.float32(0.5)
W, B = rng.standard_normal(4, "f4"), rng.standard_normal(4, "f4")
K, J = rng.integers(0, 5, (2, 3)), rng.integers(0, 5, (2, 3))
M, N = K < 3, J < 2


def ints(*values: int) -> np.ndarray:
    return np.array(values, "i8")


def torch_of(f: Callable[..., torch.Tensor]) -> Callable[..., np.ndarray]:
    return lambda *xs: f(*map(torch.tensor, xs)).numpy()


# operator -> cases: operands (a list is known at import, the others at run time), attributes, the oracle
CASES: dict[str, list[tuple[list[Any], dict[str, Any], Callable[..., Any]]]] = {
    "Abs": [([X], {}, np.abs)],
    "Add": [([X, Y], {}, np.add)],
    "And": [([M, N], {}, np.logical_and)],
    "Cast": [([X], {"to": 7}, lambda x: x.astype("i8")), ([K], {"to": 1}, lambda x: x.astype("f4"))],
    "Clip": [
        ([X, np.float32(-0.5), np.float32(0.5)], {}, np.clip),
        ([X, None, np.float32(0.5)], {}, lambda x, _, high: np.minimum(x, high)),
    ],
    "Concat": [([X, Y], {"axis": 1}, lambda x, y: np.concatenate([x, y], 1))],
    "Constant": [
        ([], {"value": X}, lambda: X),
        ([], {"value_ints": (1, 2)}, lambda: ints(1, 2)),
        ([], {"value_float": 0.5}, lambda: np.float32(0.5)),
    ],
    "ConstantOfShape": [([[2, 3]], {"value": np.array([7], "i8")}, lambda s: np.full((2, 3), 7))],
    "Cos": [([X], {}, np.cos)],
    "CumSum": [([X, [1]], {}, lambda x, a: np.cumsum(x, 1))],
    "Div": [([X, P], {}, np.divide), ([K - 2, J + 1], {}, lambda a, b: np.trunc(a / b).astype("i8"))],
    "Dropout": [([X, np.float32(0.5)], {}, lambda x, r: (x, np.ones(x.shape, "?")))],
    "Equal": [([K, J], {}, np.equal)],
    "Erf": [([X], {}, torch_of(torch.erf))],
    "Exp": [([X], {}, np.exp)],
    "Expand": [([W, [2, 3, 1]], {}, lambda x, s: np.broadcast_to(x, (2, 3, 4)))],
    "Flatten": [
        ([X], {}, lambda x: x.reshape(2, 12)),
        ([X], {"axis": 3}, lambda x: x.reshape(24, 1)),
        ([X], {"axis": -1}, lambda x: x.reshape(6, 4)),
    ],
    "Gather": [([X, K % 3], {"axis": 1}, lambda x, i: np.take(x, i, 1))],
    "GatherElements": [([X[0], K % 3], {"axis": 0}, lambda x, i: np.take_along_axis(x[:, :3], i, 0))],
    "GatherND": [([X, np.stack([K % 2, J % 3], -1)], {}, lambda x, i: x[i[..., 0], i[..., 1]])],
    "Gelu": [
        ([X], {}, torch_of(F.gelu)),
        ([X], {"approximate": "tanh"}, torch_of(lambda x: F.gelu(x, approximate="tanh"))),
    ],
    "Gemm": [([X[0], Y[0], W[:3]], {"transB": 1}, lambda a, b, c: a @ b.T + c)],
    "Greater": [([K, J], {}, np.greater)],
    "GreaterOrEqual": [([K, J], {}, np.greater_equal)],
    "Identity": [([X], {}, lambda x: x)],
    "IsNaN": [([np.where(X > 0, np.float32(np.nan), X)], {}, np.isnan)],
    "LayerNormalization": [
        ([X, W, B], {"epsilon": 0.5}, torch_of(lambda x, w, b: F.layer_norm(x, (4,), w, b, 0.5))),
        ([X, W], {"axis": 2}, torch_of(lambda x, w: F.layer_norm(x, (4,), w))),
    ],
    "Less": [([K, J], {}, np.less)],
    "LessOrEqual": [([K, J], {}, np.less_equal)],
    "Log": [([P], {}, np.log)],
    "LogSoftmax": [([X * 60], {"axis": 1}, torch_of(lambda x: torch.log_softmax(x, 1)))],
    "MatMul": [([X, Y.swapaxes(1, 2)], {}, np.matmul)],
    "Max": [([X, Y, X * 2], {}, lambda a, b, c: np.maximum(np.maximum(a, b), c))],
    "Mean": [([X, Y, P], {}, lambda *xs: np.mean(xs, 0))],
    "Min": [([X, Y], {}, np.minimum)],
    "Mod": [([K - 3, J + 1], {}, np.mod), ([K - 3, -J - 1], {}, np.mod)],
    "Mul": [([X, W], {}, np.multiply), ([X, np.ones((1, 1), "f4")], {}, np.multiply)],
    "Neg": [([X], {}, np.negative)],
    "Not": [([M], {}, np.logical_not)],
    "Or": [([M, N], {}, np.logical_or)],
    "Pad": [
        (
            [X, [1, 0, 0, 0, 0, 2], np.float32(7)],
            {},
            lambda x, p, v: np.pad(x, ((1, 0), (0, 0), (0, 2)), constant_values=v),
        ),
        ([X, [0, 0, 1, 0, 0, 0]], {}, lambda x, p: np.pad(x, ((0, 0), (0, 0), (1, 0)))),
    ],
    "Pow": [
        ([P, X], {}, np.power),
        ([P, [2]], {}, lambda a, b: a**2),
        ([K, P[:, :, 0]], {}, lambda a, b: np.power(a, b).astype("i8")),  # of the first's type, the exponent as it is
    ],
    "RMSNormalization": [([X, W], {"epsilon": 0.5}, torch_of(lambda x, w: F.rms_norm(x, (4,), w, 0.5)))],
    "Range": [([[2], [9], [1]], {}, lambda a, b, c: np.arange(2, 9))],
    "Reciprocal": [([P], {}, np.reciprocal)],
    "ReduceL2": [([X, [1]], {"keepdims": 0}, lambda x, a: np.linalg.norm(x, axis=1))],
    "ReduceMax": [([X, [1]], {"keepdims": 0}, lambda x, a: x.max(1))],
    "ReduceMean": [([X, [-1]], {}, lambda x, a: x.mean(-1, keepdims=True)), ([X], {"keepdims": 0}, np.mean)],
    "ReduceSum": [
        ([X, [0, 2]], {}, lambda x, a: x.sum((0, 2), keepdims=True)),
        ([X], {"noop_with_empty_axes": 1}, np.copy),
    ],
    "ReduceSumSquare": [
        ([X, [-1]], {}, lambda x, a: (x * x).sum(-1, keepdims=True)),
        ([X], {"noop_with_empty_axes": 1}, np.square),  # only the sum is none
    ],
    "Relu": [([X], {}, lambda x: np.maximum(x, 0))],
    "Reshape": [
        ([X, [0, -1]], {}, lambda x, s: x.reshape(2, 12)),
        ([X, [4, -1, 2]], {"allowzero": 1}, lambda x, s: x.reshape(4, 3, 2)),
    ],
    "Shape": [([X], {}, lambda x: ints(2, 3, 4)), ([X], {"start": -2, "end": 2}, lambda x: ints(3))],
    "Sigmoid": [([X], {}, torch_of(torch.sigmoid))],
    "Sin": [([X], {}, np.sin)],
    "Size": [([X], {}, lambda x: np.int64(24))],
    "Slice": [
        ([X, [1], [2**63 - 1], [2], [1]], {}, lambda x, *_: x[:, :, 1:]),
        ([X, [-2, 0], [9, -1], [1, 0]], {}, lambda x, *_: x[0:-1, -2:]),
        ([X, [0, 3], [9, -9], [1, 2], [2, -2]], {}, lambda x, *_: x[:, ::2, 3::-2]),
    ],
    "Softmax": [([X], {"axis": 1}, torch_of(lambda x: torch.softmax(x, 1)))],
    "Softplus": [([X], {}, torch_of(F.softplus))],
    "Split": [
        ([X, [1, 3]], {"axis": 2}, lambda x, s: (x[..., :1], x[..., 1:])),
        ([X], {"axis": 1, "num_outputs": 2}, lambda x: (x[:, :2], x[:, 2:])),
    ],
    "Sqrt": [([P], {}, np.sqrt)],
    "Squeeze": [([X[:, :1], [1]], {}, lambda x, a: x[:, 0]), ([X[:1, :1]], {}, np.squeeze)],
    "Sub": [([X, Y], {}, np.subtract)],
    "Sum": [([X, Y, W], {}, lambda a, b, c: a + b + c)],
    "Swish": [([X], {}, torch_of(F.silu)), ([X], {"alpha": 2.0}, torch_of(lambda x: x * torch.sigmoid(2 * x)))],
    "Tanh": [([X], {}, np.tanh)],
    "Tile": [([X, [1, 3, 2]], {}, np.tile)],
    "Transpose": [([X], {"perm": (2, 0, 1)}, lambda x: x.transpose(2, 0, 1)), ([X], {}, np.transpose)],
    "Trilu": [
        ([X], {}, np.triu),
        ([X, np.array(1)], {"upper": 0}, lambda x, k: np.tril(x, 1)),
        ([M, np.array(-1)], {"upper": 1}, lambda x, k: np.triu(x, -1)),
    ],
    "Unsqueeze": [([X, [0, -1]], {}, lambda x, a: x[None, ..., None])],
    "Where": [([M, X[:, :, 0], Y[:, :, 0]], {}, np.where)],
    "Xor": [([M, N], {}, np.logical_xor)],
}


def test_every_operator_has_a_case() -> None:
    assert CASES.keys() == TRANSLATIONS.keys()


OFF = 16 * 2.0**-23  # 8 units for a function of a library, and twice as much; sums have at most 16 terms of unit size


def run(name: str, operands: list[Any], attributes: dict[str, Any]) -> list[np.ndarray]:
    """The operator, with arrays as graph inputs, and lists and numbers known."""
    module = Module()
    graph = module.graph("forward")
    op = OnnxOps(graph)
    op.at_source("", "node")
    given: list[Any] = [
        known(x) if is_known(x) else graph.input(f"x{i}", Type(dtype_name(x.dtype), x.shape))
        for i, x in enumerate(operands)
    ]
    op.results = RESULTS.get(name, 1)
    made = TRANSLATIONS[name](op, *given, **attributes)
    results = made if isinstance(made, tuple) else (made,)
    graph.set_outputs({f"y{i}": op.lift(r) for i, r in enumerate(results)})  # type: ignore[misc]
    module.normalize()
    inputs = {f"x{i}": x for i, x in enumerate(operands) if not is_known(x)}
    return list(Interpreter(module)("forward", inputs).values())


RESULTS = {"Split": 2, "Dropout": 2}


def is_known(x: Any) -> bool:
    return x is None or isinstance(x, list) or x.ndim == 0


def known(x: Any) -> np.ndarray | None:
    return ints(*x) if isinstance(x, list) else x if x is None else np.asarray(x)


@pytest.mark.parametrize("name", CASES)
def test_an_operator_means_what_onnx_says(name: str) -> None:
    for operands, attributes, expected in CASES[name]:
        got, wanted = run(name, operands, attributes), expected(*operands)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for g, w in zip(got, wanted, strict=True):
            assert (g.dtype, g.shape) == (np.asarray(w).dtype, np.shape(w))
            np.testing.assert_allclose(g, w, rtol=OFF, atol=OFF)


# ------------------------------------------------------------------------------------------ every version of the rules


def versions_of(name: str) -> list[int]:
    """The versions in which the operator changed, as far as they are supported; the oldest first."""
    every = {s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name == name and not s.domain}
    return sorted({max(v, OLDEST) for v in every if v <= NEWEST} - ({OLDEST} if min(every) > OLDEST else set()))


def tensor(name: str, x: np.ndarray) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)


def model(
    name: str, version: int, operands: list[Any], attributes: dict[str, Any], results: tuple[Any, ...]
) -> onnx.ModelProto | None:
    """A file with the operator alone, as that version writes it; None where the version does not have it so.

    An operand that was an attribute then is one here.
    """
    schema, newest = onnx.defs.get_schema(name, version), onnx.defs.get_schema(name, NEWEST)
    called = [i.name for i in newest.inputs]
    attributes = dict(attributes)
    inputs, constants, names = [], [], []
    for i, x in enumerate(operands):
        role = {"constant_value": "value"}.get(called[min(i, len(called) - 1)], called[min(i, len(called) - 1)])
        if i >= len(schema.inputs) and role in schema.attributes:
            if x is not None:
                attributes[role] = x if isinstance(x, list) else float(x)
            continue
        if x is None:
            names.append("")
        else:
            names.append(f"x{i}")
            array = np.asarray(known(x) if is_known(x) else x)
            if is_known(x):
                constants.append(numpy_helper.from_array(array, f"x{i}"))
            else:
                inputs.append(tensor(f"x{i}", array))
    if set(attributes) - set(schema.attributes):
        return None
    attributes = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in attributes.items()}
    many = bool(schema.inputs) and str(schema.inputs[-1].option).endswith("Variadic")
    if len(names) > len(schema.inputs) and not many:
        return None
    infos = [tensor(f"y{i}", np.asarray(y)) for i, y in enumerate(results)]
    node = helper.make_node(name, names, [i.name for i in infos], **attributes)
    graph = helper.make_graph([node], "g", inputs, infos, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    onnx.checker.check_model(made)
    return made


@pytest.mark.parametrize("name", CASES)
def test_every_version_is_read_as_it_is_written(name: str, tmp_path: Path) -> None:
    tried = set()
    for version in versions_of(name):
        for operands, attributes, expected in CASES[name]:
            wanted = expected(*operands)
            wanted = wanted if isinstance(wanted, tuple) else (wanted,)
            made = model(name, version, operands, attributes, wanted)
            if made is None or (name in ("Softmax", "LogSoftmax") and version < 13):
                continue
            path = tmp_path / "model.onnx"
            path.write_bytes(made.SerializeToString())
            module = load_onnx(path)
            given = {v.name: operands[int(v.name[1:])] for v in module.graphs["forward"].inputs}
            inputs = {k: x.astype("i4") if x.dtype == np.int64 else x for k, x in given.items()}
            for g, w in zip(Interpreter(module)("forward", inputs).values(), wanted, strict=True):
                assert (g.dtype, g.shape) == (np.asarray(w).dtype, np.shape(w)), version
                np.testing.assert_allclose(g, w, rtol=OFF, atol=OFF)
            tried.add(version)
    assert tried == set(versions_of(name)) - ({OLDEST, 11} if name in ("Softmax", "LogSoftmax") else set())


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_a_softmax_before_version_13_is_one_of_all_axes_from_there_on(name: str, axis: int | None) -> None:
    graph = Module().graph("forward")
    op = OnnxOps(graph, version=12)
    op.at_source("", "node")
    attributes = {} if axis is None else {"axis": axis}
    made = TRANSLATIONS[name](op, graph.input("x", Type("f32", X.shape)), **attributes)
    graph.set_outputs({"y": made})
    graph.module.normalize()
    (got,) = Interpreter(graph.module)("forward", {"x": X}).values()
    at = 1 if axis is None else axis % 3
    rows = torch.tensor(X).reshape(*X.shape[:at], -1)
    wanted = (torch.softmax if name == "Softmax" else torch.log_softmax)(rows, -1).reshape(X.shape)
    np.testing.assert_allclose(got, wanted.numpy(), rtol=OFF, atol=OFF)


@pytest.mark.parametrize(
    ("name", "operands", "attributes", "message"),
    [
        ("Slice", [X, [0], [4], [2], [0]], {}, "steps of 0"),
        ("Split", [X], {"num_outputs": 0}, "num_outputs=0 does not fit 2 results"),
        ("Split", [X], {"num_outputs": 1 << 40}, "does not fit 2 results"),
        ("Dropout", [X, np.float32(0.5), np.array(True)], {}, "training_mode"),
        ("Mod", [X, Y], {"fmod": 1}, "remainder of integers"),
        ("Pad", [X, [1] * 6], {"mode": "reflect"}, "mode=reflect"),
        ("Pad", [X, [1] * 4], {}, "4 pads do not fit 3 axes"),
        ("Tile", [X, [2]], {}, "1 repeats do not fit"),
        ("Trilu", [W], {}, "is no matrix"),
        ("CumSum", [X, [1]], {"reverse": 1}, "reverse"),
        ("GatherND", [X, K], {"batch_dims": 1}, "batch_dims"),
        ("Reshape", [X, K], {}, "shape must be known"),
        ("Cast", [X], {"to": 15}, "element type 15"),
        ("Gemm", [X[0], Y[0]], {"alpha": 0.5}, "alpha=0.5"),
        ("Range", [[0], [9], [2]], {}, "steps of 1"),
        ("LayerNormalization", [X, W], {"axis": 1}, "not the last"),
        ("Unsqueeze", [X, [7]], {}, "no axis 7"),
    ],
)
def test_what_is_not_supported_is_said(
    name: str, operands: list[Any], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        run(name, operands, attributes)


# ------------------------------------------------------------------------------------- shapes known while importing


@pytest.fixture
def op() -> OnnxOps:
    op = OnnxOps(Module().graph("forward"))
    op.at_source("", "node")
    return op


def test_shape_arithmetic_leaves_no_nodes(op: OnnxOps) -> None:
    t = TRANSLATIONS
    x = op.graph.input("x", Type("f32", (S, 6)))
    rows = t["Gather"](op, t["Shape"](op, x), np.array(0), axis=0)
    assert rows.shape == ()
    assert rows.item() is S
    half = t["Div"](op, t["Mul"](op, rows, np.array(6)), np.array(2))
    wanted = t["Concat"](op, ints(2), t["Unsqueeze"](op, half, ints(0)), axis=0)
    assert wanted.tolist() == [2, S * 3]
    y = t["Reshape"](op, x, wanted)
    assert y.shape == (2, S * 3)
    assert [n.op.name for n in op.graph] == ["reshape"]
    ends = t["Slice"](op, t["Shape"](op, x), ints(-1), ints(2**63 - 1))
    assert ends.tolist() == [6]
    assert ends.dtype == np.int64


def test_a_size_that_is_used_as_data_is_counted(op: OnnxOps) -> None:
    x = op.graph.input("x", Type("i64", (S, 2)))
    size = TRANSLATIONS["Shape"](op, x, start=0, end=1)
    op.graph.set_outputs({"y": TRANSLATIONS["Add"](op, x, size)})
    op.graph.module.normalize()
    (y,) = Interpreter(op.graph.module)("forward", {"x": np.zeros((5, 2), "i8")}).values()
    assert (y == 5).all()


def test_comparing_a_size_is_left_to_run_time(op: OnnxOps) -> None:
    """S == 3 is not false because S is not the number 3."""
    x = op.graph.input("x", Type("f32", (S,)))
    is_three = TRANSLATIONS["Equal"](op, TRANSLATIONS["Shape"](op, x), ints(3))
    assert isinstance(is_three, Value)
    op.graph.set_outputs({"y": is_three})
    op.graph.module.normalize()
    run = Interpreter(op.graph.module)
    assert [run("forward", {"x": np.zeros(n, "f4")})["y"].tolist() for n in (3, 4)] == [[True], [False]]


def test_large_results_are_left_to_run_time(op: OnnxOps) -> None:
    huge = TRANSLATIONS["Expand"](op, np.zeros((), "f4"), ints(1 << 20, 1 << 20))
    assert isinstance(huge, Value)
