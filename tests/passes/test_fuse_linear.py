"""fuse-linear: golden/fuse-linear shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["matmul_bias", "refused"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("fuse-linear", case)
