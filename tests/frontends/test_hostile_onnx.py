"""Damaged and hostile ONNX files end in one message, in little memory; the good file beside them loads."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from burnish.backends.interpreter import Interpreter
from burnish.frontends.config import LoadError
from burnish.frontends.onnx_file import load_onnx

W = np.arange(64, dtype="f4").reshape(8, 8)


def good() -> onnx.ModelProto:
    """y = relu(x @ w)"""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Relu", ["h"], ["y"], name="relu"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(W, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def external(model: onnx.ModelProto, **entries: str) -> None:
    """Let w lie in another file."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def written(folder: Path, change: Callable[[onnx.ModelProto], Any] = lambda m: None) -> Path:
    """The good model, changed, in a folder of its own; `data` beside it holds w, `outside` above it does too."""
    inner = folder / "model"
    inner.mkdir()
    for at in (folder / "outside", inner / "data"):
        at.write_bytes(W.tobytes())
    (inner / "link").symlink_to(folder / "outside")
    (inner / "inner_link").symlink_to(inner / "data")
    model = good()
    change(model)
    path = inner / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("location", [None, "data", "inner_link", "./data"])
def test_good_files_load(tmp_path: Path, location: str | None) -> None:
    module = load_onnx(written(tmp_path, (lambda m: external(m, location=location)) if location else lambda m: None))
    x = np.ones((3, 8), "f4")
    (y,) = Interpreter(module)("forward", {"x": x}).values()
    assert (y == x @ W).all()


def linked(folder: Path, model: onnx.ModelProto, **links: str) -> Path:
    """A cache of links: the files in `blobs`, by hashes; `snapshots/main` has the names, which are links to them."""
    blobs, names = folder / "blobs", folder / "snapshots" / "main"
    for at in (blobs, names / "onnx"):
        at.mkdir(parents=True)
    (blobs / "h0").write_bytes(model.SerializeToString())
    (blobs / "h1").write_bytes(W.tobytes())
    (folder / "outside").write_bytes(W.tobytes())
    for name, target in ({"model.onnx": "../../blobs/h0", "data": "../../blobs/h1"} | links).items():
        (names / name).symlink_to(target)
    return names / "model.onnx"


CACHES: dict[str, tuple[str, dict[str, str]]] = {  # where the data is said to be, and links beside the usual ones
    "as a hub's client lays it out": ("data", {}),
    "data in a folder of its own": ("onnx/data", {"onnx/data": "../../../blobs/h1"}),
    "a link to a link": ("again", {"again": "data"}),
    "an absolute link": ("away", {"away": "BLOBS/h1"}),
}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_of_links_loads(tmp_path: Path, name: str) -> None:
    location, links = CACHES[name]
    model = good()
    external(model, location=location)
    path = linked(tmp_path, model, **{k: v.replace("BLOBS", str(tmp_path / "blobs")) for k, v in links.items()})
    by_another_name = tmp_path / "latest"
    by_another_name.symlink_to(path.parent)
    for at in (path, by_another_name / path.name):
        (y,) = Interpreter(load_onnx(at))("forward", {"x": np.ones((3, 8), "f4")}).values()
        assert (y == np.ones((3, 8), "f4") @ W).all()


@pytest.mark.parametrize(
    ("location", "links", "message"),
    [
        ("away", {"away": "../../outside"}, "leads out of the model's folder"),
        ("away", {"away": "/etc/passwd"}, "leads out of the model's folder"),
        ("away", {"away": "again", "again": "away"}, "leads nowhere|not there"),
        ("away", {"away": "../../blobs/nothing"}, "is not there"),
        ("../../blobs/h1", {}, "outside of the model's folder"),
        ("onnx/../data", {}, "outside of the model's folder"),
    ],
)
def test_no_further_than_the_cache(tmp_path: Path, location: str, links: dict[str, str], message: str) -> None:
    model = good()
    external(model, location=location)
    with pytest.raises(LoadError, match=message):
        load_onnx(linked(tmp_path, model, **links))


