"""Planted faults are noticed, and named rightly or called inconclusive: `python -m tests.planted` prints them all."""

import pytest

from burnish.debug.check import Checker
from tests.planted import FAULTS, Fault, run, small_llama, tiny_lm

LONG = {  # beside others of their kind
    "one-activation-scaled",
    "dropped-state",
    "removed-state",
    "what-does-not-fit-without-a-state",
    "ring-wrong-once-it-is-full",
    "scales-of-groups-exchanged",
}
SLOW = [f for f in FAULTS.values() if f.model in (tiny_lm, small_llama) or f.backend or f.name in LONG]
FAST = [f for f in FAULTS.values() if f not in SLOW]


@pytest.mark.parametrize("fault", FAST, ids=lambda f: f.name)
def test_fault(fault: Fault) -> None:
    ran = run(fault)
    assert ran.noticed
    assert ran.is_right, ran.found


@pytest.mark.slow
@pytest.mark.parametrize("fault", SLOW, ids=lambda f: f.name)
def test_fault_that_takes_longer(fault: Fault) -> None:
    ran = run(fault)
    assert ran.noticed
    assert ran.is_right, ran.found


def test_the_models_are_right_without_a_fault() -> None:
    for model in {f.model for f in FAST}:
        module = model()
        pipeline = "default,stateful,quantize-weights" if module.facts.makes_text else "default"
        assert [v.fault for v in Checker(module)(pipeline) if v.fault is not None] == []
