"""Folders of sentence-transformers: modules, pooling, settings and prompts, held to its formulae in float64."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from tokenizers import models as kinds
from tokenizers import normalizers, pre_tokenizers, processors

import burnish
from burnish.frontends.config import LoadError
from burnish.ir.signature import Facts
from burnish.runtime.sources import tokenizer_of
from burnish.runtime.tokenizer import Tokenizer, prompted
from tests import models
from tests.frontends.architectures.feeding import run

COUNTS = np.array([9, 4, 1], np.int32)
OLD, NEW = "sentence_transformers.models.", "sentence_transformers.sentence_transformer.modules.x."
FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
#: sentence-transformers' Pooling of x[n, H], the states of the real tokens
POOLED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cls": lambda x: x[0],
    "max": lambda x: x.max(0),
    "mean": lambda x: x.sum(0) / len(x),
    "mean_sqrt_len_tokens": lambda x: x.sum(0) / np.sqrt(len(x)),
    "weightedmean": lambda x: (x * np.arange(1, len(x) + 1)[:, None]).sum(0) / np.arange(1, len(x) + 1).sum(),
    "lasttoken": lambda x: x[-1],
}
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "the", "cat", "sat", "The", "Cat", "on", "mat", "dog"]


def written(folder: Path, modules: Sequence[tuple[str, Any]], types: str = OLD, at: str = "", **files: Any) -> Path:
    """The folder, described: `modules` are types and the configs in their folders (None: without a folder)."""
    entries = [{"idx": 0, "name": "0", "path": at, "type": f"{types}Transformer"}]
    for i, (kind, config) in enumerate(modules, 1):
        entries.append({"idx": i, "name": str(i), "path": f"{i}_{kind}", "type": f"{types}{kind}"})
        if config is not None:
            (folder / f"{i}_{kind}").mkdir(exist_ok=True)
            (folder / f"{i}_{kind}/config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text(json.dumps(entries))
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def pooling(*modes: str) -> tuple[str, Any]:
    """As versions before 5.4 write it: a flag for each mode."""
    return "Pooling", {"word_embedding_dimension": 64} | {key: mode in modes for mode, key in FLAGS.items()}


@pytest.fixture(scope="module")
def oracle() -> Any:
    return models.bert(vocab_size=96)


@pytest.fixture
def folder(oracle: Any, tmp_path: Path) -> Path:
    """A BERT with a tokenizer of words that knows large letters from small ones."""
    made = tokenizers.Tokenizer(kinds.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", [("[CLS]", 1), ("[SEP]", 2)]
    )
    made.add_special_tokens(WORDS[:4])
    made.save(str(tmp_path / "tokenizer.json"))
    return models.saved(oracle, tmp_path)


def states(oracle: Any, ids: np.ndarray) -> list[np.ndarray]:
    """The states of the real tokens of each sequence, f64, each run by itself."""
    with torch.no_grad():
        rows = [oracle(torch.tensor(row[None, :n]).long()) for row, n in zip(ids, COUNTS, strict=True)]
    return [r.last_hidden_state[0].double().numpy() for r in rows]


def check(folder: Path, oracle: Any, vector: Callable[[np.ndarray], np.ndarray], tmp_path: Path | None = None) -> None:
    """The embedding of a padded batch on NumPy and, from a package, on XLA."""
    ids = models.tokens((3, 9))
    expected = np.array([vector(x) for x in states(oracle, ids)])
    module = burnish.load(folder)
    found = [run(m, "forward", ids=ids, count=COUNTS)["embedding"] for m in (module, burnish.optimize(module))]
    if tmp_path is not None:
        burnish.compile(burnish.optimize(module), tmp_path / "package")
        packed = burnish.load(tmp_path / "package")
        assert packed.facts == burnish.optimize(module).facts
        found.append(burnish.executable(packed, "xla").forward(ids, COUNTS)["embedding"])
    for embedding in found:
        assert embedding.shape == expected.shape
        assert np.abs(embedding - expected).max() < models.WITHIN * np.abs(expected).max()


@pytest.mark.parametrize("mode", POOLED)
def test_each_mode_as_both_versions_write_it(mode: str, folder: Path, oracle: Any) -> None:
    check(written(folder, [pooling(mode)]), oracle, POOLED[mode])
    new = {"embedding_dimension": 64, "pooling_mode": mode, "include_prompt": True}
    check(written(folder, [("Pooling", new)], NEW), oracle, POOLED[mode])


def test_several_modes_are_joined(folder: Path, oracle: Any) -> None:
    """Flags in sentence-transformers' order, whatever that of the file; a list in its own."""

    def joined(*modes: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: np.concatenate([POOLED[m](x) for m in modes])

    flags = {"pooling_mode_lasttoken": True} | {k: True for k in FLAGS.values()}
    check(written(folder, [("Pooling", flags)]), oracle, joined(*POOLED))
    check(written(folder, [("Pooling", {"pooling_mode": ["mean", "cls"]})]), oracle, joined("mean", "cls"))
    check(written(folder, [("Pooling", dict.fromkeys(FLAGS.values(), False))]), oracle, POOLED["mean"])


def dense(folder: Path, i: int, rows: int, width: int, **config: Any) -> tuple[str, Any]:
    """A Dense with weights of its own."""
    g = torch.Generator().manual_seed(i)
    tensors = {"linear.weight": torch.randn((rows, width), generator=g) / 8, "linear.bias": torch.ones(rows) / 4}
    if config.get("bias") is False:
        del tensors["linear.bias"]
    if config.get("use_residual") and rows != width:
        tensors["residual.weight"] = torch.randn((rows, width), generator=g) / 8
    (folder / f"{i}_Dense").mkdir(exist_ok=True)
    save_file(tensors, folder / f"{i}_Dense/model.safetensors")
    return "Dense", {"in_features": width, "out_features": rows, "bias": True} | config


ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": torch.nn.Identity(),
    "torch.nn.modules.activation.Tanh": torch.nn.Tanh(),
    "torch.nn.modules.activation.ReLU": torch.nn.ReLU(),
    "torch.nn.modules.activation.GELU": torch.nn.GELU(),
    "torch.nn.modules.activation.SiLU": torch.nn.SiLU(),
    "torch.nn.modules.activation.Sigmoid": torch.nn.Sigmoid(),
}


