"""From logits to a token: transformers' processors are the oracle, in float64."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as oracle

from burnish.runtime.sampling import Sampling, greedy, log_probs

IDS = [3, 3, 17, 250, 8, 3]


def processed(logits: np.ndarray, ids: list[int], settings: dict[str, Any]) -> np.ndarray:
    """softmax of what transformers makes of the logits, in the order of its `_get_logits_processor`."""
    made = {
        "repetition_penalty": oracle.RepetitionPenaltyLogitsProcessor,
        "temperature": oracle.TemperatureLogitsWarper,
        "top_k": oracle.TopKLogitsWarper,
        "top_p": oracle.TopPLogitsWarper,
        "min_p": oracle.MinPLogitsWarper,
    }
    scores = torch.tensor(logits, dtype=torch.float64)[None]
    for name, cls in made.items():
        if name in settings:
            scores = cls(settings[name])(torch.tensor([ids]), scores)
    return scores.softmax(-1)[0].numpy()


CHOICES: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (None, 1.3, 0.7),
    "temperature": (None, 0.3, 1.7),
    "top_k": (None, 1, 20, 5000),
    "top_p": (None, 0.0, 0.5, 0.95),
    "min_p": (None, 0.05, 1.0),
}


def test_probabilities_are_transformers_in_every_combination() -> None:
    rng = np.random.default_rng(0)
    for i, values in enumerate(itertools.product(*CHOICES.values())):
        settings = {k: v for k, v in zip(CHOICES, values, strict=True) if v is not None}
        logits = rng.normal(0, 1 + i % 5, 300).astype(np.float32)
        expected = processed(logits, IDS, settings)
        p = Sampling(**settings).probabilities(logits, IDS)
        assert ((p > 0) == (expected > 0)).all(), settings
        assert np.abs(p - expected).max() < 1e-6, settings


def test_the_order_matters() -> None:
    """What a hot temperature flattens lets more tokens through to top-p; a penalty can push one out of top-k."""
    logits = np.array([4.0, 3.0, 2.0, 1.0, 0.0])
    assert np.count_nonzero(Sampling(top_p=0.7).probabilities(logits)) == 2
    assert np.count_nonzero(Sampling(temperature=4.0, top_p=0.7).probabilities(logits)) == 3
    kept = Sampling(top_k=1, repetition_penalty=2.0).probabilities(logits, [0])
    assert kept.tolist() == [0, 1, 0, 0, 0]


def test_equals() -> None:
    """Top-k keeps what is as likely as the last, as transformers does; top-p keeps the first of equals first."""
    logits = np.array([0.0, 2.0, 2.0, 2.0])
    assert (Sampling(top_k=2).probabilities(logits) > 0).tolist() == [False, True, True, True]
    assert (Sampling(top_p=0.4).probabilities(logits) > 0).tolist() == [False, True, True, False]
    assert greedy(logits) == Sampling(temperature=0)(logits) == Sampling(top_p=0.0)(logits) == 1


def test_what_is_left_out_is_never_drawn() -> None:
    logits = np.random.default_rng(1).normal(0, 3, 50)
    sampling = Sampling(temperature=2.0, top_k=10, top_p=0.9, min_p=0.02)
    allowed = set(np.flatnonzero(sampling.probabilities(logits)).tolist())
    assert 1 < len(allowed) < 10
    assert {sampling(logits) for _ in range(2000)} == allowed
    impossible = np.array([-np.inf, 0.0, -np.inf])
    assert Sampling()(impossible) == Sampling(min_p=0.5, top_k=2, top_p=0.5)(impossible) == 1


def test_draws_follow_the_probabilities_and_the_seed() -> None:
    logits = np.array([0.0, 1.0, 2.0], np.float32)
    draws = [Sampling(seed=3) for _ in range(2)]
    assert [draws[0](logits) for _ in range(40)] == [draws[1](logits) for _ in range(40)]
    choose = Sampling()
    share = np.bincount([choose(logits) for _ in range(4000)], minlength=3) / 4000
    expected = np.exp(logits) / np.exp(logits).sum()
    assert np.abs(share - expected).max() < 4 * 0.5 / 4000**0.5  # four standard errors


def test_the_penalty_goes_for_greedy_too() -> None:
    logits = np.array([1.0, 3.0, 2.9, -1.0])
    assert Sampling(temperature=0, repetition_penalty=1.1)(logits, [1]) == 2
    assert Sampling(temperature=0, repetition_penalty=1.1)(logits, [1, 2]) == 1
    assert Sampling(temperature=0, repetition_penalty=1.1)(logits, [9]) == 1, "a token that the head does not score"


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"top_k": -1},
        {"top_p": 1.5}, {"min_p": -0.1}, {"repetition_penalty": 0.0}, {"repetition_penalty": float("nan")},
        {"seed": -1},
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]  # floats and integers


def test_log_probabilities_are_the_models() -> None:
    logits = np.random.default_rng(2).normal(0, 4, 100).astype(np.float32)
    expected = torch.tensor(logits, dtype=torch.float64).log_softmax(0)
    chosen, top = log_probs(logits, 5, 4)
    assert chosen.id == 5 and abs(chosen.value - float(expected[5])) < 1e-6
    best = expected.topk(4)
    assert [t.id for t in top] == best.indices.tolist()
    assert np.abs(np.array([t.value for t in top]) - best.values.numpy()).max() < 1e-6
