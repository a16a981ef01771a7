"""Files that take what came before and give it back longer: a step of theirs, and sessions, against transformers."""

import itertools
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import burnish
from burnish.backends.interpreter import Interpreter
from burnish.frontends.config import LoadError
from burnish.frontends.onnx_file import load_onnx
from burnish.ir import verify
from burnish.ir.signature import MASK, POSITIONS, TOKENS, Earlier
from burnish.passes.pipelines import run_passes
from tests import models

GPT2 = {"vocab_size": 96, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4, "bos_token_id": 1}
OPT = {"vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 96}
OPT |= {"max_position_embeddings": 64, "word_embed_proj_dim": 64, "pad_token_id": 1}
FAMILIES: dict[str, tuple[Any, int]] = {  # how a model is made, and its key heads; all have 2 layers and heads of 16
    "llama": (models.llama, 2),
    "mistral, a window of 7": (models.mistral, 2),
    "opt, which counts its mask": (lambda: models.made("OPTForCausalLM", **OPT), 4),
    "gpt2": (lambda: models.made("GPT2LMHeadModel", **GPT2, eos_token_id=2), 4),
}


class WithPast(torch.nn.Module):
    """What optimum exports: ids, a mask of all tokens so far, perhaps positions, keys and values of each layer."""

    def __init__(self, model: Any, positions: bool) -> None:
        super().__init__()
        self.model, self.positions = model, positions

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = {"position_ids": rest[0]} if self.positions else {}
        keys = rest[len(given) :]
        cache = transformers.DynamicCache()
        for i in range(len(keys) // 2):
            cache.update(keys[2 * i], keys[2 * i + 1], i)
        made = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **given)
        return made.logits, *(x for layer in made.past_key_values.layers for x in (layer.keys, layer.values))


def exported(model: Any, path: Path, heads: int, positions: bool) -> Path:
    kept = [f"{i}.{what}" for i in range(2) for what in ("key", "value")]
    names = ["input_ids", "attention_mask", *(["position_ids"] if positions else [])]
    names += [f"past_key_values.{k}" for k in kept]
    axes = {n: {0: "batch", 1: "sequence"} for n in ("input_ids", "position_ids")}
    axes |= {"attention_mask": {0: "batch", 1: "total"}} | {n: {0: "batch", 2: "past"} for n in names[-4:]}
    example = [torch.ones((2, 3), dtype=torch.long), torch.ones((2, 7), dtype=torch.long)]
    example += [torch.arange(4, 7).expand(2, 3)] if positions else []
    example += [torch.randn(2, heads, 4, 16) for _ in kept]
    with warnings.catch_warnings(), redirect_stdout(None), redirect_stderr(None):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            WithPast(model, positions).eval(),
            tuple(example),
            path,
            input_names=names,
            output_names=["logits", *(f"present.{k}" for k in kept)],
            dynamic_axes={n: axes[n] for n in names},
            opset_version=17,
            dynamo=False,
        )
    return path


def far(got: Any, wanted: np.ndarray) -> float:
    return float(np.abs(np.asarray(got) - wanted).max() / np.abs(wanted).max())


SOON = {("llama", True)}


@pytest.mark.parametrize(
    ("family", "positions"),
    [pytest.param(*c, marks=() if c in SOON else pytest.mark.slow) for c in itertools.product(FAMILIES, (True, False))],
)
def test_prefill_and_decode_are_the_models(family: str, positions: bool, tmp_path: Path) -> None:
    make, heads = FAMILIES[family]
    model = make()
    module = burnish.load(exported(model, tmp_path / "model.onnx", heads, positions))
    verify(module)
    roles = [v.role for v in module.graphs["forward"].inputs]
    assert roles == [TOKENS, MASK, *([POSITIONS] if positions else []), *[Earlier(batch=0, axis=2)] * 4]
    assert module.facts.task == "text-generation"
    ids = models.tokens((2, 12))
    wanted = models.logits_of(model, input_ids=ids)
    run = burnish.executable(module)
    assert far(run.forward(ids)["logits"], wanted) <= models.WITHIN
    session = run.start(2, 12)
    assert far(run.prefill(ids[:, :5], session), wanted[:, 4]) <= models.WITHIN
    for t in range(5, 12):
        assert far(run.decode(ids[:, t], session), wanted[:, t]) <= models.WITHIN, t