@pytest.mark.parametrize(
    ("name", "rows", "more"),
    [
        *((name, 32, {}) for name in (None, *ACTIVATIONS)),
        *((None, rows, more) for rows, more in ((32, {"bias": False}), (32, {"use_residual": True}))),
        (next(iter(ACTIVATIONS)), 64, {"use_residual": True}),
    ],
)
def test_dense(name: str | None, rows: int, more: dict[str, Any], folder: Path, oracle: Any) -> None:
    from safetensors.numpy import load_file

    config = more | ({"activation_function": name} if name else {})
    written(folder, [pooling("mean"), dense(folder, 2, rows, 64, **config)])
    w = {k: v.astype("f8") for k, v in load_file(folder / "2_Dense/model.safetensors").items()}
    act = ACTIVATIONS[name or "torch.nn.modules.activation.Tanh"]

    def vector(x: np.ndarray) -> np.ndarray:
        x = POOLED["mean"](x)
        y = act(torch.tensor(w["linear.weight"] @ x + w.get("linear.bias", 0.0))).numpy()
        return y + (w["residual.weight"] @ x if "residual.weight" in w else x) if more.get("use_residual") else y

    check(folder, oracle, vector)


@pytest.mark.slow
def test_modules_run_in_their_order(folder: Path, oracle: Any, tmp_path: Path) -> None:
    """Normalize, Dense, LayerNorm, Dropout, Normalize; the weights of all go into a package."""
    from safetensors.numpy import load_file

    modules = [pooling("mean"), ("Normalize", None), dense(folder, 3, 48, 64), ("LayerNorm", {"dimension": 48})]
    modules += [("Dropout", {"dropout": 0.5}), ("Normalize", {"module_input_name": "sentence_embedding"})]
    (folder / "4_LayerNorm").mkdir()
    norm = {"norm.weight": torch.arange(48) / 48, "norm.bias": torch.ones(48) / 8}
    save_file(norm, folder / "4_LayerNorm/model.safetensors")
    w = {k: v.astype("f8") for k, v in load_file(folder / "3_Dense/model.safetensors").items()}

    def vector(x: np.ndarray) -> np.ndarray:
        x = POOLED["mean"](x)
        x = np.tanh(w["linear.weight"] @ (x / np.linalg.norm(x)) + w["linear.bias"])
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * norm["norm.weight"].numpy() + norm["norm.bias"].numpy()
        return x / np.linalg.norm(x)

    check(written(folder, modules), oracle, vector, tmp_path / "out")


