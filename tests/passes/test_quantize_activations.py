"""quantize-activations: golden/quantize-activations shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["groups", "experts"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("quantize-activations", case)
