"""quantize-weights: golden/quantize-weights shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("options", "case"),
    [
        ("", "model"),
        ("{lm=none,embedding=int8}", "head_in_another"),
        ("{format=q8_0,embedding=q8_0}", "tied"),
    ],
)
def test_golden(golden: Callable[[str, str], None], options: str, case: str) -> None:
    golden(f"quantize-weights{options}", case)
