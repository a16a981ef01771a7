"""The text behind a prompt: in pieces, up to a stop, and what it is made of."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from burnish.runtime.continuation import Continuation
from burnish.runtime.sampling import greedy
from burnish.runtime.tokenizer import Tokenizer
from tests import models

LOGITS = np.log([0.5, 0.25, 0.125, 0.125])


class Says:
    """A model that says just these tokens, whatever it is asked, each with the same logits."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = ids

    def generate(self, prompt: Sequence[int], limit: int, sampler: Any, ends: Any, watch: Any, *_) -> Iterator[int]:
        for step, token in enumerate(self.ids[:limit]):
            watch(step, LOGITS)
            yield token


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    models.byte_tokenizer().save(str(file))
    return Tokenizer.load(file)


def written(ids: Sequence[int], tokenizer: Tokenizer | None, limit: int = 99, **options: Any) -> Continuation:
    model: Any = Says(ids)
    continuation = Continuation(model, tokenizer, **options)
    assert "".join(continuation.write([1], limit, greedy)) == continuation.text
    return continuation


def test_a_text_ends_by_itself_or_at_the_limit(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("one, two")
    for limit, reason in ((len(ids), "length"), (len(ids) + 1, "stop")):
        found = written(ids, tokenizer, limit)
        assert (found.text, found.ids, found.finish_reason) == ("one, two", ids, reason)


def test_nothing_is_asked_for_behind_a_stop(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("one, two, three")
    found = written(ids, tokenizer, stops=[", t"])
    assert (found.text, found.finish_reason) == ("one", "stop")
    assert found.ids == ids[: len(found.ids)] and len(found.ids) < len(ids)


def test_without_a_tokenizer_it_is_numbers() -> None:
    found = written([3, 14], None, limit=2)
    assert found.text == "3 14 "
    assert found.as_json() == {"ids": [3, 14], "finish_reason": "length"}


def test_log_probabilities_of_each_token_and_of_the_likeliest() -> None:
    found = written([2, 0], None, top=2)
    top = [{"id": i, "logprob": round(math.log(p), 6)} for i, p in ((0, 0.5), (1, 0.25))]
    chosen = {"id": 2, "logprob": round(math.log(0.125), 6)}
    assert found.as_json()["logprobs"] == [chosen | {"top": top}, top[0] | {"top": top}]
    head, first, _ = found.table().splitlines()
    assert head == "    log p  token; the likeliest"
    assert first == "  -2.0794  2; 0 -0.6931, 1 -1.3863"
