"""recover-rope: golden/recover-rope shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["halves"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("recover-rope", case)
