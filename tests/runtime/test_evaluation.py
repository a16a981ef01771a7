"""The instrument: what rounding costs, on a tiny model and against torch in float64."""

import json
import math
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

import burnish
from burnish.frontends.config import LoadError
from burnish.runtime.evaluation import Document, Estimate, Measure, Variant, evaluate_variants, read_documents
from burnish.runtime.tokenizer import Tokenizer
from tests import models

Q4_0 = gguf.GGMLQuantizationType.Q4_0
OFF = 2 * models.WITHIN * 4  # of a log-probability: a logit, of which the largest is below 4, and that of all of them
DOCUMENTS = [
    Document((5, 6, 7, 8, 9, 10, 11), ((3, 5, "a"), (5, 6, "b"))),
    Document((50, 40, 30, 20), ((1, 2, "a"), (2, 4, "b"))),
    Document((3, 60)),
]


@pytest.fixture(scope="module")
def oracle():
    return models.llama()


@pytest.fixture(scope="module")
def module(oracle, tmp_path_factory):
    return burnish.load(models.saved(oracle, tmp_path_factory.mktemp("llama")))


def test_a_variant_against_itself_is_exactly_zero(module) -> None:
    first, second = evaluate_variants(module, DOCUMENTS, [Variant(), Variant()])
    assert second.loss_difference == second.divergence == Estimate(0.0, 0.0)
    assert (second.loss, second.right, second.bytes) == (first.loss, first.right, first.bytes)


def logp64(model, ids) -> np.ndarray:
    with torch.no_grad():
        logits = model.double()(torch.tensor([ids])).logits[0, :-1]
    model.float()
    return torch.log_softmax(logits, -1).numpy()


def test_numbers_are_torchs_in_float64(oracle, module) -> None:
    """Of a variant that is rounded too: torch gets the weights that its format stands for."""
    plain, rounded = evaluate_variants(module, DOCUMENTS, [Variant(), Variant("lm=none;q4_0")])
    other = models.llama()
    with torch.no_grad():
        for name, p in other.named_parameters():
            if "_proj" in name:  # the head and the table are as they were
                p.copy_(torch.tensor(gguf.dequantize(gguf.quantize(p.numpy(), Q4_0), Q4_0)))
    losses, others, divergences = [], [], []
    for d in DOCUMENTS:
        p, q = logp64(oracle, d.ids), logp64(other, d.ids)
        at = np.arange(len(d.ids) - 1), np.array(d.ids[1:])
        losses.append(-p[at].mean())
        others.append(-q[at].mean())
        divergences.append((np.exp(p) * (p - q)).sum(-1).mean())
    difference = np.subtract(others, losses)
    assert plain.loss.mean == pytest.approx(np.mean(losses), abs=OFF)
    assert rounded.loss.mean == pytest.approx(np.mean(others), abs=OFF)
    assert rounded.loss_difference.mean == pytest.approx(difference.mean(), abs=3 * OFF)
    assert rounded.loss_difference.error == pytest.approx(difference.std(ddof=1) / math.sqrt(3), abs=3 * OFF)
    assert rounded.divergence.mean == pytest.approx(np.mean(divergences), abs=3 * OFF)
    assert abs(difference.mean()) > 100 * OFF < np.mean(divergences)
    assert rounded.divergence.mean > 0 and rounded.bytes < plain.bytes


def test_an_answer_is_right_when_every_token_of_it_is(module, oracle) -> None:
    greedy = [5, 6, 7]
    for _ in range(4):
        greedy.append(int(models.logits_of(oracle, input_ids=[greedy])[0, -1].argmax()))
    half = [*greedy[:-1], (greedy[-1] + 1) % 96]
    documents = [Document(tuple(greedy), ((3, 7, "all"),)), Document(tuple(half), ((3, 7, "all"), (3, 6, "begun")))]
    (measure,) = evaluate_variants(module, documents, [Variant()])
    assert measure.right["all"] == Estimate.of([1.0, 0.0])
    assert measure.right["begun"].mean == 1.0


def test_padding_and_batches_change_nothing(module, monkeypatch) -> None:
    def run() -> list[Measure]:
        return evaluate_variants(module, DOCUMENTS, [Variant(), Variant("q8_0")])

    together = run()
    monkeypatch.setattr("burnish.runtime.evaluation.BATCH", 1)
    for a, b in zip(together, run(), strict=True):
        assert a.loss.mean == pytest.approx(b.loss.mean, abs=2 * OFF)
        assert a.right == b.right