def test_the_model_may_lie_in_a_folder_of_its_own_and_have_another_head(folder: Path, tmp_path: Path) -> None:
    oracle = models.made("BertForMaskedLM", vocab_size=96, max_position_embeddings=64, **models.SIZES)
    inside = tmp_path / "whole" / "0_Transformer"
    models.saved(oracle, inside)
    (folder / "tokenizer.json").rename(inside / "tokenizer.json")
    whole = written(tmp_path / "whole", [pooling("mean")], at="0_Transformer")
    check(whole, oracle.bert, POOLED["mean"])
    module = burnish.load(whole)
    assert (module.facts.architecture, module.facts.task) == ("BertModel", "feature-extraction")
    found = tokenizer_of(whole)
    assert found is not None and found.encode("the cat") == [1, 4, 5, 2]


def test_a_decoder_by_its_last_token(tmp_path: Path) -> None:
    oracle = models.llama()
    folder = written(models.saved(oracle, tmp_path), [pooling("lasttoken"), ("Normalize", None)])
    check(folder, oracle.model, lambda x: x[-1] / np.linalg.norm(x[-1]))
    assert not burnish.executable(burnish.load(folder)).is_generative


# ------------------------------------------------------------------------------------------------------ text to tokens


@pytest.mark.parametrize(
    ("settings", "tokenizer", "longest"),
    [
        ({"max_seq_length": 4, "do_lower_case": False}, {"model_max_length": 3}, 4),
        ({"max_seq_length": None}, {"model_max_length": 5}, 5),
        ({}, {"model_max_length": 1e30}, 64),
        ({}, {}, 64),
        (None, {"model_max_length": 5}, 5),
    ],
)
def test_how_a_text_is_cut(settings: Any, tokenizer: Any, longest: int, folder: Path) -> None:
    """By its own setting; unless there is one, by the tokenizer's and the model's limit."""
    files = {"tokenizer_config": tokenizer} | ({} if settings is None else {"sentence_bert_config": settings})
    facts = burnish.load(written(folder, [pooling("mean")], **files)).facts
    assert facts.longest == longest
    ids = [1, 4, 5, 6, 9, 4, 10, 2]
    found = tokenizer_of(folder)
    assert found is not None
    assert list(found.ask("the cat sat on the mat", None, longest).ids) == (
        [*ids[: longest - 1], 2] if longest < 8 else ids
    )
    assert found.encode("the cat sat on the mat") == ids, "what was cut once is not cut for good"


def test_a_text_that_is_cut_to_nothing_is_refused(folder: Path) -> None:
    found = tokenizer_of(folder)
    assert found is not None
    with pytest.raises(ValueError, match="cut to 2 tokens, of which the tokenizer adds 2"):
        found.ask("the cat", None, 2)
    assert list(found.ask("the cat sat", "on the mat", 7).ids) == [1, 4, 5, 2, 9, 4, 2], "of a pair the longer first"


@pytest.mark.parametrize(
    "before", [None, normalizers.NFD(), normalizers.Sequence([normalizers.NFD()]), normalizers.Lowercase()]
)
@pytest.mark.parametrize("name", ["sentence_bert_config", "sentence_xlm-roberta_config"])
def test_letters_are_lowered_before_all_else(before: Any, name: str, folder: Path, tmp_path: Path) -> None:
    own = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    if before is not None:
        own.normalizer = before
    own.save(str(folder / "tokenizer.json"))
    text = "The Cat [SEP] sat"
    for lower in (True, False):
        written(folder, [pooling("mean")], **{name: {"max_seq_length": 64, "do_lower_case": lower}})
        found = tokenizer_of(folder)
        assert found is not None
        small = lower or isinstance(before, normalizers.Lowercase)
        assert found.encode(text) == ([1, 4, 5, 2, 6, 2] if small else [1, 7, 8, 2, 6, 2])
    written(folder, [pooling("mean")], **{name: {"do_lower_case": True}})
    package = tmp_path / "package"
    burnish.load(folder)
    from burnish.runtime.package import write_package

    write_package(burnish.optimize(burnish.load(folder)), package, tokenizer=tokenizer_of(folder))
    packed = tokenizer_of(package)
    assert packed is not None and packed.encode(text) == [1, 4, 5, 2, 6, 2]


