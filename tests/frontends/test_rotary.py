"""Rotary frequencies against transformers' own, which it computes in f32."""

import json

import numpy as np
import pytest
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from burnish.backends.target import make_backend
from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config, LoadError
from burnish.frontends.rotary import Rotation, rope_frequencies
from burnish.ir.module import Module

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 8192}


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
LONG = {"short_factor": [1 + i / 8 for i in range(64)], "long_factor": [2.0 + i for i in range(64)]}
SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": LLAMA3,
    "yarn": YARN,
    "yarn, not in whole pairs": YARN | {"truncate": False, "beta_fast": 16.0, "beta_slow": 2},
    "yarn, two scales": YARN | {"mscale": 0.7, "mscale_all_dim": 1.1},
    "yarn, one scale of two": YARN | {"mscale": 0.7},
    "yarn, its scale given": YARN | {"attention_factor": 0.9},
    "yarn, as long as it was": YARN | {"factor": 1.0},
    "yarn, by both lengths": YARN | {"factor": None},
    "yarn, all pairs alike": YARN | {"original_max_position_embeddings": 4},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "longrope": {"rope_type": "longrope", "original_max_position_embeddings": 2048, **LONG},
    "longrope, its factor given": {"rope_type": "longrope", "factor": 1.5, **LONG},
    "longrope, its scale given": {"rope_type": "longrope", "factor": 2.0, "attention_factor": 1.25, **LONG},
}


@pytest.mark.parametrize("theta", [10000.0, 500000.0])
@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=SCALINGS)
@pytest.mark.parametrize("tokens", [8192, 8193, 20000])
def test_scalings(scaling, theta, tokens) -> None:
    """In both spellings, for texts of every length."""
    fields = {"head_dim": 128, "max_position_embeddings": 8192}
    config = transformers.LlamaConfig(**fields, rope_parameters=scaling | {"rope_theta": theta})
    expected, scale = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, "cpu", seq_len=tokens)
    of_today, of_before = {"rope_parameters": scaling | {"rope_theta": theta}}, {"rope_scaling": scaling}
    for written in (of_today, of_before | {"rope_theta": theta}):
        ours = rope_frequencies(Config(fields | written), 128, 1.0)
        assert ours.inv_freq.dtype == np.float32 and ours.scale == pytest.approx(scale, rel=1e-12)
        np.testing.assert_allclose(of_length(ours, tokens), expected.numpy(), rtol=2e-6)


def of_length(rotation: Rotation, tokens: int) -> np.ndarray:
    """The frequencies for a text of so many tokens."""
    module = Module()
    graph = module.graph("forward")
    graph.set_outputs({"f": rotation.frequencies(Layers(graph, None))})
    given = {v.name: np.array([tokens], "i4") for v in graph.inputs}
    return make_backend("numpy", module)(graph.name, given)["f"].reshape(-1)


def test_without_scaling_and_with_the_older_spelling() -> None:
    plain = rope_frequencies(Config({}), 64).inv_freq
    np.testing.assert_array_max_ulp(plain, (10000.0 ** -(np.arange(0, 64, 2) / 64)).astype("f4"), maxulp=1)
    scaled = rope_frequencies(Config({"rope_scaling": {"type": "linear", "factor": 2}}), 64).inv_freq
    assert np.array_equal(scaled, plain / 2)


