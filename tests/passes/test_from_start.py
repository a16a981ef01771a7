"""from-start: golden/from-start shows what it does."""

from collections.abc import Callable

import pytest

from burnish.ir.dims import Sym
from burnish.ir.guards import AtMost
from burnish.ir.parser import parse
from burnish.passes.engine import PassError
from burnish.passes.pipelines import run_passes
from tests.conftest import GOLDEN


@pytest.mark.parametrize("case", ["past"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("from-start", case)


def test_what_makes_no_text_is_left_as_it_is() -> None:
    """An encoder's mask says which tokens are real: nothing else does."""
    text = "graph forward(%ids: i32[B, S] is tokens, %mask: i32[B, S] is mask) {\n return y=%mask\n}"
    module = parse(f"module {{\n{text}\n}}")
    before = str(module)
    assert str(run_passes(module, "from-start").module) == before


def test_what_was_assumed_of_all_tokens_is_assumed_of_those_from_the_start() -> None:
    module = parse((GOLDEN / "from-start" / "past.before.graph").read_text("utf-8"))
    module.guards.append(AtMost(Sym("S") + Sym("p"), 9))
    assert AtMost(Sym("S"), 9) in run_passes(module, "from-start").module.guards


def test_tokens_that_see_what_follows_them_are_refused() -> None:
    """The example, of which the attention is over what came before and all of a step."""
    text = (GOLDEN / "from-start" / "past.before.graph").read_text("utf-8")
    module = parse(text.replace("attention(%2, %7, %12, _, _, %22,", "attention(%2, %7, %12, _, _, %16,"))
    with pytest.raises(PassError, match="attention cannot go on from step to step"):
        run_passes(module, "stateful")


def test_an_input_as_long_as_the_past_is_given_back_too() -> None:
    text = (GOLDEN / "from-start" / "past.before.graph").read_text("utf-8")
    module = parse(text.replace("4, p, 4] is earlier(batch=0, axis=2))", "4, p, 4])"))
    with pytest.raises(PassError, match=r"input past_key_values\.0\.value is as long as what came before"):
        run_passes(module, "from-start")
