"""recover-mask: golden/recover-mask shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["masks"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("recover-mask", case)