def test_an_older_name_of_longrope() -> None:
    scalings = ({"type": kind, "original_max_position_embeddings": 64, **LONG} for kind in ("su", "longrope"))
    old, new = (rope_frequencies(Config({"rope_scaling": scaling}), 128) for scaling in scalings)
    assert all(np.array_equal(a, b) for a, b in ((old.inv_freq, new.inv_freq), (old.beyond, new.beyond)))
    assert (old.limit, old.scale) == (new.limit, new.scale) == (64, pytest.approx((1 + np.log(32) / np.log(64)) ** 0.5))


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "mrope"}, "rope_type 'mrope' is not supported; supported are default, linear, dynamic, yarn"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5, but here heads are rotated as a whole"),
        ({"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0]}, "short_factor must be a list of 32 numbers"),
        ({"rope_type": "longrope", "short_factor": [1] * 32, "long_factor": [0] * 32}, r"long_factor\[0\] must be"),
        ({"rope_type": "longrope", "original_max_position_embeddings": 1}, "must be an integer from 2"),
        ({"rope_type": "yarn", "rope_theta": 1.0}, "a base of 1"),
        ({"rope_type": "dynamic", "factor": 0.5}, "factor must be a number from 1"),
        ({"rope_type": "linear"}, "factor is missing"),
        ({"rope_type": "linear", "factor": 0}, "factor must be a number from 1e-06"),
        (LLAMA3 | {"low_freq_factor": 0.0}, "low_freq_factor must be a number"),
        (LLAMA3 | {"high_freq_factor": 1.0}, "low_freq_factor 1 must be less than high_freq_factor 1"),
        (LLAMA3 | {"rope_theta": float("nan")}, "rope_theta must be a number"),
    ],
)
def test_what_is_refused(scaling, message) -> None:
    with pytest.raises(LoadError, match=message):
        rope_frequencies(Config({"rope_parameters": scaling}), 64)


def test_a_head_of_one_pair_does_not_grow() -> None:
    with pytest.raises(LoadError, match="dynamic frequencies of 2 channels of a head are not defined"):
        rope_frequencies(Config({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}), 2)


def test_sections_that_nobody_reads_are_named() -> None:
    """A family whose layers are all alike does not take them, nor does it take those of another kind."""
    config = Config({"rope_parameters": {"full_attention": {"rope_theta": 5e3}, "factor": 2.0}})
    rope_frequencies(config, 64)
    unread = config.unread()
    assert unread == ["rope_parameters.full_attention={'rope_theta': 5000.0}", "rope_parameters.factor=2.0"]


L3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
BASE = {"rope_type": "default", "rope_theta": 5e5}


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_parameters": BASE},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_parameters": BASE, "rope_theta": 7e4},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0, "rope_theta": 9e4}, "rope_theta": 7e4},
        {"rope_scaling": {}, "rope_parameters": BASE | {"rope_type": "linear", "factor": 2.0}},
        {"rope_scaling": None, "rope_parameters": BASE},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 3e4},
        {"rope_parameters": BASE, "rope_theta": 3e4},
        {"rope_parameters": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2.0}},
        {"rope_parameters": L3, "max_position_embeddings": 99},
        {"rope_parameters": L3 | {"original_max_position_embeddings": 55}, "max_position_embeddings": 99},
        {"rope_scaling": L3, "rope_parameters": BASE, "max_position_embeddings": 99},
    ],
)
def test_which_field_counts_is_as_in_transformers(fields, tmp_path) -> None:
    """Both spellings in one file, the base beside the section and inside of it, what a section leaves out."""
    (tmp_path / "config.json").write_text(json.dumps(fields | {"head_dim": 64}))
    oracle = LlamaRotaryEmbedding(transformers.LlamaConfig.from_pretrained(tmp_path))
    np.testing.assert_array_max_ulp(rope_frequencies(Config(fields), 64).inv_freq, oracle.inv_freq.numpy(), maxulp=4)


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}, "global_rope_theta": 5e3},
        {"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 7e3}}},
        {"global_rope_theta": 5e3, "local_rope_theta": 6e3},
    ],
)
def test_which_field_counts_where_each_type_of_layer_has_its_own(fields, tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(fields))
    found = transformers.ModernBertConfig.from_pretrained(tmp_path).rope_parameters
    bases = {"full_attention": ("global_rope_theta", 160000.0), "sliding_attention": ("local_rope_theta", 10000.0)}
    for of, theta in bases.items():
        scaled = found[of].get("factor", 1.0)
        expected = (found[of]["rope_theta"] ** -(np.arange(0, 64, 2) / 64) / scaled).astype("f4")
        ours = rope_frequencies(Config(fields), 64, of=of, theta=theta)
        np.testing.assert_array_max_ulp(ours.inv_freq, expected, maxulp=1)
