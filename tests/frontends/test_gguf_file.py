"""The GGUF container and its names: files that gguf-py writes, against what gguf-py and transformers read in them."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

from burnish.frontends import gguf_file
from burnish.frontends.config import LoadError
from burnish.frontends.gguf_file import GgufFile, read_gguf
from burnish.frontends.gguf_names import architecture_of, config_of, gguf_names
from burnish.ir.format import FORMATS
from burnish.ir.types import NUMPY, Type
from burnish.ir.weights import StoredWeights

LLAMA = {
    "block_count": 2,
    "context_length": 128,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.freq_base": 100000.0,
    "rope.dimension_count": 16,
    "vocab_size": 32,
}
EMBEDDING = {"token_embd.weight": np.zeros((32, 64), np.float32)}


def written(path, keys=LLAMA, tensors=EMBEDDING, arch="llama", alignment=None, **others) -> GgufFile:
    """What is read of a file of the architecture's keys, the `others`, and tensors as arrays or (bytes, type)."""
    writer = GGUFWriter(path, arch)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for key, value in {**{f"{arch}.{k}": v for k, v in keys.items()}, **others}.items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case _:
                writer.add_array(key, value)
    for name, tensor in tensors.items():
        array, kind = tensor if isinstance(tensor, tuple) else (tensor, None)
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_gguf(path)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.gguf"


# ----------------------------------------------------------------------------------------------------------- container


