"""Which token comes next: from logits to a choice.

A sampler is a function of the logits and of the tokens so far: `greedy`, a `Sampling`, or one's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

__all__ = ["LogProb", "Sampler", "Sampling", "greedy", "log_probs"]

Sampler = Callable[[np.ndarray, Sequence[int]], int]  # logits[V], the tokens so far -> the next one


def greedy(logits: np.ndarray, ids: Sequence[int] = ()) -> int:
    """The likeliest token; the first of equals."""
    return int(np.argmax(logits))


@dataclass
class Sampling:
    """Draws tokens. What is asked for is done in transformers' order, by its formulas.

    First the penalty for tokens that came already, then temperature, top-k, top-p and min-p, each on what the one
    before it left. The same seed gives the same draws. Raises ValueError for what is out of range.
    """

    #: softmax(logits / temperature); 0 takes the likeliest
    temperature: float = 1.0
    #: the likeliest are kept, and what is as likely as the last of them; 0 keeps all
    top_k: int = 0
    #: the likeliest are kept until their sum reaches it
    top_p: float = 1.0
    #: those are kept that are at least so likely as this share of the likeliest
    min_p: float = 0.0
    #: above 1, what came already is less likely (CTRL, arXiv:1909.05858)
    repetition_penalty: float = 1.0
    seed: int = 0
    _rng: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        bounds = {"temperature": 1e9, "top_k": 1e9, "top_p": 1, "min_p": 1, "repetition_penalty": 1e9, "seed": 2**64}
        for name, most in bounds.items():
            if not 0 <= (value := getattr(self, name)) <= most:
                raise ValueError(f"{name} is a number from 0 to {most:g}, not {value}")
        if self.repetition_penalty == 0:
            raise ValueError("repetition_penalty is 1 for none, and not 0")
        self._rng = np.random.default_rng(self.seed)

    def __call__(self, logits: np.ndarray, ids: Sequence[int] = ()) -> int:
        """A token, drawn."""
        if self.temperature == 0:
            return greedy(self._penalized(logits, ids))
        sums = np.cumsum(self.probabilities(logits, ids))
        return int(np.searchsorted(sums / sums[-1], self._rng.random(), side="right"))  # below 1, the last sum

    def probabilities(self, logits: np.ndarray, ids: Sequence[int] = ()) -> np.ndarray:
        """What each token is drawn with, f64[V], above temperature 0; 0 for those that are left out."""
        scores = self._penalized(logits, ids) / self.temperature
        if 0 < self.top_k < len(scores):
            scores[scores < np.partition(scores, -self.top_k)[-self.top_k]] = -np.inf
        if self.top_p < 1:
            order = np.flatnonzero(scores > -np.inf)
            order = order[np.argsort(-scores[order], kind="stable")]  # of equals, the first is kept first
            rest = np.cumsum(_softmax(scores)[order][::-1])[::-1]  # the sum of each and of all that are less likely
            kept = rest > 1 - self.top_p
            kept[0] = True
            scores[order[~kept]] = -np.inf
        if self.min_p > 0:
            p = _softmax(scores)
            scores[p < self.min_p * p.max()] = -np.inf
        return _softmax(scores)

    def _penalized(self, logits: np.ndarray, ids: Sequence[int]) -> np.ndarray:
        scores = logits.astype(np.float64)
        if self.repetition_penalty != 1 and len(ids):
            seen = np.unique(np.asarray(ids))
            seen = seen[seen < len(scores)]  # a table of tokens may be longer than the head
            x = scores[seen]
            scores[seen] = np.where(x < 0, x * self.repetition_penalty, x / self.repetition_penalty)
        return scores


class LogProb(NamedTuple):
    """A token, and the logarithm of its probability."""

    id: int
    value: float


def log_probs(logits: np.ndarray, token: int, top: int) -> tuple[LogProb, list[LogProb]]:
    """A token's, and those of the `top` likeliest, as the model has them: without temperature, penalty or limits."""
    x = logits.astype(np.float64)
    x -= x.max()
    x -= np.log(np.exp(x).sum())
    order = np.argsort(-x, kind="stable")[:top]
    return LogProb(token, float(x[token])), [LogProb(int(i), float(x[i])) for i in order]


def _softmax(scores: np.ndarray) -> np.ndarray:
    p = np.exp(scores - scores.max())
    return np.asarray(p / p.sum())
