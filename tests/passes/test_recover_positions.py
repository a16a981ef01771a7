"""recover-positions: golden/recover-positions shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["rope_and_table"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("recover-positions", case)
