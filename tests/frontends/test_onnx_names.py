"""What the names in an exporter's metadata say."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from burnish.backends.interpreter import Interpreter
from burnish.frontends.onnx_file import load_onnx
from burnish.frontends.onnx_names import Names, stacks_of, task_of
from tests import models
from tests.frontends import onnx_mutants


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("LlamaForCausalLM", "text-generation"),
        ("GPT2LMHeadModel", "text-generation"),
        ("T5ForConditionalGeneration", "text2text-generation"),
        ("BertForMaskedLM", "fill-mask"),
        ("BertForSequenceClassification", "text-classification"),
        ("BertForTokenClassification", "token-classification"),
        ("BertForQuestionAnswering", "question-answering"),
        ("BertModel", "feature-extraction"),
        ("T5EncoderModel", "feature-extraction"),
        ("BertModelWithHeads", ""),
        ("LlamaForCausalLMWrapper", ""),
        ("", ""),
    ],
)
def test_a_class_of_transformers_says_what_it_is_for(architecture: str, task: str) -> None:
    assert task_of(architecture) == task


def under(stack: str, count: int, *names: str) -> list[str]:
    """The paths of so many modules in a stack, and of what is in them."""
    return [f"{stack}.{i}{name}" for i in range(count) for name in ("", *(f".{n}" for n in names))]


LAYER = ("norm", "self_attn", "self_attn.q_proj", "mlp")
T5 = ("layer.0.SelfAttention", "layer.0.layer_norm", "layer.1.DenseReluDense", "layer.1.layer_norm")


PATHS: dict[str, tuple[list[str], set[str]]] = {
    "a decoder": (["embed", *under("model.layers", 3, *LAYER), "norm"], {"model.layers"}),
    "two stacks": ([*under("enc.layers", 2, *LAYER), *under("dec.layers", 2, *LAYER)], {"enc.layers", "dec.layers"}),
    "layers in a block": (under("encoder.block", 2, *T5), {"encoder.block"}),
    "layers in the only block": (under("encoder.block", 1, *T5), {"encoder.block"}),
    "a sequence": ([*under("model.0.layer", 2, *LAYER), "model.1", "model.1.linear"], {"model.0.layer"}),
    "a sequence beside": ([*under("layers", 2, *LAYER), "head.0", "head.2"], {"layers"}),
    "blocks of two kinds": (["h.0.norm", "h.0.mamba", "h.1.norm", "h.1.attn", "h.2.norm", "h.2.mamba"], {"h"}),
    "none alike": (["layers.0.mamba", "layers.1.attn", "head.0"], {"layers", "head"}),
    "nothing in them": (["layers.0", "layers.1"], {"layers"}),
    "outermost": (["0.norm", "1.norm"], {""}),
    "no numbers": (["v2.1x", "layers.01", "layers.9999999999", "layers.-1"], set()),
    "nothing": ([], set()),
}


@pytest.mark.parametrize("case", PATHS)
def test_blocks_are_modules_with_a_number_that_are_alike(case: str) -> None:
    paths, stacks = PATHS[case]
    assert stacks_of(paths) == stacks


def test_numbers_within_a_block_are_none_of_their_own() -> None:
    paths = [f"layers.{i}.{name}" for i in (0, 1) for name in ("norm", *under("mlp.experts", 4, "w1"))]
    nodes = [traced("model"), *(traced("model", f"model.{p}") for p in paths)]
    graph: Any = SimpleNamespace(metadata_props=[], node=nodes)
    names = Names.of(graph)
    scopes = [names.scope(n) for n in graph.node]
    assert {"layers[0].norm", "layers[1].norm", "layers[1].mlp.experts.3.w1"} <= set(scopes)
    assert names.module(graph.node[-1]) == "layers.1.mlp.experts.3.w1"


def traced(*path: str) -> Any:
    """A node that was traced in the last of these modules."""
    scopes = SimpleNamespace(key="pkg.torch.onnx.name_scopes", value=repr(["", *path, "node"]))
    return SimpleNamespace(metadata_props=[scopes])


@pytest.mark.slow
def test_an_import_does_not_depend_on_the_order_of_sets(exports: Any, tmp_path: Path) -> None:
    """Files with names, symbols and guards of every kind give one text, whatever strings hash to."""
    files = [exports(family).onnx for family in ("llama", "bert")]
    for make in dict.fromkeys(onnx_mutants.BASES):
        files.append(tmp_path / f"{make.__name__}.onnx")
        onnx.save(make(), files[-1])
    code = (
        "import sys, pathlib, burnish\n"
        "from burnish.frontends.onnx_file import load_onnx\n"
        "for f in sys.argv[1:]:\n"
        "    module = load_onnx(pathlib.Path(f)); print(module, burnish.optimize(module))\n"
    )
    texts = set()
    for seed in range(4):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", code, *map(str, files)]
        made = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert made.returncode == 0, made.stderr
        texts.add(made.stdout)
    assert len(texts) == 1


rng = np.random.default_rng(0)
SCALE, BIAS, X = (rng.standard_normal(shape, "f4") for shape in (16, 16, (2, 16)))


def called(name: str, operands: list[str], parameters: str, result: str = "y") -> onnx.NodeProto:
    """A node of which the exporter says that these are its parameters."""
    node = helper.make_node(name, operands, [result])
    node.metadata_props.add(key="pkg.torch.onnx.fx_node", value=f"%y : call_function[f](args = (%x, {parameters}))")
    return node


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        # scaled by its weight + 1, which the exporter has computed: no parameter, and beside it stands one
        ([called("LayerNormalization", ["x", "t", "bias"], "[16], %add, %p_bias")], {"bias"}),
        ([called("LayerNormalization", ["x", "t", "bias"], "[16], %p_weight, %p_bias")], {"weight", "bias"}),
        # a second tensor is said to be the parameter, before the one that is called so
        ([called("Mul", ["x", "t"], "%p_bias"), called("Add", ["y", "bias"], "%p_bias", "z")], {"bias", "bias.1"}),
    ],
)
def test_two_tensors_are_never_one_weight(nodes: list[onnx.NodeProto], names: set[str], tmp_path: Path) -> None:
    constants = [numpy_helper.from_array(SCALE, "t"), numpy_helper.from_array(BIAS, "bias")]
    given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 16])
    made = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, [2, 16])
    graph = helper.make_graph(nodes, "g", [given], [made], constants)
    parameters = "\n".join(f"p_{n}: PARAMETER target='{n}'" for n in ("weight", "bias"))
    graph.metadata_props.add(key="pkg.torch.export.ExportedProgram.graph_signature", value=parameters)
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(file, tmp_path / "model.onnx")
    module = load_onnx(tmp_path / "model.onnx")
    assert set(module.weights) == names
    (got,), (wanted,) = Interpreter(module)("forward", {"x": X}).values(), ReferenceEvaluator(file).run(None, {"x": X})
    assert np.abs(got - wanted).max() <= models.WITHIN * np.abs(wanted).max()