def test_prompts() -> None:
    facts = Facts(prompt_names=("query", "passage"), prompts=("query: ", ""), default_prompt="query")
    assert prompted(facts, "a") == prompted(facts, "a", "query") == "query: a"
    assert prompted(facts, "a", "passage") == prompted(Facts(), "a") == "a"
    with pytest.raises(ValueError, match="the model has no prompt 'q'; it has query, passage"):
        prompted(facts, "a", "q")
    with pytest.raises(ValueError, match="no prompt 'q'; it has none"):
        prompted(Facts(), "a", "q")


def test_prompts_of_a_folder(folder: Path) -> None:
    own = {"prompts": {"query": "the ", "document": None}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    own |= {"__version__": {"torch": "2"}, "model_type": "SentenceTransformer"}
    facts = burnish.load(written(folder, [pooling("mean")], config_sentence_transformers=own)).facts
    assert (facts.prompt_names, facts.prompts, facts.default_prompt) == (("query", "document"), ("the ", ""), "")
    written(folder, [pooling("mean")], config_sentence_transformers=own | {"default_prompt_name": "query"})
    assert burnish.load(folder).facts.default_prompt == "query"


# ------------------------------------------------------------------------------------------------------------- refused

MEAN = pooling("mean")
PROMPTS = {"config_sentence_transformers": {"prompts": {"query": "q: "}}}


@pytest.mark.parametrize(
    ("modules", "files", "message"),
    [
        (
            [("Pooling", {"pooling_mode": "median"})],
            {},
            r"pooling by \['median'\] is not supported; supported are cls, max",
        ),
        ([("Pooling", {"pooling_mode_unheard_of": True})], {}, "pooling_mode_unheard_of=True is not supported"),
        ([("Pooling", {"pooling_mode_mean_tokens": "yes"})], {}, "pooling_mode_mean_tokens must be true or false"),
        ([("Pooling", {"include_prompt": False})], PROMPTS, "include_prompt false is not supported"),
        ([("LSTM", {})], {}, "behind the Transformer a Pooling is supported, not 'LSTM'"),
        (
            [MEAN, ("CNN", {})],
            {},
            "entry 2: a module 'CNN' is not supported; supported are Transformer, Pooling, Dense",
        ),
        ([MEAN, ("Dense", {})], {}, "2_Dense/config.json: in_features is missing"),
        ([MEAN, ("Normalize", {"module_input_name": "token_embeddings"})], {}, "module_input_name 'token_embeddings'"),
        ([MEAN, ("LayerNorm", {"dimension": 64})], {}, "2_LayerNorm: holds none of model.safetensors"),
        ([MEAN], {"sentence_bert_config": {"max_seq_length": "256"}}, "max_seq_length must be an integer"),
        ([MEAN], {"sentence_bert_config": {"max_seq_length": 0}}, "max_seq_length must be an integer from 1"),
        ([MEAN], {"sentence_bert_config": {"query_length": 8}}, "query_length=8 is not supported"),
        ([MEAN], {"sentence_bert_config": {"model_args": {"a": 1}}}, "model_args {'a': 1} is not supported"),
        ([MEAN], {"sentence_bert_config": {"transformer_task": "retrieval"}}, "transformer_task 'retrieval'"),
        ([MEAN], {"sentence_bert_config": {"modality_config": {"image": {}}}}, "modality_config must have text="),
        ([MEAN], {"tokenizer_config": {"truncation_side": "left"}}, "truncation_side 'left' is not supported"),
        ([MEAN], {"config_sentence_transformers": {"default_prompt_name": "x"}}, "default_prompt_name 'x' is none of"),
        ([MEAN], {"config_sentence_transformers": {"prompts": {"a": 1}}}, "from names to texts"),
        ([MEAN], {"config_sentence_transformers": {"model_type": "SparseEncoder"}}, "model_type 'SparseEncoder'"),
    ],
)
def test_what_is_not_supported_is_named(modules: Any, files: Any, message: str, folder: Path) -> None:
    with pytest.raises(LoadError, match=message):
        burnish.load(written(folder, modules, **files))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_function": "my.Swish"}, "activation_function 'my.Swish' is not supported; supported are torch"),
        ({"in_features": 65}, "2_Dense: in_features is 65, but what goes in has 64 numbers"),
        ({"out_features": 33}, "2_Dense.linear.weight"),
        ({"bias": False}, "tensors that nothing reads: '2_Dense.linear.bias'"),
        ({"module_input_name": "token_embeddings"}, "module_input_name"),
        ({"scale": 2}, "scale=2 is not supported"),
    ],
)
def test_a_dense_that_is_another(changes: Any, message: str, folder: Path) -> None:
    kind, config = dense(folder, 2, 32, 64)
    with pytest.raises(LoadError, match=message):
        burnish.load(written(folder, [MEAN, (kind, config | changes)]))


