"""Building a module: tensors are held against the config, and every one that does not fit is named, in one message."""

from typing import Any

import pytest

from burnish.frontends.architecture import ARCHITECTURES, Architecture, build_module, parameters
from burnish.frontends.architectures.llama import Llama
from burnish.frontends.config import Config, LoadError
from burnish.frontends.stored import Tensors
from burnish.ir.module import Module
from burnish.ir.types import Type
from burnish.ir.verify import verify
from burnish.passes.engine import PassError
from burnish.testing import check_architecture

CONFIG: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def tensors(**changes: Any) -> dict[str, Type]:
    return parameters(Llama, Config(CONFIG | changes))


def build(weights: dict[str, Type], **changes: Any) -> Module:
    return build_module("LlamaForCausalLM", Config(CONFIG | changes, "a/config.json"), Tensors(weights))


def message(weights: dict[str, Type], **changes: Any) -> str:
    with pytest.raises(LoadError) as e:
        build(weights, **changes)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_the_parameters_are_known_without_a_checkpoint() -> None:
    types = tensors(tie_word_embeddings=True)
    assert len(types) == 2 + 2 * 9
    assert types["model.layers.1.self_attn.k_proj.weight"] == Type("f32", (8, 16))
    module = build(types, tie_word_embeddings=True)
    verify(module)
    assert list(module.weights) == list(types)


def test_all_that_is_missing_and_all_that_is_too_much_is_named_with_the_nearest_name() -> None:
    weights = tensors()
    renamed = "model.layers.0.self_attn.q_proj.weight"
    weights["model.layers.0.self_attn.query_proj.weight"] = weights.pop(renamed)
    del weights["model.norm.weight"]
    weights["adapter"] = Type("f32", (4,))
    assert message(weights) == (
        "a/config.json: the checkpoint does not fit LlamaForCausalLM: "
        "missing tensors: 'model.layers.0.self_attn.q_proj.weight' "
        "(nearest: 'model.layers.0.self_attn.query_proj.weight'), 'model.norm.weight'; "
        "tensors that nothing reads: 'model.layers.0.self_attn.query_proj.weight' "
        "(nearest: 'model.layers.0.self_attn.q_proj.weight'), 'adapter'"
    )


def test_an_empty_file_lacks_everything() -> None:
    text = message({})
    assert all(repr(name) in text for name in tensors())


def test_a_long_list_is_cut() -> None:
    assert message(tensors() | {f"x{i}": Type("f32", ()) for i in range(70)}).endswith(" and 20 more")


def test_every_tensor_of_another_shape_or_type_is_named() -> None:
    weights = tensors()
    weights["model.layers.0.mlp.up_proj.weight"] = Type("f32", (24, 17))
    weights["lm_head.weight"] = Type("i8", (32, 16))
    text = message(weights)
    assert "'model.layers.0.mlp.up_proj.weight' is f32[24, 17], but must be f32[24, 16]" in text
    assert "'lm_head.weight' is i8[32, 16], but must be f32[32, 16]" in text


def test_a_tied_tensor_may_be_stored_or_not() -> None:
    for weights, tied in ((tensors(), True), (tensors(tie_word_embeddings=True), True), (tensors(), False)):
        head = build(weights, tie_word_embeddings=tied).graphs["forward"].outputs["logits"].node
        assert head is not None
        stored = "lm_head.weight" if "lm_head.weight" in weights else "model.embed_tokens.weight"
        assert head.source_tensors == (stored,)
    assert "'lm_head.weight' (nearest:" in message(tensors(tie_word_embeddings=True))


def test_a_base_model_that_was_saved_alone_lacks_its_prefix() -> None:
    alone = {k.removeprefix("model."): t for k, t in tensors(tie_word_embeddings=True).items()}
    assert list(build(alone, tie_word_embeddings=True).weights) == list(alone)
    del alone["norm.weight"]
    assert "missing tensors: 'norm.weight'" in message(alone, tie_word_embeddings=True)


