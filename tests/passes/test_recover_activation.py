"""recover-activation: golden/recover-activation shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["all"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("recover-activation", case)