def test_metadata_of_every_type(path) -> None:
    writer = GGUFWriter(path, "llama")
    for kind, value in [("uint8", 255), ("int8", -1), ("uint16", 65535), ("int16", -2), ("uint32", 1 << 31)]:
        getattr(writer, f"add_{kind}")(kind, value)
    for kind, value in [("int32", -3), ("uint64", 1 << 63), ("int64", -4), ("float32", 0.1), ("float64", 0.1)]:
        getattr(writer, f"add_{kind}")(kind, value)
    writer.add_bool("yes", True)
    writer.add_bool("no", False)
    writer.add_string("text", "größer\n")
    for name, values in {
        "numbers": [1, -2, 3],
        "reals": [0.5, 1.5],
        "flags": [True, False],
        "texts": ["a", "", "é"],
    }.items():
        writer.add_array(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_gguf(path).metadata
    assert found["float64"] == 0.1 and found["float32"] == np.float32(0.1)
    assert found["yes"] is True and found["no"] is False
    assert found["texts"] == ("a", "", "é") and found["flags"].dtype == bool
    theirs = {k: f.contents() for k, f in GGUFReader(path).fields.items() if not k.startswith("GGUF.")}
    assert {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()} == {
        k: tuple(v) if v and isinstance(v, list) and isinstance(v[0], str) else v for k, v in theirs.items()
    }


def mixed(rng) -> dict[str, object]:
    w = rng.standard_normal((6, 64)).astype(np.float32)
    kinds = [GGMLQuantizationType[n] for n in ("Q4_0", "Q8_0", "BF16")]
    quantized = {f"blk.0.{k.name}.weight": (gguf.quantize(w, k), k) for k in kinds}
    plain = {"f16": w.astype(np.float16), "f32": w, "stack": rng.standard_normal((2, 3, 5)).astype(np.float32)}
    ints = {n: np.arange(-3, 4).astype(n) for n in ("int8", "int16", "int32", "int64")}
    return {"odd": np.ones(3, np.float32), **quantized, **plain, **ints}


@pytest.mark.parametrize("alignment", [None, 8, 64, 4096])
def test_tensors_of_mixed_types(path, rng, alignment) -> None:
    file = written(path, tensors=mixed(rng), alignment=alignment)
    source = StoredWeights(file.tensors)
    theirs = {t.name: t for t in GGUFReader(path).tensors}
    assert set(theirs) == set(file.tensors)
    for name, t in theirs.items():
        own = file.tensors[name]
        assert (own.offset, own.type.nbytes) == (t.data_offset, t.n_bytes)
        assert own.type.shape == tuple(int(d) for d in reversed(t.shape))
        assert own.type.dtype == t.tensor_type.name.lower()
        read = source.read(name)
        if own.type.format is not None:
            np.testing.assert_array_equal(read.planes["bytes"], t.data)
            np.testing.assert_array_equal(read.dequantize(np), gguf.dequantize(t.data, t.tensor_type))
        else:
            assert read.tobytes() == t.data.tobytes()


def test_nothing_but_the_header_is_read(path, rng, monkeypatch) -> None:
    taken: list[int] = []
    take = gguf_file._Reader.take
    monkeypatch.setattr(gguf_file._Reader, "take", lambda self, n, what: taken.append(n) or take(self, n, what))
    start = min(t.offset for t in written(path, tensors=mixed(rng)).tensors.values())
    assert start - 32 < sum(taken) <= start


def test_sizes_of_blocks_are_those_of_gguf_py() -> None:
    theirs = {k.value: (k.name.lower(), *gguf.GGML_QUANT_SIZES[k]) for k in GGMLQuantizationType}
    del theirs[GGMLQuantizationType.Q8_1], theirs[GGMLQuantizationType.Q8_K]  # of activations
    assert theirs == gguf_file._TYPES


@pytest.mark.parametrize("number", [n for n, (name, *_) in gguf_file._TYPES.items() if name in FORMATS])
def test_every_format_that_is_defined_reads(path, number) -> None:
    name, weights, size = gguf_file._TYPES[number]
    blocks = np.arange(6 * size, dtype=np.uint8).reshape(3, 2 * size)
    file = written(path, tensors={"w": (blocks, GGMLQuantizationType(number))})
    assert file.tensors["w"].type == Type(name, (3, 2 * weights))


UNKNOWN = [n for n, (name, *_) in gguf_file._TYPES.items() if name not in FORMATS and name not in NUMPY]


@pytest.mark.parametrize("number", UNKNOWN)
def test_a_format_that_is_not_defined_is_refused_by_name(path, number) -> None:
    name, _, size = gguf_file._TYPES[number]
    blocks = {"blk.3.ffn_up.weight": (np.zeros((1, size), np.uint8), GGMLQuantizationType(number))}
    with pytest.raises(LoadError, match=rf"tensor 'blk.3.ffn_up.weight' is of type {name}, which is not supp.* q4_0, "):
        written(path, tensors=blocks)


def test_a_format_of_that_name_with_other_blocks_is_refused(path, monkeypatch) -> None:
    monkeypatch.setitem(gguf_file._TYPES, 2, ("q4_0", 32, 20))
    blocks = (np.zeros((1, 18), np.uint8), GGMLQuantizationType.Q4_0)
    with pytest.raises(LoadError, match="'w' is of type q4_0, in blocks of 32 weights in 20 bytes, but the format"):
        written(path, tensors={"w": blocks})


def test_one_of_several_parts_is_refused(path) -> None:
    with pytest.raises(LoadError, match="is one of 3 parts; join them first: llama-gguf-split --merge"):
        written(path, **{"split.count": 3})
    assert written(path, **{"split.count": 1}).metadata["split.count"] == 1


def test_a_big_endian_file_is_refused(path) -> None:
    writer = GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(LoadError, match="is a big-endian GGUF file"):
        read_gguf(path)


# -------------------------------------------------------------------------------------------------------------- config


def test_config(path) -> None:
    assert config_of(written(path)) == {
        "num_hidden_layers": 2,
        "max_position_embeddings": 128,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,  # and not 9.999999747378752e-06, as f32 has it
        "vocab_size": 32,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    }


def test_config_is_the_one_that_transformers_reads(path) -> None:
    transformers = pytest.importorskip("transformers")
    own = config_of(written(path, LLAMA | {"attention.layer_norm_rms_epsilon": 0.25}))
    theirs = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    rope = own.pop("rope_parameters")
    assert own == {key: getattr(theirs, key) for key in own}
    assert rope == {key: theirs.rope_parameters[key] for key in rope}


def test_only_an_f32_is_shortened(path) -> None:
    writer = GGUFWriter(path, "llama")
    writer.add_float64("llama.attention.layer_norm_rms_epsilon", 0.123456789012)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert config_of(read_gguf(path))["rms_norm_eps"] == 0.123456789012


KEYS = [
    ({"attention.key_length": 32, "attention.value_length": 32}, {"head_dim": 32}),
    ({"attention.value_length": 16}, {}),
    ({"attention.head_count_kv": [2, 2]}, {"num_key_value_heads": 2}),
    ({"feed_forward_length": [96, 96]}, {"intermediate_size": 96}),
    ({"attention.sliding_window": 8}, {"sliding_window": 8}),
    ({"attn_logit_softcapping": 50.0}, {"attn_logit_softcapping": 50.0}),
    ({"attention.layer_norm_epsilon": 1e-6}, {"layer_norm_eps": 1e-6}),
    ({"use_parallel_residual": False}, {"use_parallel_residual": False}),
    ({"expert_count": 0, "attention.causal": True, "tensor_data_layout": "Meta AI original pth"}, {}),
]


@pytest.mark.parametrize(("keys", "fields"), KEYS, ids=" ".join)
def test_further_keys(path, keys, fields) -> None:
    plain = config_of(written(path))
    found = config_of(written(path, LLAMA | keys))
    del plain["rope_parameters"], found["rope_parameters"]
    assert found == plain | fields


ROPES = [
    ({}, {"rope_type": "default"}),
    ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, {"rope_type": "default"}),
    ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    ({"rope.scaling.factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    ({"rope.scaling.finetuned": True}, {"rope_type": "default"}),
    ({"rope.dimension_count": 4}, {"rope_type": "default", "partial_rotary_factor": 0.25}),
]


@pytest.mark.parametrize(("keys", "fields"), ROPES, ids=" ".join)
def test_rope(path, keys, fields) -> None:
    assert config_of(written(path, LLAMA | keys))["rope_parameters"] == {"rope_theta": 100000.0, **fields}


def test_rope_where_the_base_is_missing_is_of_ten_thousand(path) -> None:
    keys = {k: v for k, v in LLAMA.items() if k != "rope.freq_base"}
    assert config_of(written(path, keys))["rope_parameters"]["rope_theta"] == 10000.0


def test_an_architecture_without_rope_gets_no_section(path) -> None:
    keys = {k: v for k, v in LLAMA.items() if not k.startswith("rope.")}
    assert "rope_parameters" not in config_of(written(path, keys, arch="gpt2"))


@pytest.mark.parametrize("rotated", range(1, 22))
def test_the_rotated_part_survives_the_factor(path, rotated) -> None:
    """15 / 22 * 22 is less than 15."""
    keys = LLAMA | {"attention.key_length": 22, "rope.dimension_count": rotated}
    assert int(22 * config_of(written(path, keys))["rope_parameters"]["partial_rotary_factor"]) == rotated


def test_what_tensors_say(path) -> None:
    biases = {f"blk.0.{n}.bias": np.zeros(64, np.float32) for n in ("attn_output", "ffn_down")}
    head = {"output.weight": np.zeros((40, 64), np.float32)}
    keys = {k: v for k, v in LLAMA.items() if k != "vocab_size"}
    rows = {"token_embd.weight": np.zeros((40, 64), np.float32)}
    found = config_of(written(path, keys, rows | biases | head))
    assert found["vocab_size"] == 40 and not found["tie_word_embeddings"]
    assert found["attention_bias"] and found["mlp_bias"]
    assert "vocab_size" not in config_of(written(path, keys, {"token_embd.weight": np.zeros(40, np.float32)}))


def test_ends_of_text(path) -> None:
    ids = {f"tokenizer.ggml.{k}_token_id": i for k, i in [("bos", 1), ("eos", 7), ("eot", 9), ("eom", 7)]}
    assert config_of(written(path, **ids))["eos_token_id"] == [7, 9]
    with pytest.raises(LoadError, match="eos_token_id must be an integer"):
        config_of(written(path, **{"tokenizer.ggml.eos_token_id": "</s>"}))


REFUSED = [
    ({"expert_count": 8}, "metadata that are not supported: llama.expert_count = 8"),
    ({"attention.scale": 0.5, "no.such.key": 3}, "llama.attention.scale = 0.5, llama.no.such.key = 3"),
    ({"attention.causal": False}, "llama.attention.causal = False"),
    ({"attention.clamp_kqv": [1.0, 2.0]}, r"llama.attention.clamp_kqv = \[1.0, 2.0\]"),
    ({"attention.value_length": 8}, "keys of 16 and values of 8 channels are not supported"),
    ({"attention.head_count_kv": [2, 1]}, r"attention.head_count_kv must be one number for all layers, not \[2, 1\]"),
    ({"feed_forward_length": "wide"}, "feed_forward_length must be one number for all layers, not 'wide'"),
    ({"rope.scaling.type": "yarn"}, "rope.scaling.type 'yarn' is not supported; supported are none, linear"),
    ({"rope.scaling.type": "longrope"}, "rope.scaling.type 'longrope' is not supported"),
    ({"rope.scaling.type": "linear"}, "rope.scaling.factor is missing"),
    ({"rope.scaling.factor": 0.0}, "rope.scaling.factor must be a number from 1e-06"),
    ({"rope.scaling.attn_factor": 1.5}, "llama.rope.scaling.attn_factor = 1.5"),
    ({"rope.freq_base": float("nan")}, "rope.freq_base must be a number"),
    ({"rope.dimension_count": 17}, "rope.dimension_count must be an integer from 1 to 16"),
    ({"attention.head_count": 0}, "attention.head_count must be an integer from 1"),
    ({"attention.head_count": 5}, "embedding_length 64 is not a multiple of attention.head_count 5"),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED, ids=lambda x: " ".join(x) if isinstance(x, dict) else "")
def test_keys_that_mean_something_else_are_refused(path, keys, message) -> None:
    with pytest.raises(LoadError, match=message) as e:
        config_of(written(path, LLAMA | keys))
    assert str(path) in str(e.value)


def test_files_that_hold_no_model(path) -> None:
    assert architecture_of(written(path)) == "llama"
    with pytest.raises(LoadError, match=r"holds no model, but general.type 'adapter'"):
        architecture_of(written(path, **{"general.type": "adapter"}))
    with pytest.raises(LoadError, match=r"general.architecture must name the architecture, not None"):
        architecture_of(written(path, arch=""))  # gguf-py writes no key then


# --------------------------------------------------------------------------------------------------------------- names

OF = {
    "LLAMA": "embed_tokens norm input_layernorm post_attention_layernorm q_proj k_proj v_proj o_proj gate_proj up_proj "
    "down_proj",
    "QWEN3": "q_norm k_norm",
    "GEMMA2": "post_attention_layernorm pre_feedforward_layernorm post_feedforward_layernorm input_layernorm",
    "OLMO2": "post_attention_layernorm post_feedforward_layernorm q_norm k_norm",
    "PHI3": "qkv_proj gate_up_proj down_proj o_proj",
}


@pytest.mark.parametrize("arch", OF)
def test_names_are_those_of_gguf_py(arch) -> None:
    """gguf-py's map from transformers' names; the architecture decides which of two names there is."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch], 12)
    stored = {gguf.TENSOR_NAMES[t].format(bid=11) for t in gguf.MODEL_TENSORS[gguf.MODEL_ARCH[arch]]}
    for module in OF[arch].split():
        parent = "mlp." if module in ("gate_proj", "up_proj", "down_proj", "gate_up_proj") else "self_attn."
        parent = "" if module.endswith("layernorm") else parent
        path = f"model.{module}" if module in ("embed_tokens", "norm") else f"model.layers.11.{parent}{module}"
        for kind in ("weight", "bias"):
            found = [n for n in gguf_names(f"{path}.{kind}") if n.removesuffix(f".{kind}") in stored]
            assert found[0] == names.get_name(f"{path}.{kind}", (".weight", ".bias")), path


def test_names_that_gguf_does_not_have() -> None:
    assert gguf_names("lm_head.weight") == ("output.weight",)
    for name in (
        "model.layers.0.mlp.up_proj_2.weight",
        "model.layers.x.mlp.up_proj.weight",
        "norm.weight",
        "",
        "lm_head",
    ):
        assert gguf_names(name) == ()