def _node(i: int, **fields: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for name, value in fields.items():
            getattr(model.graph.node[i], name)[:] = value

    return change


def _tensor(**fields: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        for name, value in fields.items():
            if isinstance(value, list):
                getattr(tensor, name)[:] = value
            else:
                setattr(tensor, name, value)

    return change


def _external(**entries: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: external(model, **entries)


def _input_size(size: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size

    return change


def _more(*nodes: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.node.extend(nodes)


def _many_unsupported(model: onnx.ModelProto) -> None:
    model.graph.node.extend([helper.make_node(n, ["h"], [n]) for n in ("Gru", "Acosh")])
    model.graph.node.append(helper.make_node("Attention", ["h"], ["z"], domain="com.microsoft"))


def _huge_constant(model: onnx.ModelProto) -> None:
    shape = numpy_helper.from_array(np.array([1 << 40, 8]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["big"]))
    model.graph.node.append(helper.make_node("Concat", ["big", "h"], ["z"], axis=0))


def _not_text(model: onnx.ModelProto) -> None:
    model.ParseFromString(model.SerializeToString().replace(b"product", b"\xffroduct"))


def _sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add(dims=[8, 8])


def _function(model: onnx.ModelProto) -> None:
    """own.Own(x) = own.Own(x)"""
    call = helper.make_node("Own", ["x"], ["y"], domain="own")
    model.functions.append(helper.make_function("own", "Own", ["x"], ["y"], [call], model.opset_import))
    model.graph.node.append(helper.make_node("Own", ["h"], ["z"], domain="own"))


def _ints(model: onnx.ModelProto, name: str, values: list[int]) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(values), name))


def _power(inputs: int) -> Callable[[onnx.ModelProto], None]:
    """A size of (n + m + … + 1) ** 4096 elements."""

    def change(model: onnx.ModelProto) -> None:
        nodes = [helper.make_node("Shape", ["x"], ["s0"], end=1)]
        for i in range(inputs):
            model.graph.input.append(helper.make_tensor_value_info(f"i{i}", TensorProto.FLOAT, [f"m{i}"]))
            nodes.append(helper.make_node("Shape", [f"i{i}"], [f"t{i}"]))
            nodes.append(helper.make_node("Add", [f"s{i}", f"t{i}"], [f"s{i + 1}"]))
        nodes += [helper.make_node("Mul", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(inputs, inputs + 12)]
        nodes += [helper.make_node("ConstantOfShape", [f"s{inputs + 12}"], ["big"])]
        model.graph.node.extend(nodes)

    return change


HOSTILE: dict[str, tuple[Callable[[onnx.ModelProto], Any], str]] = {
    "an undefined operand": (_node(1, input=["ghost"]), "reads 'ghost', which nothing before it makes"),
    "a cycle": (_node(0, input=["y", "w"]), "reads 'y', which nothing before it makes"),
    "a node that reads itself": (_node(1, input=["y"]), "reads 'y'"),
    "a result that is there twice": (_node(1, output=["h"]), "makes 'h', which is there already"),
    "a result over a weight": (_node(1, output=["w"]), "makes 'w', which is there already"),
    "an output that nothing makes": (lambda m: setattr(m.graph.output[0], "name", "z"), "output 'z' is not made"),
    "unsupported operators": (_many_unsupported, "not supported: Acosh, Gru, com.microsoft.Attention$"),
    "an unsupported attribute": (
        lambda m: m.graph.node[1].attribute.append(helper.make_attribute("slope", 2)),
        "unexpected keyword argument 'slope'",
    ),
    "too few operands": (_node(0, input=["x"]), r"node 'product' \(MatMul\)"),
    "too many operands": (_node(0, input=["x", "w", "w"]), r"node 'product' \(MatMul\)"),
    "shapes that do not fit": (_tensor(dims=[4, 16]), "matmul"),
    "a tensor with too few bytes": (_tensor(dims=[8, 9]), r"tensor 'w': f32\[8, 9\] needs 288 bytes, and has 256"),
    "a tensor with too many bytes": (_tensor(dims=[8, 7]), "needs 224 bytes, and has 256"),
    "a negative size": (_tensor(dims=[-8, -8]), "is not possible"),
    "a huge tensor": (_tensor(dims=[1 << 40, 1 << 40]), "is not possible"),
    "a tensor larger than memory": (_tensor(dims=[1 << 23, 1 << 23]), "needs 281474976710656 bytes"),
    "a tensor of strings": (_tensor(data_type=TensorProto.STRING), "element type 8 is not supported"),
    "data outside of the folder": (_external(location="../outside"), "outside of the model's folder"),
    "data at an absolute path": (_external(location="/etc/passwd"), "outside of the model's folder"),
    "data by a link that leads out": (_external(location="link"), "leads out of the model's folder"),
    "data by an odd name": (_external(location="a\0b"), "outside of the model's folder"),
    "data by no name": (_external(), "outside of the model's folder"),
    "data that is not there": (_external(location="nothing"), "is not there"),
    "data that is a folder": (_external(location="."), "is not there"),
    "data past the end": (_external(location="data", offset="4"), "bytes 4 to 260 of 'data', which has 256"),
    "data before the beginning": (_external(location="data", offset="-4"), "bytes -4"),
    "data of another length": (_external(location="data", length="12"), "needs 256 bytes, and has 12"),
    "an offset that is no number": (_external(location="data", offset="many"), "must be numbers"),
    "a negative input size": (_input_size(-3), "a size of -3 is not possible"),
    "a huge input size": (_input_size(1 << 60), "is not possible"),
    "an old version": (lambda m: setattr(m.opset_import[0], "version", 6), "of version 6; 7 to 28 are supported"),
    "a version to come": (lambda m: setattr(m.opset_import[0], "version", 99), "of version 99; 7 to 28"),
    "no version": (lambda m: m.ClearField("opset_import"), "operators are of version 0"),
    "a name that is not UTF-8": (_not_text, "the name b'.*' is not text"),
    "a name with a NUL": (lambda m: setattr(m.graph.node[0], "name", "a\0b"), "is not text"),
    "a sparse tensor": (_sparse, "sparse initializers, which are not supported"),
    "two tensors of one name": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "two initializers"),
    "a function that calls itself": (_function, "not supported: own.Own$"),
    "no parts": (_more(helper.make_node("Split", ["h"], ["z"], num_outputs=0)), "num_outputs=0 does not fit 1 results"),
    "as many parts as would fill memory": (
        _more(helper.make_node("Split", ["h"], ["z"], num_outputs=1 << 40)),
        "does not fit 1 results",
    ),
    "parts below nothing": (
        lambda m: [_ints(m, "s", [-3, 11]), _more(helper.make_node("Split", ["h", "s"], ["z", "u"], axis=1))(m)],
        "Split",
    ),
    "an attribute of another type": (
        _more(helper.make_node("Softmax", ["h"], ["z"], axis="last")),
        r"node 'Softmax:z' \(Softmax\)",
    ),
    "a size of a great power": (_power(1), "is too long"),
    "a size of many terms": (_power(4), "is too long"),
    "no graph": (lambda m: m.ClearField("graph"), "holds no graph"),
    "an input of unknown rank": (
        lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"),
        "must be a tensor of plain numbers and of known rank",
    ),
    "two inputs of one name": (lambda m: m.graph.input.append(m.graph.input[0]), "two inputs called 'x'"),
    "a body": (
        _more(helper.make_node("If", ["h"], ["z"], then_branch=good().graph, else_branch=good().graph)),
        "not supported: If$",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_message(tmp_path: Path, name: str) -> None:
    change, message = HOSTILE[name]
    with pytest.raises(LoadError, match=message) as caught:
        load_onnx(written(tmp_path, change))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("kept", [0, 1, 10, 50, 200])
def test_cut_short(tmp_path: Path, kept: int) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(LoadError, match=r"is not an ONNX model, or is cut short|holds no graph"):
        load_onnx(path)


@pytest.mark.parametrize("content", [b"not protobuf at all", b"\x00" * 64, b"\xff" * 64, bytes(range(256))])
def test_not_protobuf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=r"is not an ONNX model|holds no graph"):
        load_onnx(path)


def test_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "no.onnx", tmp_path):
        with pytest.raises(LoadError, match=r"No such file|directory"):
            load_onnx(path)


@pytest.mark.parametrize("values", [3, pytest.param(256, marks=pytest.mark.fuzz)])
def test_every_byte_counts(tmp_path: Path, values: int) -> None:
    """A byte that is another one gives another model or a message, never another error."""
    path = written(tmp_path)
    raw = path.read_bytes()
    for at in range(len(raw)):
        for value in (0, 0xFF, raw[at] ^ 1) if values == 3 else range(256):
            path.write_bytes(raw[:at] + bytes([value]) + raw[at + 1 :])
            try:
                load_onnx(path)
            except LoadError as e:
                assert "\n" not in str(e)


def test_without_the_library_that_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(LoadError, match=r"needs onnx: pip install 'burnish\[onnx\]'"):
        load_onnx(path)


def test_thousands_of_sizes_that_depend_on_each_other(tmp_path: Path) -> None:
    """A chain of arithmetic on sizes is computed as it is read, each once."""

    def chain(model: onnx.ModelProto) -> None:
        nodes = [helper.make_node("Shape", ["x"], ["s0"], end=1)]
        for i in range(3000):
            nodes.append(helper.make_node(("Add", "Sub")[i % 2], [f"s{i}", "s0"], [f"s{i + 1}"]))
        model.graph.node.extend(nodes)
        model.graph.node.append(helper.make_node("ConstantOfShape", ["s3000"], ["z"]))
        model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n"]))

    outputs = load_onnx(written(tmp_path, chain)).graphs["forward"].outputs
    assert str(outputs["z"].type) == "f32[n]"


def test_little_memory(tmp_path: Path) -> None:
    """Constants of a terabyte are left to run time."""
    path = written(tmp_path, _huge_constant)
    code = "import sys, pathlib, burnish.frontends.onnx_file as f; f.load_onnx(pathlib.Path(sys.argv[1]))"
    limits = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({2 << 30}, {2 << 30})); "
    command = [sys.executable, "-c", limits + code, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("operator", "count"),
    [pytest.param(("Max", "Min", "Add", "Mul"), 60, marks=pytest.mark.slow), (("Concat",), 40)],
    ids=["choices", "long shapes"],
)
def test_arithmetic_on_sizes_is_bounded(tmp_path: Path, operator: tuple[str, ...], count: int) -> None:
    """What takes long to compute, or has a great many sizes, is refused."""
    letters = "abcdefgh"

    def change(model: onnx.ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info("i", TensorProto.FLOAT, list(letters)))
        nodes = [helper.make_node("Shape", ["i"], ["s0"])]
        if operator != ("Concat",):
            nodes = [helper.make_node("Shape", ["i"], [f"d{k}"], start=k, end=k + 1) for k in range(8)]
            nodes.append(helper.make_node("Identity", ["d0"], ["s0"]))
        for k in range(count):
            kind = operator[k % len(operator)]
            other, options = (f"s{k}", {"axis": 0}) if kind == "Concat" else (f"d{k % 8}", {})
            nodes.append(helper.make_node(kind, [f"s{k}", other], [f"s{k + 1}"], **options))
        model.graph.node.extend([*nodes, helper.make_node("ConstantOfShape", [f"s{count}"], ["z"])])

    with pytest.raises(LoadError, match=r"too many choices|must be known|is too long"):
        load_onnx(written(tmp_path, change))
