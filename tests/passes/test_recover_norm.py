"""recover-norm: golden/recover-norm shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["rms", "layer"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("recover-norm", case)
