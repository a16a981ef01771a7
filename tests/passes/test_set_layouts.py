"""set-layouts: golden/set-layouts shows what it does, and where it refuses."""

from collections.abc import Callable

import pytest

import burnish.backends.kernels  # noqa: F401  # registers the layouts of tiles
from burnish.ir.parser import parse
from burnish.passes.engine import Context, PassError
from burnish.passes.pipelines import parse_pass


@pytest.mark.parametrize("layout, case", [("planes", "tied"), ("tiles8", "tiles")])
def test_golden(golden: Callable[[str, str], None], layout: str, case: str) -> None:
    golden(f"set-layouts{{layout={layout}}}", case)


def test_a_layout_that_is_none_names_those_that_are() -> None:
    with pytest.raises(PassError, match=r"no layout 'plane'; there are .*planes"):
        Context(parse("module {\n}\n")).run(parse_pass("set-layouts{layout=plane}"))
