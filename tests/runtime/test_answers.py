"""What the numbers of a model that makes no text say."""

import numpy as np
import pytest

from burnish.ir.signature import EMBEDDING, HIDDEN, LOGITS, Facts
from burnish.runtime.answers import Asked, answer_of

TEXTS = ("who came?", "Anna came late.")
#: [CLS] who came ? [SEP] Anna came late . [SEP]
PAIR = Asked(
    ids=[1, 5, 6, 7, 2, 8, 6, 9, 4, 2],
    types=[0] * 5 + [1] * 5,
    texts=TEXTS,
    spans=[(0, 0), (0, 3), (4, 8), (8, 9), (0, 0), (0, 4), (5, 9), (10, 14), (14, 15), (0, 0)],
    parts=[None, 0, 0, 0, None, 1, 1, 1, 1, None],
)
ROLES = {"logits": LOGITS}


def test_labels_the_likeliest_first() -> None:
    facts = Facts(task="text-classification", labels=("bad", "fair", "good"))
    answer = answer_of(facts, ROLES, {"logits": np.array([0.5, -1.0, 2.0], "f4")}, PAIR)
    assert answer.values == {"labels": {"good": 2.0, "bad": 0.5, "fair": -1.0}}
    assert answer.lines == ["good: 2.0000", "bad: 0.5000", "fair: -1.0000"]


def test_of_labels_of_one_name_the_higher_score_counts() -> None:
    facts = Facts(task="text-classification", labels=("same", "same", "other"))
    answer = answer_of(facts, ROLES, {"logits": np.array([0.25, 0.5, -1.0], "f4")}, PAIR)
    assert answer.values == {"labels": {"same": 0.5, "other": -1.0}}


def test_each_real_token_has_its_label() -> None:
    facts = Facts(task="token-classification", labels=("O", "PERSON"))
    scores = np.tile(np.array([1, 0], "f4"), (10, 1))
    scores[5] = 0, 3
    answer = answer_of(facts, ROLES, {"logits": scores}, PAIR)
    assert answer.lines[3:6] == ["Anna: PERSON 3.0000", "came: O 1.0000", "late: O 1.0000"]
    assert len(answer.lines) == 7  # without special tokens


def test_an_answer_is_a_span_of_the_second_text() -> None:
    facts, roles = Facts(task="question-answering"), {"start_logits": LOGITS, "end_logits": LOGITS}
    start, end = np.zeros(10, "f4"), np.zeros(10, "f4")
    start[[1, 6]], end[[2, 5, 7]] = (9, 4), (9, 6, 5)  # the best lie in the question
    answer = answer_of(facts, roles, {"start_logits": start, "end_logits": end}, PAIR)
    assert answer.values == {"answer": "came late", "score": 9.0, "first_token": 6, "last_token": 7}


def test_a_mask_has_words() -> None:
    asked = Asked([1, 3, 2], mask=3, word=lambda t: f"w{t}")
    scores = np.zeros((3, 8), "f4")
    scores[1, 6], scores[1, 4] = 2, 1
    answer = answer_of(Facts(task="fill-mask"), ROLES, {"logits": scores}, asked)
    assert answer.lines == ["w6 2.0000, w4 1.0000, w0 0.0000, w1 0.0000, w2 0.0000"]


@pytest.mark.parametrize("task", ["", "feature-extraction", "fill-mask"])
def test_else_the_numbers_themselves(task: str) -> None:
    outputs = {"hidden": np.ones((3, 9), "f4"), "embedding": np.array([0.5, 1], "f4")}
    roles = {"hidden": HIDDEN, "embedding": EMBEDDING}
    assert answer_of(Facts(task=task), roles, outputs, Asked([4, 5, 6])).lines == ["0.500000 1.000000"]
    answer = answer_of(Facts(task=task), {"hidden": HIDDEN}, {"hidden": np.ones((3, 9), "f4")}, Asked([4, 5, 6]))
    assert answer.lines[2] == "6: " + " ".join(["1.000000"] * 8) + " …"
