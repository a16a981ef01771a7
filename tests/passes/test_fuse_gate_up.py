"""fuse-gate-up: golden/fuse-gate-up shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["activations", "packed", "refused"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("fuse-gate-up", case)
