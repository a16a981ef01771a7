"""fuse-qkv: golden/fuse-qkv shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["grouped_heads", "packed", "refused"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("fuse-qkv", case)
