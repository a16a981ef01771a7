"""What a module is made of."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings

import burnish
from burnish.backends.native.cpu import instruction_set
from burnish.frontends.config import LoadError
from burnish.ir import parse
from burnish.passes.engine import PassError
from burnish.runtime.inspection import describe, products_of
from tests import models
from tests.ir.graphs import modules


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
    assert ops["linear"] == {"linear": 9}  # as they run: q, k, v joined, gate and up too
    assert ops["matmul"] == {"attention": 2}
    assert "weight" not in str(ops)  # leaves are no ops of run time


def test_parameters_of_a_tied_head_in_another_format_count_once(tmp_path) -> None:
    module = burnish.load(models.saved(models.llama(tie_word_embeddings=True), tmp_path))
    plain = describe(module)
    assert plain["tied"] and plain["parameters"] - plain["parameters_without_embeddings"] == 96 * 64
    quantized = describe(burnish.optimize(module, "recover,quantize-weights{recipe=q4_0},fuse"))
    assert quantized["bytes_by_part"]["lm"]["q4_0"] == 96 * 64 * 18 // 32
    for key in ("tied", "parameters", "parameters_without_embeddings", "parameters_of_a_token"):
        assert quantized[key] == plain[key]


def test_a_token_uses_the_experts_that_it_chooses(tmp_path) -> None:
    sizes = {**models.SIZES, "num_local_experts": 4, "num_key_value_heads": 2}
    oracle = models.made("MixtralForCausalLM", vocab_size=96, **sizes)
    facts = describe(burnish.load(models.saved(oracle, tmp_path)))
    every = {n: p.numel() for n, p in oracle.named_parameters() if "embed_tokens" not in n}
    experts = sum(size for n, size in every.items() if ".experts." in n)
    assert facts["parameters_without_embeddings"] == sum(every.values())
    assert facts["parameters_of_a_token"] == sum(every.values()) - experts * 2 // 4


def test_memory_is_weights_and_states_at_some_lengths(families) -> None:
    facts = describe(burnish.load(families["llama"][1]))
    assert facts["bytes_at"] == {64: facts["bytes"] + 64 * facts["cache_bytes_per_token"]}
    assert describe(burnish.load(families["bert"][1]))["bytes_at"] == {}
    assert list(describe(burnish.load(families["t5"][1]))["bytes_at"]) == [1024]  # which says no context


def test_what_runs_packed_and_what_is_smaller_but_not_faster(families) -> None:
    module = burnish.load(families["llama"][1])
    module = burnish.optimize(module, "recover,quantize-weights{recipe=*.v_proj=int8;lm=none;q4_0},fuse")
    made = {p.weight: p for p in products_of(module)}
    assert {w: p.count for w, p in made.items()} == {"q4_0": 10, "int8": 2, "f32": 1}
    runs = instruction_set() is not None  # this processor has kernels
    kernels = {"q4_0": "linear.int8", "int8": "linear.int8", "f32": "linear.floats"}
    assert {w: p.kernel for w, p in made.items()} == (kernels if runs else dict.fromkeys(kernels, ""))
    assert [bool(made[w].dequantized) for w in kernels] == [not runs, not runs, False]


def test_what_a_pass_cannot_take_is_described_all_the_same(monkeypatch, families) -> None:
    module = burnish.load(families["llama"][1])
    whole = describe(module)

    def crash(*_) -> None:
        raise PassError("it cannot")

    monkeypatch.setattr("burnish.runtime.inspection.executable", crash)
    facts = describe(module)
    assert facts["products"] is None and products_of(module) is None
    for key in ("parameters", "bytes_by_part", "dimensions"):
        assert facts[key] == whole[key]


@settings(max_examples=settings.default.max_examples // 4)
@given(module=modules())
def test_whatever_a_module_holds_it_can_be_described(module) -> None:
    try:
        facts = describe(module)
    except LoadError as e:
        assert "it has no size that is known" in str(e)
        return
    assert json.loads(json.dumps(facts))["bytes"] == sum(facts["bytes_by_type"].values())


def test_a_weight_of_unknown_size_is_refused() -> None:
    module = parse("module {\n  weights { @w: f32[N] }\n  graph f() {\n    return y=@w\n  }\n}\n")
    with pytest.raises(LoadError, match=r"the tensor w is f32\[N\]: it has no size that is known"):
        describe(module)
