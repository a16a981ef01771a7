"""What all tests share: the repository on the path, hypothesis without chance, registries that are put back."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `from tests.ir.oracles import …`

settings.register_profile(
    "burnish",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.load_profile("burnish")


@pytest.fixture
def registries() -> Iterator[None]:
    """Ops, formats and layouts that a test defines are gone after it."""
    from burnish.ir import FORMATS, LAYOUTS, OPS

    tables: list[dict] = [OPS, FORMATS, LAYOUTS]
    before = [dict(t) for t in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
