"""What the numbers of a model that makes no text say, where there is no pipeline to compare with: test_texts.py."""

from typing import Any

import numpy as np
import pytest

from burnish.cli import _texts
from burnish.ir.signature import EMBEDDING, HIDDEN, LOGITS, Facts
from burnish.runtime.answers import GROUPS, SCORES, Answer, Asked, Wanted, answer_of

TEXTS = ("who came?", "Anna came late.")
#: [CLS] who came ? [SEP] Anna came late . [SEP]
PAIR = Asked(
    ids=[1, 5, 6, 7, 2, 8, 6, 9, 4, 2],
    types=[0] * 5 + [1] * 5,
    texts=TEXTS,
    spans=[(0, 0), (0, 3), (4, 8), (8, 9), (0, 0), (0, 4), (5, 9), (10, 14), (14, 15), (0, 0)],
    parts=[None, 0, 0, 0, None, 1, 1, 1, 1, None],
)
IDS = Asked([4, 5, 6])
ROLES = {"logits": LOGITS}
SPANS = {"start_logits": LOGITS, "end_logits": LOGITS}


def said(facts: Facts, logits: list[float] | np.ndarray, asked: Asked = PAIR, **wanted: object) -> Answer:
    return answer_of(facts, ROLES, [({"logits": np.array(logits, "f4")}, asked)], Wanted(**wanted))


def test_labels_the_likeliest_first() -> None:
    facts = Facts(task="text-classification", labels=("bad", "fair", "good"), scores="raw")
    answer = said(facts, [0.5, -1.0, 2.0])
    assert answer == Answer(
        {"labels": {"good": 2.0, "bad": 0.5, "fair": -1.0}}, ["good: 2.0000", "bad: 0.5000", "fair: -1.0000"]
    )
    assert said(facts, [0.5, -1.0, 2.0], best=1).lines == ["good: 2.0000"]


def test_of_labels_of_one_name_the_higher_score_counts() -> None:
    facts = Facts(task="text-classification", labels=("same", "same", "other"), scores="raw")
    assert said(facts, [0.25, 0.5, -1.0]).values == {"labels": {"same": 0.5, "other": -1.0}}


def test_one_label_without_a_name_is_a_score() -> None:
    assert said(Facts(task="text-classification", labels=("LABEL_0",)), [0.0]).lines == ["0.5000"]
    assert said(Facts(task="text-classification", labels=("toxic",)), [0.0]).lines == ["toxic: 0.5000"]


def test_large_scores_are_probabilities_too() -> None:
    facts = Facts(task="text-classification", labels=("a", "b"))
    assert said(facts, [3e4, -3e4]).values["labels"] == {"a": 1.0, "b": 0.0}
    assert said(facts, [-3e4, 3e4], scores="sigmoid").values["labels"] == {"b": 1.0, "a": 0.0}


def test_what_is_labelled_has_its_place() -> None:
    facts = Facts(task="token-classification", labels=("O", "PERSON"))
    logits = np.tile(np.array([9, 0], "f4"), (10, 1))
    logits[5] = 0, 9
    assert said(facts, logits).lines == ["Anna: PERSON 0.9999 [0:4]"]
    ids = said(facts, logits[:3] * [0, 1] + [0, 1], IDS)
    assert ids.values["entities"][0] == {"label": "PERSON", "text": "4 5 6", "first_token": 0, "last_token": 2,
                                         "score": pytest.approx(0.73106, abs=1e-5)}  # fmt: skip
    assert said(facts, np.tile([9.0, 0.0], (10, 1))).lines == ["(no entities)"]


def test_an_answer_is_a_span_of_the_second_text() -> None:
    facts = Facts(task="question-answering")
    start, end = np.zeros(10, "f4"), np.zeros(10, "f4")
    start[[1, 6]], end[[2, 5, 7]] = (90, 40), (90, 60, 50)  # the best lie in the question
    answer = answer_of(facts, SPANS, [({"start_logits": start, "end_logits": end}, PAIR)])
    assert answer.lines == ["came late: 0.0000 [5:14]"]  # the likeliest end lies before the likeliest start
    end[5] = 0
    assert answer_of(facts, SPANS, [({"start_logits": start, "end_logits": end}, PAIR)]).values == {
        "answer": "came late", "score": pytest.approx(1.0), "start": 5, "end": 14}  # fmt: skip


def test_no_answer_is_said_where_it_may_be() -> None:
    start, end = np.zeros(10, "f4"), np.zeros(10, "f4")
    start[0] = end[0] = 20
    read = [({"start_logits": start, "end_logits": end}, PAIR)]
    answer = answer_of(Facts(task="question-answering"), SPANS, read, Wanted(unanswerable=True))
    assert (answer.values["answer"], answer.lines) == ("", ["(no answer): 1.0000"])
    assert answer_of(Facts(task="question-answering"), SPANS, read).values["answer"] != ""


def test_a_mask_has_words() -> None:
    asked = Asked([1, 3, 2], mask=3, text_of=lambda ids: " ".join(f"w{t}" for t in ids))
    scores = np.full((3, 8), -90, "f4")
    scores[1, 6], scores[1, 4] = np.log(3), 0
    answer = said(Facts(task="fill-mask"), scores, asked, best=2)
    assert answer.lines == ["w6: 0.7500  w1 w6 w2", "w4: 0.2500  w1 w4 w2"]


@pytest.mark.parametrize("task", ["", "feature-extraction", "fill-mask"])
def test_else_the_numbers_themselves(task: str) -> None:
    outputs = {"hidden": np.ones((3, 9), "f4"), "embedding": np.array([0.5, 1], "f4")}
    roles = {"hidden": HIDDEN, "embedding": EMBEDDING}
    assert answer_of(Facts(task=task), roles, [(outputs, IDS)]).lines == ["0.500000 1.000000"]
    answer = answer_of(Facts(task=task), {"hidden": HIDDEN}, [({"hidden": np.ones((3, 9), "f4")}, IDS)])
    assert answer.lines[2] == "6: " + " ".join(["1.000000"] * 8) + " …"


def test_labels_without_names_have_numbers() -> None:
    """Those of an ONNX file."""
    assert said(Facts(task="text-classification"), [0.0, 2.0], scores="raw").lines == [
        "LABEL_1: 2.0000",
        "LABEL_0: 0.0000",
    ]
    assert said(Facts(task="token-classification"), np.zeros((3, 2)), IDS).lines == ["4 5 6: LABEL_0 0.5000"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"scores": "odds"}, "scores is one of softmax, sigmoid, raw, not 'odds'"),
        ({"group": "word"}, "group is one of none, simple, first, max, average, not 'word'"),
        ({"best": 0}, "best is a number from 1 on, not 0"),
    ],
)
def test_what_is_asked_for_is_checked(wanted: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wanted(**wanted)


def test_the_command_offers_what_there_is() -> None:
    """It names them itself, for it loads nothing before it runs."""
    assert (_texts.SCORES, _texts.GROUPS) == (SCORES, GROUPS)
