"""recover-gather: golden/recover-gather shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["look_ups"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("recover-gather", case)
