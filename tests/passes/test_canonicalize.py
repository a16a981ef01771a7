"""canonicalize: golden/canonicalize shows what it does."""

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("case", ["fold_join_erase"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("canonicalize", case)
