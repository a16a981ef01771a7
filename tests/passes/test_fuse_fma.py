"""fuse-fma: golden/fuse-fma shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["mul_add", "refused"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("fuse-fma", case)
