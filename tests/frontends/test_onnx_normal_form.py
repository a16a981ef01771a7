"""One normal form: a Llama from ONNX and the same Llama from its checkpoint are the same graph after the pipeline."""

from typing import Any

import numpy as np
import pytest

from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.onnx_file import load_onnx
from burnish.ir import Module
from burnish.ir.graph import Graph
from burnish.ir.leaves import Constant
from burnish.ir.signature import TOKEN_TYPES
from burnish.ir.structure import structure
from burnish.ir.text import side_by_side
from burnish.passes.engine import Context
from burnish.passes.pipelines import parse_pipeline

pytestmark = pytest.mark.slow


def optimised(module: Module) -> Module:
    context = Context(module)
    for pass_ in parse_pipeline("default"):
        context.run(pass_)
    return module


def form(graph: Graph) -> Any:
    """The structure up to names, constants by their type: those of rope agree to one unit in the last place."""
    rows = structure(graph, names=False, provenance=False)
    return [(("constant", None), *r[1:]) if _is_constant(r) else r for r in rows]


def _is_constant(row: Any) -> bool:
    return isinstance(row, tuple) and len(row) == 5 and isinstance(row[0], tuple) and row[0][0] == "constant"


def constants(graph: Graph) -> list[np.ndarray]:
    return [n.op.value.data for n in graph.order() if isinstance(n.op, Constant)]


def plain_text(module: Module) -> str:
    """The graph without provenance."""
    lines = str(module.graphs["forward"]).splitlines()
    return "\n".join(line.partition(" <- ")[0] for line in lines if not line.strip().startswith("scope"))


SIZES = {16: {}, 64: {"head_dim": 64}, 128: {"head_dim": 128}}  # of a head; 16 is hidden / heads
every_size = pytest.mark.parametrize(
    "head_dim", [pytest.param(n, marks=pytest.mark.onnx if n > 16 else ()) for n in SIZES]
)


@every_size
def test_llama_is_one_graph(head_dim: int, exports: Any) -> None:
    export = exports("llama", **SIZES[head_dim])
    ours, theirs = optimised(load_checkpoint(export.checkpoint)), optimised(load_onnx(export.onnx))
    a, b = ours.graphs["forward"], theirs.graphs["forward"]
    print(side_by_side(plain_text(ours), plain_text(theirs), width=110))
    assert form(a) == form(b)
    for x, y in zip(constants(a), constants(b), strict=True):
        np.testing.assert_array_max_ulp(x, y, maxulp=1)
    assert ours.weights.keys() == theirs.weights.keys()
    assert ours.source is not None
    assert theirs.source is not None
    for name in ours.weights:
        assert ours.source.read(name).tobytes() == theirs.source.read(name).tobytes(), name


@every_size
def test_the_scale_of_attention_is_exact(head_dim: int, exports: Any) -> None:
    """The file holds its square root, rounded, twice."""
    graph = optimised(load_onnx(exports("llama", **SIZES[head_dim]).onnx)).graphs["forward"]
    assert {n.op.scale for n in graph if n.op.name == "attention"} == {head_dim**-0.5}  # type: ignore[attr-defined]
    assert {n.op.eps for n in graph if n.op.name == "rms_norm"} == {1e-6}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_batch_1_differs_in_the_batch_alone(exports: Any) -> None:
    ours = plain_text(optimised(load_checkpoint(exports("llama").checkpoint)))
    theirs = plain_text(optimised(load_onnx(exports("llama", batch=1).onnx)))
    assert _without_frequencies(ours).replace("[B, ", "[1, ") == _without_frequencies(theirs)


@pytest.mark.slow
def test_bert_differs_in_its_mask_alone(exports: Any) -> None:
    """The checkpoint counts real tokens, the file is given a mask, which is data: a bias of every attention."""
    export = exports("bert")
    checkpoint = load_checkpoint(export.checkpoint)
    _all_of_one_type(checkpoint.graphs["forward"])  # as the file has them
    ours, theirs = optimised(checkpoint), optimised(load_onnx(export.onnx))
    print(side_by_side(plain_text(ours), plain_text(theirs), width=110))
    histogram = [
        {name: sum(n.op.name == name for n in m.graphs["forward"]) for name in ("attention", "linear", "layer_norm")}
        for m in (ours, theirs)
    ]
    assert histogram[0] == histogram[1]
    for module in (ours, theirs):
        _drop_masks(module)
    assert form(ours.graphs["forward"])[2:] == form(theirs.graphs["forward"])[2:]


def _all_of_one_type(graph: Graph) -> None:
    types = graph.input_for(TOKEN_TYPES)
    assert types is not None
    (embedding,) = types.users
    embedding.set_input(0, graph.ops.constant([[0]], "i32"))
    graph.remove_input(types)
    (total,) = embedding.out.users
    embedding.outputs[0].type = embedding.out.type.with_shape((1, 1, embedding.out.shape[2]))
    assert total.op.name == "add"


def _drop_masks(module: Module) -> None:
    graph = module.graphs["forward"]
    for node in graph:
        if node.op.name == "attention":
            for i in range(3, len(node.inputs)):
                node.set_input(i, None)
            node.inputs[3:] = []
            node.op = node.op.changed(no_keys="zero")
    graph.erase_dead(list(graph))
    for value in list(graph.inputs):
        if not value.uses:
            graph.remove_input(value)
    module.normalize()


def _without_frequencies(text: str) -> str:
    return "\n".join(line.partition("f32([")[0] for line in text.splitlines())


def test_a_difference_is_noticed(exports: Any) -> None:
    export = exports("llama")
    ours = optimised(load_checkpoint(export.checkpoint)).graphs["forward"]
    whole = form(ours)
    for node in list(ours)[::7]:
        if node.operands and not node.is_leaf:
            kept = node.inputs[0]
            other = next((v for v in ours.inputs if v is not kept), None) or ours.outputs["logits"]
            node.set_input(0, other)
            if other.node is not node:
                with pytest.raises((AssertionError, ValueError)):
                    assert form(ours) == whole
            node.set_input(0, kept)
    assert form(ours) == whole