@pytest.mark.parametrize("optimise", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_step_with_a_padded_past_is_the_models(optimise: bool, tmp_path: Path) -> None:
    """As those who keep the past themselves run it: padded on the left, whatever came before is an input."""
    model = models.llama()
    module = burnish.load(exported(model, tmp_path / "model.onnx", 2, positions=True))
    if optimise:
        module = burnish.optimize(module)
    generator = np.random.default_rng(1)
    ids, mask = models.tokens((2, 3)), np.ones((2, 7), np.int32)
    mask[0, :2] = 0
    at = np.array([[2, 3, 4], [4, 5, 6]], np.int32)
    past = [generator.standard_normal((2, 2, 4, 16), "f4") for _ in range(4)]
    names = [v.name for v in module.graphs["forward"].inputs]
    got = list(Interpreter(module)("forward", dict(zip(names, (ids, mask, at, *past), strict=True))).values())
    with torch.no_grad():
        given = [torch.tensor(x).long() for x in (ids, mask, at)] + [torch.tensor(x) for x in past]
        wanted = WithPast(model, True)(*given)
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        assert far(g, w.numpy()) <= models.WITHIN


# ---------------------------------------------------------------------------------------------- names, and no names


def small(past: str = "past_key_values.0.{}", present: str = "present.0.{}", stacked: bool = False) -> onnx.ModelProto:
    """One layer of attention over what came before and the tokens, no mask within the step: 4 heads of 4, 20 words."""
    rng, node = np.random.default_rng(1), helper.make_node
    constants = {name: rng.standard_normal(shape).astype("f4") * 0.3 for name, shape in WEIGHTS.items()}
    constants |= {"heads": np.array([0, 0, 4, 4]), "wide": np.array([0, 0, 16]), "one": np.array(1, "f4")}
    constants |= {"axes": np.array([1, 2]), "low": np.array(-1e9, "f4"), "first": np.array([0])}
    k, v, k2, v2 = past.format("key"), past.format("value"), present.format("key"), present.format("value")
    nodes = [node("Gather", ["table", "input_ids"], ["x"], axis=0)]
    for n in "qkv":
        nodes.append(node("MatMul", ["x", f"w{n}"], [f"{n}0"]))
        nodes.append(node("Reshape", [f"{n}0", "heads"], [f"{n}1"]))
        nodes.append(node("Transpose", [f"{n}1"], [f"{n}2"], perm=[0, 2, 1, 3]))
    if stacked:
        constants |= {"zero": np.array(0), "second": np.array(1)}
        nodes += [node("Gather", ["past_0", "zero"], [k], axis=0), node("Gather", ["past_0", "second"], [v], axis=0)]
    nodes += [node("Concat", [k, "k2"], [k2], axis=2), node("Concat", [v, "v2"], [v2], axis=2)]
    if stacked:
        nodes += [node("Unsqueeze", [x, "first"], [f"{x}.u"]) for x in (k2, v2)]
        nodes.append(node("Concat", [f"{k2}.u", f"{v2}.u"], ["present_0"], axis=0))
    nodes += [
        node("Transpose", [k2], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q2", "kt"], ["scores"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Sub", ["one", "mask"], ["hidden"]),
        node("Mul", ["hidden", "low"], ["bias0"]),
        node("Unsqueeze", ["bias0", "axes"], ["bias"]),
        node("Add", ["scores", "bias"], ["biased"]),
        node("Softmax", ["biased"], ["p"], axis=-1),
        node("MatMul", ["p", v2], ["o"]),
        node("Transpose", ["o"], ["o1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["o1", "wide"], ["o2"]),
        node("MatMul", ["o2", "wo"], ["logits"]),
    ]
    info, lead = helper.make_tensor_value_info, [2] if stacked else []
    kept = [("past_0", "present_0")] if stacked else [(k, k2), (v, v2)]
    inputs = [info("input_ids", TensorProto.INT64, ["b", "s"]), info("attention_mask", TensorProto.INT64, ["b", "t"])]
    inputs += [info(name, TensorProto.FLOAT, [*lead, "b", 4, "p", 4]) for name, _ in kept]
    outputs = [info("logits", TensorProto.FLOAT, ["b", "s", 20])]
    outputs += [info(name, TensorProto.FLOAT, [*lead, "b", 4, "t", 4]) for _, name in kept]
    initializers = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


WEIGHTS = {"table": (20, 16), "wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "wo": (16, 20)}


@pytest.mark.parametrize(
    ("past", "present", "stacked"),
    [
        ("past_key_values.0.{}", "present.0.{}", False),
        ("past_key_self_0.{}", "present_key_self_0.{}", False),
        ("past_{}_0", "present_{}_0", False),
        ("cache_{}_in", "cache_{}_out", False),
        ("", "", True),
    ],
)
def test_what_came_before_is_known_by_name_or_by_what_is_done_with_it(
    past: str, present: str, stacked: bool, tmp_path: Path
) -> None:
    model = small(past or "k{}", present or "p{}", stacked)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    module = load_onnx(path)
    verify(module)
    roles = [v.role for v in module.graphs["forward"].inputs]
    assert roles[:2] == [TOKENS, MASK]
    assert roles[2:] == ([Earlier(batch=1, axis=3)] if stacked else [Earlier(batch=0, axis=2)] * 2)
    assert list(module.graphs["forward"].outputs) == [o.name for o in model.graph.output]
    shape = (2, 2, 4, 3, 4) if stacked else (2, 4, 3, 4)
    given = {"input_ids": np.array([[3], [5]]), "attention_mask": np.array([[1, 1, 1, 1], [0, 1, 1, 1]])}
    given |= {i.name: np.random.default_rng(2).standard_normal(shape, "f4") for i in model.graph.input[2:]}
    wanted = ReferenceEvaluator(model).run(None, given)
    ours = {{"input_ids": "ids"}.get(k, k): x.astype("i4") if x.dtype == np.int64 else x for k, x in given.items()}
    for ready in (module, run_passes(module.copy(), "default").module):
        for g, w in zip(Interpreter(ready)("forward", ours).values(), wanted, strict=True):
            assert far(g, w) <= models.WITHIN


def test_two_graphs_in_one_are_refused(tmp_path: Path) -> None:
    model = small()
    model.graph.input.append(helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1]))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(LoadError, match=r"use_cache_branch picks one: .*decoder_model\.onnx"):
        load_onnx(tmp_path / "model.onnx")


def test_an_input_that_does_not_grow_is_no_past(tmp_path: Path) -> None:
    """What is called so, and is not given back longer by the tokens, stays an input like any other."""
    model = small()
    for output in list(model.graph.output)[1:]:
        model.graph.output.remove(output)
    onnx.save(model, tmp_path / "model.onnx")
    module = load_onnx(tmp_path / "model.onnx")
    assert [v.role for v in module.graphs["forward"].inputs][2:] == [None, None]
    assert module.facts.task == ""
