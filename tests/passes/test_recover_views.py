"""recover-views: golden/recover-views shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["every_index"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("recover-views", case)
