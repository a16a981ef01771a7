"""What a pass may do to inputs and outputs."""

import pytest

import burnish
from burnish.debug.signatures import Signature
from burnish.ir import parse
from tests.decoder import decoder

BEFORE = """module {
  graph forward(%x: f32[B, 8], %y: f32[B, 8]) {
    %0: f32[B, 8] = add(%x, %y) <- "add"
    %1: f32[B, 8] = mul(%x, %y) <- "mul"
    return hidden=%0 is hidden, other=%1
  }
}"""


def fault(text: str, restructured: bool) -> str | None:
    return Signature.of(parse(BEFORE)).fault(Signature.of(parse(text)), restructured)


@pytest.mark.parametrize("restructured", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("hidden=%0 is hidden", "states=%0 is hidden", "output hidden is called states now"),
        ("hidden=%0 is hidden, other=%1", "hidden=%0 is hidden", "output other is missing"),
        ("other=%1", "other=%1, third=%1", "output third was added"),
        ("hidden=%0 is hidden, other=%1", "other=%1, hidden=%0 is hidden", "the outputs are in another order"),
        ("hidden=%0 is hidden", "hidden=%0", "output hidden is for nothing now, and was for hidden"),
        ("%y", "%z", "input y is called z now"),
        ("graph forward", "graph run", "the graphs are run; they were forward"),
        ("f32[B, 8]", "f32[B, 4]", "is f32[B, 4] now, and was f32[B, 8]"),
    ],
)
def test_what_no_pass_may_change(old: str, new: str, what: str, restructured: bool) -> None:
    found = fault(BEFORE.replace(old, new), restructured)
    assert found is not None and what in found


def test_what_a_session_feeds_and_keeps_may_be_added_by_a_pass_that_says_so() -> None:
    plain, stateful = decoder(), burnish.optimize(decoder(), "stateful")
    assert Signature.of(plain).fault(Signature.of(stateful), restructured=True) is None
    assert "was added" in str(Signature.of(plain).fault(Signature.of(stateful), restructured=False))
    rolled = burnish.optimize(stateful, "roll-blocks")
    assert Signature.of(stateful).fault(Signature.of(rolled), restructured=True) is None


def test_nothing_changed() -> None:
    assert fault(BEFORE, False) is None
