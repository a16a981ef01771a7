"""recover-attention: golden/recover-attention shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["divided", "grouped_heads", "one_group"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("recover-attention", case)
