"""The dimensions of a model, found out from its graph, are those of the config that the oracle was made by."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import burnish
from burnish.ir.module import Module
from burnish.ir.signature import EMBEDDING, LOGITS
from burnish.ir.types import Type
from burnish.runtime.dimensions import dimensions, frequencies
from tests import models


def of(source: Path, graph: str = "forward") -> dict[str, Any]:
    return dimensions(burnish.optimize(burnish.load(source)).graphs[graph])


def heads(form: dict[str, Any]) -> tuple[int, int, int]:
    return form["heads"], form["key_heads"], form["head_size"]


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral"])
def test_a_decoder(family: str, tmp_path: Path) -> None:
    oracle = getattr(models, family)()
    c, found = oracle.config, of(models.saved(oracle, tmp_path))
    assert list(found["layers"].items()) == [("model.layers", c.num_hidden_layers)]
    assert (found["width"], found["feed_forward"]) == (c.hidden_size, [c.intermediate_size])
    assert found["vocabulary"] == found["scores"] == c.vocab_size
    sizes = (c.num_attention_heads, c.num_key_value_heads, c.head_dim or c.hidden_size // c.num_attention_heads)
    assert {heads(form) for form in found["attention"]} == {sizes}
    assert found["rope"] == [{"rotated": sizes[2], "theta": c.rope_parameters["rope_theta"]}]
    kinds = getattr(c, "layer_types", None) or ["full_attention"] * c.num_hidden_layers
    windows = {form["window"]: form["nodes"] for form in found["attention"]}
    if family == "gemma2":
        assert windows == {7: kinds.count("sliding_attention"), 0: kinds.count("full_attention")}


@pytest.mark.parametrize("family", ["llama", pytest.param("bert", marks=pytest.mark.slow)])
def test_a_file_without_a_config_says_the_same(exports, family: str) -> None:
    made = exports(family)
    checkpoint, onnx = of(made.checkpoint), of(made.onnx)
    checkpoint["layers"], onnx["layers"] = ([*found["layers"].values()] for found in (checkpoint, onnx))
    assert onnx == checkpoint


def test_a_package_and_graph_text_say_the_same(tmp_path: Path) -> None:
    module = burnish.load(models.saved(models.llama(), tmp_path / "model"))
    burnish.compile(burnish.optimize(module), tmp_path / "package")
    (tmp_path / "m.graph").write_text(str(module))
    expected = of(tmp_path / "model")
    assert of(tmp_path / "package") == expected
    without_data = of(tmp_path / "m.graph")
    assert without_data.pop("rope") in ([{"rotated": 16}], expected["rope"])  # constants of a text are a digest
    assert without_data == {k: v for k, v in expected.items() if k != "rope"}


def test_an_encoder(tmp_path: Path) -> None:
    oracle = models.made("BertForSequenceClassification", vocab_size=96, num_labels=3, **models.SIZES)
    found = of(models.saved(oracle, tmp_path))
    assert [*found["layers"].values()] == [2]
    assert (found["width"], found["feed_forward"], found["vocabulary"], found["scores"]) == (64, [96], 96, 3)
    assert found["learned_positions"] == 512
    (form,) = found["attention"]
    assert (heads(form), form["causal"]) == ((4, 4, 16), False)
    assert "rope" not in found


def test_an_encoder_and_a_decoder(tmp_path: Path) -> None:
    folder = models.saved(models.t5(), tmp_path)
    encoder, decoder = of(folder, "encoder"), of(folder, "decoder")
    for found in (encoder, decoder):
        assert [*found["layers"].values()] == [2]
        assert (found["width"], found["feed_forward"], found["relative_bias"]) == (64, [96], [{"buckets": 32}])
    assert [(f["nodes"], f["causal"]) for f in decoder["attention"]] == [(2, True), (2, False)]
    assert "scores" not in encoder


def test_experts(tmp_path: Path) -> None:
    sizes = {**models.SIZES, "num_local_experts": 4, "num_experts_per_tok": 3, "num_key_value_heads": 2}
    found = of(models.saved(models.made("MixtralForCausalLM", vocab_size=96, **sizes), tmp_path))
    assert found["experts"] == [{"experts": 4, "chosen": 3}]
    assert found["feed_forward"] == [96]  # an expert's


def test_what_a_graph_does_not_show_is_left_out(tmp_path: Path) -> None:
    found = of(models.saved(models.mamba(), tmp_path))
    assert found == {"layers": {"backbone.layers": 2}, "width": 48, "vocabulary": 96, "scores": 96}


ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({"rope_type": "default"}, {}),
        ({"rope_type": "linear", "factor": 4.0}, {"divided_by": [4.0, 4.0]}),
        (ROPE | {"original_max_position_embeddings": 8192}, {"divided_by": [1.0, 8.0]}),
    ],
)
def test_theta_and_scaling_are_read_off_the_frequencies(scaling: Any, expected: Any, tmp_path: Path) -> None:
    oracle = models.llama(rope_parameters={"rope_theta": 500000.0, **scaling}, hidden_size=256)
    found = of(models.saved(oracle, tmp_path))
    assert found["rope"] == [{"rotated": 64, "theta": 500000.0} | expected]


def test_frequencies_of_another_form_have_no_theta() -> None:
    assert frequencies(10000.0 ** (-np.arange(32, dtype=np.float32) / 32)) == {"theta": 10000.0}
    for other in ([1.0], [1.0, 1.0], [1.0, 0.5, 0.4], [0.5, 1.0], [1.0, -0.1], [1.0, np.nan], [[1.0, 0.1]]):
        assert frequencies(np.array(other, np.float32)) == {}


@pytest.mark.parametrize(("role", "name"), [(LOGITS, "scores"), (EMBEDDING, "embedding")])
def test_a_result_of_one_number_has_no_width(role: Any, name: str) -> None:
    for shape, expected in (((), {}), ((2, 5), {name: 5})):
        graph = Module().graph("forward")
        graph.set_outputs({"y": graph.input("x", Type("f32", shape))}, {"y": role})
        assert dimensions(graph) == expected
