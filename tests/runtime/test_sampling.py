"""From logits to a token."""

import numpy as np

from burnish.runtime.sampling import greedy, sampler


def test_sampling_is_reproducible_and_follows_the_temperature() -> None:
    logits = np.array([0.0, 1.0, 2.0], np.float32)
    draws = [sampler(1.0, 3)(logits) for _ in range(4)]
    assert len(set(draws)) == 1
    choose = sampler(1.0, 0)
    share = np.bincount([choose(logits) for _ in range(4000)], minlength=3) / 4000
    expected = np.exp(logits) / np.exp(logits).sum()
    assert np.abs(share - expected).max() < 4 * 0.5 / 4000**0.5  # four standard errors
    assert sampler(0.0, 0) is greedy
