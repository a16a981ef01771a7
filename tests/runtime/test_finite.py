"""What is no number ends a run; a word may be ruled out."""

import numpy as np
import pytest

from burnish.runtime.finite import NotFinite, require_finite

NAN, INF = float("nan"), float("inf")


def test_minus_infinity_rules_a_word_out() -> None:
    require_finite(np.array([[-INF, 1.0], [0.0, -INF]]), "x")
    require_finite(np.zeros((0, 4)), "x")
    for bad in ([NAN, 1.0], [INF, 1.0], [-INF, -INF], [-INF, NAN]):
        with pytest.raises(NotFinite, match=r"x: [12] of 4 are"):
            require_finite(np.array([[0.0, 0.0], bad]), "x")