def test_standard_errors() -> None:
    x = [1.0, 2.0, 4.0, 9.0]
    mean = sum(x) / 4
    estimate = Estimate.of(x)
    assert estimate.mean == mean
    assert estimate.error == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in x) / 3) / math.sqrt(4))
    assert math.isnan(Estimate.of([1.0]).error)  # one sample tells nothing of its error


def test_progress_counts_documents(module, monkeypatch) -> None:
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr("burnish.runtime.evaluation.BATCH", 2)
    evaluate_variants(module, DOCUMENTS, [Variant()], progress=lambda *x: told.append(x))
    assert [call for call in told if call[0] == "documents"] == [("documents", 2, 3), ("documents", 3, 3)]


@pytest.mark.parametrize("text", ["none", "q4_0", "q4_0/int8", "lm=none;q8_0", "*.v_proj=q8_0;q4_0/int8"])
def test_variants_read_as_they_are_written(text: str) -> None:
    assert str(Variant.parse(text)) == text


def test_the_head_and_the_table_are_rounded_where_that_is_asked_for(module) -> None:
    variants = [Variant.parse(v) for v in ("none", "lm=none;q8_0", "*=q8_0")]
    plain, blocks, all_ = evaluate_variants(module, DOCUMENTS, variants)
    assert plain.bytes > blocks.bytes > all_.bytes


def test_what_cannot_be_measured_is_refused(module, tmp_path) -> None:
    with pytest.raises(LoadError, match="this one's task is feature-extraction"):
        evaluate_variants(burnish.load(models.saved(models.bert(), tmp_path / "bert")), DOCUMENTS, [Variant()])
    odd = models.llama(hidden_size=48, intermediate_size=48, num_attention_heads=3, num_key_value_heads=3)
    with pytest.raises(LoadError, match="variant q4_0: none of the weights can be stored so"):
        evaluate_variants(burnish.load(models.saved(odd, tmp_path / "odd")), DOCUMENTS, [Variant("q4_0")])


# ----------------------------------------------------------------------------------------------------------- documents


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    models.byte_tokenizer().save(str(file))
    return Tokenizer.load(file)


def read(file: Path, tokenizer: Tokenizer, *rows: object, context: int | None = None) -> list[Document]:
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return read_documents(file, tokenizer, context)


def test_spans_of_characters_become_spans_of_tokens(tokenizer, tmp_path) -> None:
    text = "the king – né: 42."
    start = text.index("né")
    (document,) = read(tmp_path / "x", tokenizer, {"text": text, "answers": [[start, start + 2, "name"]]})
    ((first, last, kind),) = document.answers
    assert kind == "name"
    assert tokenizer.decode(list(document.ids[first:last])).strip() == "né"
    assert last - first >= 3  # é is two bytes


def test_a_document_ends_with_the_context_and_answers_that_are_cut_do_not_count(tokenizer, tmp_path) -> None:
    text = "the king: 42"
    whole = tokenizer.encode(text)
    row = {"text": text, "answers": [[4, 8, "who"], [10, 12, "sum"], [0, 3, "first"]]}
    (document,) = read(tmp_path / "x", tokenizer, row, context=len(whole) - 1)
    assert document.ids == tuple(whole[:-1])
    assert [kind for _, _, kind in document.answers] == ["who"]  # nothing stands before the first token
    (document,) = read(tmp_path / "x", tokenizer, row, context=1000)
    assert [kind for _, _, kind in document.answers] == ["who", "sum"]


def test_answers_are_optional_and_empty_lines_are_skipped(tokenizer, tmp_path) -> None:
    file = tmp_path / "x"
    file.write_text('\n{"text": "one\u2028line"}\n\n', "utf-8")
    (document,) = read_documents(file, tokenizer, None)
    assert document.answers == ()
    assert tokenizer.decode(list(document.ids)) == "one\u2028line"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x: holds no documents"),
        ("{", "x, line 1: JSONDecodeError"),
        ("[]", "x, line 1: TypeError"),
        ('{"answers": []}', "x, line 1: KeyError: 'text'"),
        ('{"text": 3}', "x, line 1: TypeError"),
        ('{"text": "the king", "answers": [[1]]}', "x, line 1: ValueError"),
        ('{"text": "the king", "answers": 3}', "x, line 1: TypeError"),
        ('{"text": "the king"}\n{"text": "a"}', "x, line 2: 1 tokens are too few"),
    ],
)
def test_lines_that_are_no_documents(tokenizer, tmp_path, text: str, message: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(LoadError, match=message):
        read_documents(tmp_path / "x", tokenizer, None)