def test_stored_buffers_are_left_alone() -> None:
    build(tensors() | {"model.layers.0.self_attn.rotary_emb.inv_freq": Type("f32", (2,))})


def test_nodes_know_the_module_path_they_stand_for() -> None:
    graph = build(tensors()).graphs["forward"]
    origins = [n.origin for n in graph if not n.is_leaf]
    assert len({o.sources for o in origins}) == len(origins)
    assert "model.layers[1].mlp.down_proj" in {o.scope for o in origins}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"num_attention_heads": 3}, "hidden_size 16 is not a multiple of num_attention_heads 3"),
        ({"num_key_value_heads": 3}, "4 heads do not share 3 key heads"),
        ({"num_attention_heads": 0}, "num_attention_heads must be an integer from 1 to 16777216, not 0"),
        ({"head_dim": 3}, "head_dim, hidden_size / num_attention_heads unless it is given, is 3"),
        ({"hidden_act": "mish"}, "hidden_act 'mish' is not supported; supported are gelu,"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers must be an integer from 1 to 1024, not 1000000"),
        ({"rope_scaling": {"type": "mrope"}}, "config.json: rope_scaling: type 'mrope' is not supported"),
    ],
)
def test_a_config_that_is_not_sound(changes, text) -> None:
    with pytest.raises(LoadError, match=text):
        build(tensors(), **changes)


def test_an_unknown_architecture_lists_those_that_there_are() -> None:
    with pytest.raises(LoadError) as e:
        build_module("LlamaForCausalML", Config(CONFIG), Tensors({}))
    assert "nearest: LlamaForCausalLM" in str(e.value)
    assert all(name in str(e.value) for name in ARCHITECTURES)


# --------------------------------------------------------------------------------------- the law that all must obey


@pytest.fixture
def echo(registries):
    """The smallest causal model; the law's tests break it."""

    class Echo(Architecture):
        names = ("Smallest",)

        def forward(self, op, ids):
            x = op.embedding("embed", ids, 16, 8)
            h = op.reshape(x, shape=(*ids.shape, 2, 4))
            return op.reshape(op.attention(h, h, h, causal=True, scale=0.5), shape=x.shape)

    return Echo


def test_a_sound_architecture_passes(echo) -> None:
    check_architecture(echo, {"vocab_size": 16})


def test_one_that_ignores_a_tensor_it_does_not_know_is_noticed(echo) -> None:
    echo.unused = ("_too_many",)
    with pytest.raises(AssertionError, match=r"loads with .*_too_many too many"):
        check_architecture(echo, {"vocab_size": 16})


def test_one_whose_tokens_see_those_behind_them_is_noticed(echo) -> None:
    def forward(self, op, ids):
        x = op.embedding("embed", ids, 16, 8)
        return x + op.reduce_mean(x, axes=(1,))

    echo.forward = forward
    with pytest.raises(AssertionError, match="alone and padded"):
        check_architecture(echo, {"vocab_size": 16})


def test_one_that_a_cache_does_not_fit_is_noticed(echo) -> None:
    """It numbers its tokens itself: what comes second begins at 0 again."""

    def forward(self, op, ids):
        x = op.embedding("embed", ids, 16, 8)
        h = op.reshape(x, shape=(*ids.shape, 2, 4))
        h = op.rope(h, op.unsqueeze(op.iota(size=ids.shape[1]), axes=(0,)), op.constant([1.0, 0.1]))
        return op.reshape(op.attention(h, h, h, causal=True, scale=0.5), shape=x.shape)

    echo.forward = forward
    with pytest.raises(PassError, match="iota cannot go on from step to step: it counts tokens from 0"):
        check_architecture(echo, {"vocab_size": 16})


def test_one_without_a_name_is_noticed(echo) -> None:
    class Nameless(echo):
        names = ()

    with pytest.raises(AssertionError, match="has no names"):
        check_architecture(Nameless, {"vocab_size": 16})
