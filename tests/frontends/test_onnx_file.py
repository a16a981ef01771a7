"""What torch.onnx.export(dynamo=True) writes for Llama and BERT: signature, names, weights, numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from burnish.backends.binding import BindError
from burnish.backends.interpreter import Interpreter
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.onnx_file import load_onnx
from burnish.ir import Module, verify
from burnish.ir.origin import Block, block_of, dotted
from burnish.passes.engine import Context
from burnish.passes.pipelines import parse_pipeline
from tests import models

STATIC: dict[str, Any] = {"batch": 1, "length": 7}  # which is exported in a third of the time
TIED = {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "num_hidden_layers": 1} | STATIC
# family, what is given to `exports`, sizes of ids to try
CASES: dict[str, tuple[str, dict[str, Any], list[tuple[int, int]]]] = {
    "llama": ("llama", {}, [(1, 1), (2, 7), (3, 16)]),
    "llama at batch 1": ("llama", {"batch": 1}, [(1, 5), (1, 16)]),
    "llama, static": ("llama", STATIC, [(1, 7)]),
    "llama, one key head": ("llama", {"num_key_value_heads": 1}, [(2, 5)]),
    "llama, static, biases and tied": ("llama", TIED, [(1, 7)]),
    "bert": ("bert", {}, [(1, 1), (2, 7), (3, 16)]),
    "bert at batch 1": ("bert", {"batch": 1}, [(1, 5), (1, 16)]),
}


def oracle(model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    given = {"input_ids" if k == "ids" else k: torch.tensor(v, dtype=torch.long) for k, v in inputs.items()}
    with torch.no_grad():
        result = model(**given)
    return (result.logits if "logits" in result else result.last_hidden_state).numpy()


def inputs_of(module: Module, size: tuple[int, int]) -> dict[str, np.ndarray]:
    mask = np.ones(size, np.int32)
    mask[-1, size[1] // 2 + 1 :] = 0
    every = {"ids": models.tokens(size), "attention_mask": mask}
    return {v.name: every[v.name] for v in module.graphs["forward"].inputs}


def optimised(module: Module) -> Context:
    context = Context(module)
    for pass_ in parse_pipeline("default"):
        context.run(pass_)
    return context


#: each is exported anew, which takes seconds; older exports of BERT are read in test_onnx_versions.py
FAMILIES = ["llama", pytest.param("bert", marks=pytest.mark.slow)]
MARKS = {
    "bert": pytest.mark.slow,
    "llama, static": pytest.mark.onnx,
    "llama at batch 1": pytest.mark.slow,
    "llama, one key head": pytest.mark.onnx,
    "llama, static, biases and tied": pytest.mark.slow,
    "bert at batch 1": pytest.mark.onnx,
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=MARKS.get(n, ())) for n in CASES])
def test_numbers_are_the_oracles_before_and_after_the_pipeline(name: str, exports: Any) -> None:
    family, given, sizes = CASES[name]
    export = exports(family, **given)
    for optimise in (False, True):
        module = load_onnx(export.onnx)
        verify(module)
        if optimise:
            optimised(module)
        run = Interpreter(module)
        for size in sizes:
            inputs = inputs_of(module, size)
            expected = oracle(export.model, inputs)
            (got,) = run("forward", inputs).values()
            assert np.abs(got - expected).max() <= models.WITHIN * np.abs(expected).max(), (size, optimise)


def signature(module: Module) -> dict[str, str]:
    graph = module.graphs["forward"]
    return {v.name: str(v.type) for v in graph.inputs} | {k: str(v.type) for k, v in graph.outputs.items()}


def test_the_signature_is_the_checkpoints(exports: Any) -> None:
    export = exports("llama")
    assert signature(load_onnx(export.onnx)) == signature(load_checkpoint(export.checkpoint))


@pytest.mark.slow
def test_the_batch_of_a_mask_is_that_of_the_ids(exports: Any) -> None:
    """The exporter gives it a symbol of its own."""
    bert = signature(load_onnx(exports("bert").onnx))
    assert bert == {"ids": "i32[B, S]", "attention_mask": "i32[B, S]", "hidden": "f32[B, S, 64]"}


@pytest.mark.slow
def test_a_batch_of_one_stays_one(exports: Any) -> None:
    assert signature(load_onnx(exports("llama", batch=1).onnx)) == {"ids": "i32[1, S]", "logits": "f32[1, S, 96]"}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_shape_is_computed_at_run_time(family: str, exports: Any) -> None:
    graph = load_onnx(exports(family).onnx).graphs["forward"]
    integers = [n for n in graph if n.out.type.is_integer and n.op.name in ("concat", "slice") and n.out.type.rank == 1]
    assert integers == []
    assert -1 not in [d for n in graph for d in getattr(n.op, "shape", ())]


@pytest.mark.parametrize("family", FAMILIES)
def test_nodes_know_where_they_come_from(family: str, exports: Any) -> None:
    graph = load_onnx(exports(family).onnx).graphs["forward"]
    sources = [n.origin.sources for n in graph if not n.is_leaf]
    assert all(len(s) == 1 for s in sources)
    assert len(set(sources)) == len(sources)


@pytest.mark.parametrize("family", FAMILIES)
def test_nodes_belong_to_the_models_own_modules(family: str, exports: Any) -> None:
    export = exports(family)
    scopes = {n.origin.scope for n in load_onnx(export.onnx).graphs["forward"]}
    assert {dotted(s) for s in scopes} <= {name for name, _ in export.model.named_modules()}
    assert len(scopes) > 15
    stack = {"llama": "model.layers", "bert": "encoder.layer"}[family]
    assert {block_of(s) for s in scopes} == {None, Block(stack, 0), Block(stack, 1)}


@pytest.mark.parametrize(
    ("family", "given"),
    [
        ("llama", {}),
        pytest.param("llama", TIED, marks=pytest.mark.slow),
        pytest.param("bert", {}, marks=pytest.mark.slow),
    ],
)
def test_weights_are_the_models_parameters_bit_for_bit(family: str, given: dict[str, Any], exports: Any) -> None:
    export = exports(family, **given)
    module = load_onnx(export.onnx)
    parameters = {k: p.detach().numpy() for k, p in export.model.named_parameters() if not k.startswith("pooler.")}
    assert set(module.weights) == set(parameters)
    assert module.source is not None
    for name, parameter in parameters.items():
        read = module.source.read(name)
        assert read.dtype == parameter.dtype, name
        assert read.shape == parameter.shape == module.weights[name].type.shape, name
        assert read.tobytes() == parameter.tobytes(), name
        rows = tuple(slice(1, min(d, 3)) for d in parameter.shape)
        assert module.source.read_part(name, rows).tobytes() == parameter[rows].tobytes(), name


@pytest.mark.slow
def test_tensors_that_were_merged_because_they_are_equal_keep_their_names(tmp_path: Any) -> None:
    model = models.llama(num_hidden_layers=1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.fill_(1.0)
    module = load_onnx(models.exported(model, tmp_path / "model.onnx", **STATIC))
    assert set(module.weights) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(("given", "size"), [({}, (2, 9)), pytest.param({"batch": 1}, (1, 9), marks=pytest.mark.slow)])
def test_it_becomes_stateful_like_any_other(given: dict[str, Any], size: tuple[int, int], exports: Any) -> None:
    export = exports("llama", **given)
    module = load_onnx(export.onnx)
    context = optimised(module)
    for pass_ in parse_pipeline("stateful"):
        context.run(pass_)
    names = [v.name for v in module.graphs["forward"].inputs]
    assert sorted(names) == ["count", "ids", "k0", "k1", "past", "v0", "v1"]
    ids, run = models.tokens(size), Interpreter(module)
    expected = models.logits_of(export.model, input_ids=ids)
    caches = {n: np.zeros((size[0], 16, 2, 16), np.float32) for n in ("k0", "k1", "v0", "v1")}
    at = 0
    for chunk in (4, 3, 1, 1):
        tokens = ids[:, at : at + chunk]
        counts = {"past": np.full(size[0], at, np.int32), "count": np.full(size[0], chunk, np.int32)}
        result = run("forward", {"ids": tokens, **counts, **caches})
        caches = {k: result[k] for k in caches}
        at += chunk
        assert np.abs(result["logits"][:, 0] - expected[:, at - 1]).max() <= models.WITHIN * np.abs(expected).max()


def added(path: Path, *shapes: list[Any]) -> Module:
    """z = x0 + x1 + …, inputs of these shapes."""
    names = [f"x{i}" for i in range(len(shapes))]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, shapes, strict=True)]
    left = ["x0", *(f"z{i}" for i in range(1, len(shapes)))]
    nodes = [helper.make_node("Add", [a, f"x{i}"], [f"z{i}"]) for i, a in enumerate(left[:-1], start=1)]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString())
    return load_onnx(path)


def test_symbols_that_must_be_equal_become_one(tmp_path: Path) -> None:
    module = added(tmp_path / "model.onnx", ["a", 4], ["b", 4], ["c", 4])
    assert {str(v.type) for v in module.graphs["forward"].inputs} == {"f32[a, 4]"}
    with pytest.raises(BindError, match=r"input x1 must be f32\[a, 4\], not \[3, 4\]"):
        Interpreter(module)("forward", {f"x{i}": np.ones((n, 4), "f4") for i, n in enumerate((2, 3, 2))})


def test_a_symbol_that_must_be_a_number_becomes_it(tmp_path: Path) -> None:
    module = added(tmp_path / "model.onnx", ["a", "w"], ["a", 4])
    assert {str(v.type) for v in module.graphs["forward"].inputs} == {"f32[a, 4]"}


def test_names_of_dimensions_are_only_names(tmp_path: Path) -> None:
    """An expression is not read as one."""
    module = added(tmp_path / "model.onnx", ["a + 1", 4], ["__import__('os')", 4])
    assert {str(v.type) for v in module.graphs["forward"].inputs} == {"f32[a___1, 4]"}


@pytest.mark.parametrize("smaller", ["S", "Min"])
def test_a_table_of_positions_bounds_the_tokens_of_what_stands_before_and_behind(smaller: str, tmp_path: Path) -> None:
    """Rows of a slice are as many as the tokens, or there are fewer: what is learnt at a sum holds in the whole file.

    The sum's shape is the slice's; it is reshaped to the tokens', or to the smaller of both, before anything else says
    that they are the same.
    """
    node, table = helper.make_node, np.random.default_rng(0).standard_normal((8, 4), "f4")
    values = {"table": table, "zero": [0], "minus": [-1], "four": [4], "eight": [8]}
    constants = [numpy_helper.from_array(np.asarray(x), n) for n, x in values.items()]
    nodes = [
        node("Shape", ["input_ids"], ["S"], start=1, end=2),
        node("Min", ["S", "eight"], ["Min"]),
        node("Slice", ["table", "zero", "S"], ["positions"]),
        node("Gather", ["table", "input_ids"], ["x"]),
        node("Add", ["positions", "x"], ["y"]),
        node("Concat", ["minus", smaller, "four"], ["shape"], axis=0),
        node("Reshape", ["y", "shape"], ["z"]),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    made = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [ids], [made], constants)
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())
    run = Interpreter(load_onnx(path))
    for size in ((1, 1), (2, 8)):
        tokens = models.tokens(size, vocabulary=8)
        (got,) = run("forward", {"ids": tokens}).values()
        assert np.array_equal(got, table[: size[1]] + table[tokens])
    with pytest.raises(BindError, match="S <= 8"):
        run("forward", {"ids": models.tokens((1, 9), vocabulary=8)})
