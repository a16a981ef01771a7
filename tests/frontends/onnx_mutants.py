"""ONNX files that are damaged or hostile: see `tests/fuzzing.py`.

A mutant is one of a few small models with one to three changes: of nodes, attributes, tensors, inputs, names, versions,
as protobuf; or of bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import TensorProto, helper, numpy_helper

from burnish.frontends.config import LoadError
from burnish.frontends.onnx_file import load_onnx
from burnish.frontends.onnx_ops import TRANSLATIONS
from burnish.ir.budget import BudgetError
from burnish.ir.parser import parse
from burnish.ir.verify import verify
from burnish.passes.engine import PassError
from burnish.passes.pipelines import run_passes
from burnish.runtime.package import write_package

DOCUMENTED = (LoadError,)
NUMBERS = (0, 1, -1, 2, 3, 7, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63), -(1 << 31), 65537)
STRINGS = ("", "none", "tanh", "\0", "a\nb", '"', "x" * 500, "ids", "past", "/a/../b", "é", "{S}", "%0", "@w", "S + 1")


def attempt(seed: int, folder: Path) -> None:
    """Read a mutant, print it and read it again, optimise it, package it, make it stateful where that is possible."""
    path = folder / "mutant.onnx"
    path.write_bytes(mutant(seed))
    module = load_onnx(path)
    verify(module)
    assert parse(str(module), module.constants()) == module
    run_passes(module, "default")
    assert parse(str(module), module.constants()) == module
    with suppress(BudgetError):  # before anything is written
        write_package(module, folder / "package", force=True)
    if module.main is not None:
        try:
            run_passes(module, "stateful")
        except PassError as e:  # what cannot go on from step to step is refused; a promise that is broken is a fault
            assert str(e).startswith("application "), e


def mutant(seed: int) -> bytes:
    """The bytes of one mutant."""
    random = Random(seed)
    model = random.choice(BASES)()
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        # where there is nothing of the kind, or protobuf does not hold it, it is left
        with suppress(IndexError, ValueError, TypeError, KeyError, OverflowError, DecodeError):
            random.choice(CHANGES)(random, model)
    try:
        raw = model.SerializeToString()
    except (EncodeError, ValueError):
        raw = b""
    return _bytes(random, raw) if random.random() < 0.15 else raw


# ------------------------------------------------------------------------------------------------------------ models


def _model(nodes: list[Any], inputs: list[Any], outputs: list[str], constants: dict[str, Any]) -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [numpy_helper.from_array(np.asarray(x), name) for name, x in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, infos, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _info(name: str, type: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, type, shape)


def _of(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype("f4")


def decoder() -> onnx.ModelProto:
    """A layer with a norm in parts, a causal mask from shapes, attention in parts, a gate, and a head."""
    n = helper.make_node
    nodes = [
        n("Gather", ["table", "input_ids"], ["x"], name="look-up"),
        n("Pow", ["x", "two"], ["x2"]),
        n("ReduceMean", ["x2", "last"], ["mean"]),
        n("Add", ["mean", "eps"], ["mean2"]),
        n("Sqrt", ["mean2"], ["root"]),
        n("Div", ["x", "root"], ["xn"]),
        n("Mul", ["g", "xn"], ["h"]),
        n("MatMul", ["h", "wqkv"], ["qkv"]),
        n("Split", ["qkv", "thirds"], ["q", "k", "v"], axis=-1),
        *[n("Reshape", [x, "heads"], [x + "1"]) for x in "qkv"],
        *[n("Transpose", [x + "1"], [x + "2"], perm=[0, 2, 1, 3]) for x in "qkv"],
        n("Transpose", ["k2"], ["kt"], perm=[0, 1, 3, 2]),
        n("MatMul", ["q2", "kt"], ["scores"]),
        n("Shape", ["input_ids"], ["shape"]),
        n("Gather", ["shape", "one"], ["length"]),
        n("Range", ["zero", "length", "one"], ["count"]),
        n("Unsqueeze", ["count", "last"], ["row"]),
        n("LessOrEqual", ["count", "row"], ["seen"]),
        n("Slice", ["shape", "start", "end"], ["batch"]),
        n("Concat", ["batch", "ones", "minus", "minus"], ["wide"], axis=0),
        n("Equal", ["wide", "minus"], ["any"]),
        n("Where", ["any", "ones", "wide"], ["wide2"]),
        n("Expand", ["seen", "wide2"], ["seen2"]),
        n("Where", ["seen2", "scores", "low"], ["masked"]),
        n("Softmax", ["masked"], ["p"], axis=-1),
        n("MatMul", ["p", "v2"], ["o"]),
        n("Transpose", ["o"], ["o1"], perm=[0, 2, 1, 3]),
        n("Reshape", ["o1", "flat"], ["o2"]),
        n("Sigmoid", ["o2"], ["s"]),
        n("Mul", ["o2", "s"], ["silu"]),
        n("LayerNormalization", ["silu", "g", "g"], ["ln"], epsilon=1e-5),
        n("Cast", ["ln"], ["c"], to=TensorProto.FLOAT),
        n("MatMul", ["c", "head"], ["logits"]),
    ]
    constants = {"table": _of(20, 8), "wqkv": _of(8, 24), "g": _of(8), "head": _of(8, 20), "eps": np.float32(1e-6)}
    constants |= {"two": np.float32(2), "low": np.float32(-1e9), "last": np.array([-1]), "thirds": np.array([8, 8, 8])}
    constants |= {"heads": np.array([0, 0, 2, 4]), "flat": np.array([0, 0, 8]), "one": np.array(1), "zero": np.array(0)}
    constants |= {"ones": np.array([1]), "minus": np.array([-1]), "start": np.array([0]), "end": np.array([1])}
    return _model(nodes, [_info("input_ids", TensorProto.INT64, ["batch", "seq"])], ["logits"], constants)


def sizes() -> onnx.ModelProto:
    """Arithmetic on sizes that ends in views and in data."""
    n = helper.make_node
    nodes = [
        n("Shape", ["x"], ["s"]),
        n("Gather", ["s", "zero"], ["n"]),
        n("Mul", ["n", "n"], ["n2"]),
        n("Add", ["n2", "three"], ["n3"]),
        n("Div", ["n3", "two"], ["half"]),
        n("Sub", ["half", "n"], ["less"]),
        n("Max", ["less", "one"], ["some"]),
        n("Unsqueeze", ["some", "first"], ["size"]),
        n("ConstantOfShape", ["size"], ["filled"], value=numpy_helper.from_array(np.array([2.0], "f4"))),
        n("Tile", ["filled", "twice"], ["tiled"]),
        n("Pad", ["tiled", "pads", "fill"], ["padded"]),
        n("ReduceSum", ["padded"], ["sum"], keepdims=0),
        n("Flatten", ["x"], ["flat"], axis=1),
        n("Trilu", ["flat"], ["low"], upper=0),
        n("CumSum", ["low", "one"], ["running"]),
        n("Clip", ["running", "", "fill"], ["clipped"]),
        n("Add", ["clipped", "sum"], ["y"]),
        n("Cast", ["half"], ["z"], to=TensorProto.FLOAT),
    ]
    constants = {"zero": np.array(0), "one": np.array(1), "two": np.array(2), "three": np.array(3)}
    constants |= {"first": np.array([0]), "twice": np.array([2]), "pads": np.array([1, 2]), "fill": np.float32(3)}
    return _model(nodes, [_info("x", TensorProto.FLOAT, ["N", 3, "M"])], ["y", "z"], constants)


def past() -> onnx.ModelProto:
    """Keys and values that are given back longer."""
    from tests.frontends.test_onnx_past import small

    return small()


BASES: tuple[Callable[[], onnx.ModelProto], ...] = (decoder, decoder, sizes, past)


# ----------------------------------------------------------------------------------------------------------- changes


def _bytes(random: Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(random.randint(1, 8)):
        at = random.randrange(len(data) + 1)
        match random.randrange(4):
            case 0:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                data[at:at] = random.randbytes(random.randint(1, 4))
            case 2:
                del data[at : at + random.randint(1, 16)]
            case 3:
                data[at : at + 1] = bytes([random.choice((0, 0x7F, 0x80, 0xC2, 0xED, 0xFF))])
    return bytes(data)


def _values(model: Any) -> list[str]:
    graph = model.graph
    made = [o for node in graph.node for o in node.output]
    return [*made, *(t.name for t in graph.initializer), *(i.name for i in graph.input), ""]


def _rewire(random: Random, model: Any) -> None:
    node = random.choice(model.graph.node)
    node.input[random.randrange(len(node.input))] = random.choice(_values(model))


def _another_operator(random: Random, model: Any) -> None:
    random.choice(model.graph.node).op_type = random.choice([*TRANSLATIONS, "If", "Loop", "Conv", "", "MatMul "])


def _drop(random: Random, model: Any) -> None:
    part = random.choice((model.graph.node, model.graph.initializer, model.graph.input, model.graph.output))
    del part[random.randrange(len(part))]


def _copy(random: Random, model: Any) -> None:
    part = random.choice((model.graph.node, model.graph.initializer, model.graph.input, model.graph.output))
    part.append(random.choice(part))


def _swap(random: Random, model: Any) -> None:
    nodes = list(model.graph.node)
    random.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _operands(random: Random, model: Any) -> None:
    node = random.choice(model.graph.node)
    if random.random() < 0.5:
        node.input.append(random.choice(_values(model)))
    else:
        del node.input[-1]


def _results(random: Random, model: Any) -> None:
    random.choice(model.graph.node).output.append(random.choice([*STRINGS, "more"]))


def _attribute(random: Random, model: Any) -> None:
    node = random.choice([n for n in model.graph.node if n.attribute])
    attribute = random.choice(node.attribute)
    name = (
        attribute.name if random.random() < 0.7 else random.choice(("axis", "axes", "to", "value", "perm", "op", "x"))
    )
    values: list[Any] = [random.choice(NUMBERS), [random.choice(NUMBERS) for _ in range(random.randrange(4))]]
    values += [
        random.choice((0.0, -1.5, float("nan"), float("inf"), 1e38)),
        random.choice(STRINGS),
        [0.5, float("nan")],
    ]
    values += [numpy_helper.from_array(np.array([random.choice(NUMBERS)])), model.graph]
    node.attribute.remove(attribute)
    node.attribute.append(helper.make_attribute(name, random.choice(values)))


def _type_of_attribute(random: Random, model: Any) -> None:
    node = random.choice([n for n in model.graph.node if n.attribute])
    random.choice(node.attribute).type = random.randrange(15)


def _new_attribute(random: Random, model: Any) -> None:
    name = random.choice(("axis", "axes", "keepdims", "alpha", "num_outputs", "perm", "start", "allowzero", "upper"))
    value = random.choice((random.choice(NUMBERS), [random.choice(NUMBERS)] * random.randrange(3)))
    random.choice(model.graph.node).attribute.append(helper.make_attribute(name, value))


def _tensor(random: Random, model: Any) -> None:
    tensor = random.choice(model.graph.initializer)
    match random.randrange(6):
        case 0:
            tensor.dims[:] = [random.choice(NUMBERS) for _ in range(random.randrange(4))]
        case 1:
            tensor.data_type = random.randrange(30)
        case 2:
            tensor.raw_data = tensor.raw_data[: random.randrange(len(tensor.raw_data) + 1)]
        case 3:
            tensor.dims[:] = tensor.dims[::-1]
        case 4:
            tensor.data_location = 1
            tensor.external_data.add(key="location", value=random.choice((*STRINGS, ".", "/etc/passwd", "../x")))
        case 5:
            tensor.int64_data[:] = [random.choice(NUMBERS)]


def _number(random: Random, model: Any) -> None:
    """Another size, axis or index."""
    known = [t for t in model.graph.initializer if t.data_type == TensorProto.INT64]
    tensor = random.choice(known)
    data = numpy_helper.to_array(tensor).copy()
    data.flat[random.randrange(data.size)] = random.choice(NUMBERS)
    tensor.raw_data = data.tobytes()


def _weight(random: Random, model: Any) -> None:
    """Another float: one that is none, or is out of bounds."""
    tensor = random.choice([t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT])
    data = numpy_helper.to_array(tensor).copy()
    data.flat[random.randrange(data.size)] = random.choice((np.nan, np.inf, -np.inf, 0.0, 3e38, 1e-45))
    tensor.raw_data = data.tobytes()


def _input(random: Random, model: Any) -> None:
    info = random.choice(model.graph.input)
    tensor = info.type.tensor_type
    dims = tensor.shape.dim
    match random.randrange(5):
        case 0:
            random.choice(dims).dim_value = random.choice(NUMBERS)
        case 1:
            random.choice(dims).dim_param = random.choice((*STRINGS, "S", "B", "C", "batch", "N", "n*n", "b + s"))
        case 2:
            tensor.elem_type = random.randrange(25)
        case 3:
            del dims[random.randrange(len(dims))]
        case 4:
            tensor.ClearField("shape")


def _name(random: Random, model: Any) -> None:
    name = random.choice((*STRINGS, "input_ids", "attention_mask", "position_ids", "past_key_values.0.key", "logits"))
    match random.randrange(4):
        case 0:
            random.choice(model.graph.node).name = name
        case 1:
            random.choice(model.graph.input).name = name
        case 2:
            random.choice(model.graph.output).name = random.choice(_values(model))
        case 3:
            old, new = random.choice(_values(model)), name
            for node in model.graph.node:
                node.input[:] = [new if x == old else x for x in node.input]
                node.output[:] = [new if x == old else x for x in node.output]


def _version(random: Random, model: Any) -> None:
    model.opset_import[0].version = random.choice((-1, 0, 6, 7, 11, 12, 13, 17, 21, 28, 29, 1 << 62))


def _metadata(random: Random, model: Any) -> None:
    node = random.choice(model.graph.node)
    value = random.choice(
        ("['', 'a.0', 'a.0.b', 'n']", "[" * 400, "['', 3]", "['', '\\udc80', 'x']", "layers.0", "1" * 5000)
    )
    node.metadata_props.add(
        key="pkg.torch.onnx." + random.choice(("name_scopes", "fx_node", "class_hierarchy")), value=value
    )


def _not_text(random: Random, model: Any) -> None:
    """A name whose bytes are not UTF-8, which protobuf lets pass."""
    raw = model.SerializeToString()
    at = random.choice([i for i in range(len(raw) - 1) if raw[i] > 96 and raw[i] < 123])
    model.ParseFromString(raw[:at] + bytes([random.choice((0xC2, 0xED, 0xFF, 0))]) + raw[at + 1 :])


CHANGES: tuple[Callable[[Random, Any], None], ...] = (
    *(_rewire, _another_operator, _drop, _copy, _swap, _operands, _results, _attribute, _type_of_attribute),
    *(_new_attribute, _tensor, _number, _number, _weight, _input, _name, _version, _metadata, _not_text),
)