def test_weights_of_a_dense_may_be_pickled(folder: Path) -> None:
    kind, config = dense(folder, 2, 32, 64)
    safe = burnish.load(written(folder, [MEAN, (kind, config)]))
    dense_weights = load_file(folder / "2_Dense/model.safetensors")
    torch.save(dense_weights, folder / "2_Dense/pytorch_model.bin")
    (folder / "2_Dense/model.safetensors").unlink()
    module = burnish.load(folder)
    assert module == safe
    for name, tensor in dense_weights.items():
        assert module.source.read(f"2_Dense.{name}").tobytes() == tensor.numpy().tobytes()


def test_weights_of_a_dense_by_another_name_are_named(folder: Path) -> None:
    kind, config = dense(folder, 2, 32, 64)
    (folder / "2_Dense/model.safetensors").rename(folder / "2_Dense/dense.pt")
    with pytest.raises(LoadError, match=r"2_Dense: holds PyTorch files of other names.*: dense\.pt"):
        burnish.load(written(folder, [MEAN, (kind, config)]))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "is not a list of modules"),
        ([{"type": f"{OLD}Pooling", "path": ""}], "the first module must be a Transformer; 'Pooling' is not supported"),
        ([{"type": f"{OLD}StaticEmbedding", "path": ""}], "'StaticEmbedding' is not supported"),
        ([{"type": "custom_st.Transformer", "path": ""}], "type 'custom_st.Transformer' is code of its own"),
        ([{"type": 3}], "entry 0: type must be a string, not 3"),
        ([{"type": f"{OLD}Transformer", "path": "../x"}], "path '../x' is not the name of a folder inside"),
        ([{"type": f"{OLD}Transformer", "path": "/etc"}], "path '/etc' is not the name of a folder inside"),
    ],
)
def test_a_list_that_is_none(entries: Any, message: str, folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(LoadError, match=message):
        burnish.load(folder)


def test_a_model_alone_has_no_embedding(folder: Path) -> None:
    module = burnish.load(written(folder, []))
    assert list(module.graphs["forward"].outputs) == ["hidden"] and module.facts.longest is None
    assert isinstance(tokenizer_of(folder), Tokenizer)


@pytest.mark.parametrize("saved_as", ["Qwen3Model", "Qwen3ForCausalLM"])
def test_a_decoder_embeds_by_its_last_token(saved_as: str, tmp_path: Path) -> None:
    """As Qwen3-Embedding does, whose config names the whole model over tensors of the base model alone."""
    sizes = {"vocab_size": 96, "num_key_value_heads": 2, "head_dim": 24, "tie_word_embeddings": True} | models.SIZES
    oracle = models.made("Qwen3Model", **sizes)
    folder = models.saved_in_full(oracle, tmp_path)
    models.change_config(folder, architectures=[saved_as])
    prompts = {"query": "Instruct: find it\nQuery:", "document": ""}
    about = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    written(folder, [pooling("lasttoken"), ("Normalize", None)], config_sentence_transformers=about)
    check(folder, oracle, lambda x: x[-1] / np.linalg.norm(x[-1]))
    facts = burnish.load(folder).facts
    assert facts.prompt_names == ("query", "document") and not facts.makes_text
