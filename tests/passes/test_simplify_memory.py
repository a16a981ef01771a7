"""simplify-memory: golden/simplify-memory shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["unit_dimensions", "chains", "no_ops", "matrices", "broadcasts", "slices_joined"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("simplify-memory", case)
