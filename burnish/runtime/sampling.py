"""Which token comes next: from logits to a choice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["Choose", "greedy", "sampler"]

Choose = Callable[[np.ndarray], int]  # logits[V] -> token


def greedy(logits: np.ndarray) -> int:
    """The likeliest token; the first of equals."""
    return int(np.argmax(logits))


def sampler(temperature: float, seed: int) -> Choose:
    """`choose` for `generate`: greedy at temperature 0, else softmax(logits / temperature), reproducible by seed."""
    if temperature == 0:
        return greedy
    rng = np.random.default_rng(seed)

    def choose(logits: np.ndarray) -> int:
        scaled = logits.astype(np.float64) / temperature
        p = np.exp(scaled - scaled.max())
        return int(np.searchsorted(np.cumsum(p) / p.sum(), rng.random(), side="right").clip(0, len(p) - 1))

    return choose
