"""GGUF through the plain Llama: tensors of several types in one file stay packed, rope pairs are neighbours."""

from pathlib import Path

import numpy as np
import pytest

import burnish
from burnish.frontends.config import LoadError
from burnish.frontends.gguf import load_gguf
from burnish.frontends.stored import Conventions
from burnish.frontends.templates.decoder import Decoder
from burnish.ir.format import FORMATS
from tests import models
from tests.frontends.architectures.feeding import assert_near, check_every_feeding, run
from tests.packed_files import as_gguf

SIZES = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
MIXED = {"embed_tokens": "Q8_0", "lm_head": "Q6_K", "v_proj": "Q6_K", "down_proj": "Q5_0", "o_proj": "F16"}
MIXED |= {"up_proj": "Q4_1", "gate_proj": "Q4_K", "_proj": "Q4_0", "weight": "F32"}


@pytest.mark.slow
def test_types_mixed_by_tensor_stay_packed_and_mean_what_gguf_says(tmp_path: Path) -> None:
    kinds = {end: t for end, t in MIXED.items() if t.lower() in FORMATS or t in ("F16", "F32")}
    oracle = models.llama(num_key_value_heads=2, **SIZES)
    module = load_gguf(as_gguf(tmp_path / "mixed.gguf", oracle, kinds))
    stored = {e.type.dtype for e in module.weights.values()}
    assert stored == {t.lower() for t in kinds.values()}
    ids = models.tokens((2, 11))
    expected = models.logits_of(oracle, input_ids=ids)
    assert not any(n.op.name == "quantize" for n in burnish.optimize(module).graphs["forward"])  # none is made anew
    assert_near(run(module, "forward", ids=ids)["logits"], expected)
    burnish.compile(burnish.optimize(module), tmp_path / "package")
    again = burnish.load(tmp_path / "package")
    for m, backend in ((module, "numpy"), (again, "numpy"), (again, "xla")):
        model = burnish.executable(m, backend, "float")
        assert_near(model.forward(ids)["logits"], expected, backend)
        session = model.start(2, 11)
        assert_near(model.prefill(ids[:, :10], session), expected[:, 9], backend)
        assert_near(model.decode(ids[:, 10], session), expected[:, 10], backend)


def test_every_way_to_feed_the_tokens(tmp_path: Path) -> None:
    oracle = models.llama(num_key_value_heads=2, **SIZES)
    module = load_gguf(as_gguf(tmp_path / "model.gguf", oracle, {"": "Q8_0"}))
    ids = models.tokens((3, 19))
    check_every_feeding(module, ids, models.logits_of(oracle, input_ids=ids))


def test_products_of_one_type_are_joined_packed(tmp_path: Path) -> None:
    file = as_gguf(tmp_path / "a.gguf", models.llama(**SIZES), {"v_proj": "Q8_0", "": "Q4_0"})
    module = burnish.optimize(load_gguf(file))
    types = {str(n["w"].type) for n in module.graphs["forward"] if n.op.name == "linear"}
    assert "q4_0[1024, 256]" in types  # gate and up
    assert "q8_0[128, 256]" in types  # v stays apart from q and k


def test_a_size_that_a_file_does_not_say_is_not_the_familys(tmp_path: Path) -> None:
    """Qwen 3 has heads of 128; a file that says nothing of them has the width by their number."""
    oracle = models.made("Qwen3ForCausalLM", vocab_size=96, num_key_value_heads=2, head_dim=64, **SIZES)
    ids = models.tokens((1, 7))
    expected = models.logits_of(oracle, input_ids=ids)
    oracle.config.head_dim = 0  # not written
    module = load_gguf(as_gguf(tmp_path / "a.gguf", oracle, {"": "F32"}, "qwen3"))
    assert_near(run(module, "forward", ids=ids)["logits"], expected)


@pytest.mark.parametrize("arch", ["qwen2", "qwen3"])
def test_families_whose_rows_are_as_transformers_has_them(arch: str, tmp_path: Path) -> None:
    name = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[arch]
    config = SIZES | {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 64}
    oracle = models.made(name, **config)
    module = load_gguf(as_gguf(tmp_path / "a.gguf", oracle, {"": "Q8_0"}, arch))
    ids = models.tokens((1, 9))
    assert_near(run(module, "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def test_scaled_frequencies_are_a_tensor_of_divisors(tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    oracle = models.llama(rope_parameters=rope | {"original_max_position_embeddings": 16}, **SIZES)
    inv_freq = 500.0 ** (-np.arange(0, 64, 2) / 64)
    divisors = (inv_freq / oracle.model.rotary_emb.inv_freq.numpy()).astype("f4")
    file = as_gguf(tmp_path / "a.gguf", oracle, {"": "F32"}, **{"rope_freqs.weight": divisors})
    ids = models.tokens((1, 19))
    assert_near(run(load_gguf(file), "forward", ids=ids)["logits"], models.logits_of(oracle, input_ids=ids))


def test_biases_that_the_family_has_not_are_named(tmp_path: Path) -> None:
    oracle = models.made("Qwen2ForCausalLM", **(SIZES | {"vocab_size": 96, "num_key_value_heads": 2}))
    file = as_gguf(tmp_path / "a.gguf", oracle, {"": "F32"}, "llama")
    with pytest.raises(LoadError, match=r"tensors that nothing reads: 'blk\.0\.attn_q\.bias'"):
        load_gguf(file)


def test_an_architecture_that_is_not_supported_is_named(tmp_path: Path) -> None:
    file = as_gguf(tmp_path / "a.gguf", models.llama(**SIZES), {"": "F32"}, "starcoder2")
    with pytest.raises(LoadError, match="'starcoder2' is not supported; supported are llama, qwen2"):
        load_gguf(file)


def test_a_plugin_takes_a_name_of_ggufs_once(tmp_path: Path, registries: None) -> None:
    class Other(Decoder):
        names = ("Other",)
        gguf = {"starcoder2": Conventions()}

    file = as_gguf(tmp_path / "a.gguf", models.llama(**SIZES), {"": "F32"}, "starcoder2")
    assert load_gguf(file).facts.architecture == "OtherForCausalLM"
    with pytest.raises(TypeError, match=r"GGUF architecture 'starcoder2' is defined in .*; say replace=True"):

        class Another(Decoder):
            gguf = {"starcoder2": Conventions()}
