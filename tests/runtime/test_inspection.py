"""What a module is made of."""

from pathlib import Path

import pytest

import burnish
from burnish.runtime.inspection import describe
from tests import models


@pytest.fixture(scope="module")
def families(tmp_path_factory) -> dict[str, tuple[object, Path]]:
    made = {f: getattr(models, f)() for f in ("llama", "bert", "t5")}
    return {f: (m, models.saved(m, tmp_path_factory.mktemp(f))) for f, m in made.items()}


@pytest.mark.parametrize("family", ["llama", "bert", "t5"])
def test_parameters_and_bytes_are_the_oracles(families, family) -> None:
    oracle, folder = families[family]
    facts = describe(burnish.load(folder))
    unused = ("pooler",)  # BertModel's own, which no graph reads
    sizes = [p.numel() for n, p in oracle.named_parameters() if not any(u in n for u in unused)]
    assert (facts["tensors"], facts["parameters"]) == (len(sizes), sum(sizes))
    assert facts["parameters_per_tensor"] == sum(sizes) // len(sizes)
    assert facts["bytes_by_type"] == {"f32": 4 * sum(sizes)}
    assert sum(n for types in facts["bytes_by_part"].values() for n in types.values()) == 4 * sum(sizes)


def test_the_cache_of_a_decoder(families) -> None:
    facts = {f: describe(burnish.load(folder)) for f, (_, folder) in families.items()}
    assert facts["llama"]["cache_bytes_per_token"] == 2 * 2 * 2 * 16 * 4  # blocks, k and v, heads, size, f32
    assert facts["t5"]["cache_bytes_per_token"] == 2 * 2 * 4 * 16 * 4  # the decoder's own; cross-attention's is fixed
    assert facts["bert"]["cache_bytes_per_token"] is facts["bert"]["state_bytes_per_sequence"] is None
    assert facts["llama"]["state_bytes_per_sequence"] == facts["t5"]["state_bytes_per_sequence"] == 0


def test_windows_and_recurrences_do_not_grow(tmp_path) -> None:
    gemma = models.gemma2(sliding_window=7)
    facts = describe(burnish.load(models.saved(gemma, tmp_path / "gemma")))
    c = gemma.config
    row = 2 * c.num_key_value_heads * c.head_dim * 4  # k and v of a token, f32
    windows = c.layer_types.count("sliding_attention")
    assert facts["cache_bytes_per_token"] == (c.num_hidden_layers - windows) * row
    assert facts["state_bytes_per_sequence"] == windows * 6 * row, "a token sees itself and six before"
    mamba = models.mamba()
    facts = describe(burnish.load(models.saved(mamba, tmp_path / "mamba")))
    c = mamba.config
    block = c.intermediate_size * (c.state_size + c.conv_kernel - 1) * 4
    assert (facts["cache_bytes_per_token"], facts["state_bytes_per_sequence"]) == (0, c.num_hidden_layers * block)


def test_a_tied_table_counts_once(tmp_path) -> None:
    folder = models.saved(models.llama(tie_word_embeddings=True), tmp_path)
    facts = describe(burnish.load(folder))
    assert facts["bytes_by_part"]["embedding"] == {"f32": 96 * 64 * 4}
    assert facts["bytes_by_part"]["lm"] == {"f32": 64 * 4}  # the last norm alone


def test_bytes_of_quantized_weights(families) -> None:
    module = burnish.optimize(burnish.load(families["llama"][1]), "recover,quantize-weights{recipe=lm=none;q4_0},fuse")
    facts = describe(module)
    weights = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96)
    assert facts["bytes_by_type"]["q4_0"] == weights * 18 // 32
    assert set(facts["bytes_by_part"]["block_00"]) == {"f32", "q4_0"}


def test_ops_are_counted_by_kind(families) -> None:
    ops = describe(burnish.load(families["llama"][1]))["ops"]["forward"]
    assert ops["linear"] == {"linear": 15}
    assert ops["matmul"] == {"attention": 2}
    assert "weight" not in str(ops)  # leaves are no ops of run time
