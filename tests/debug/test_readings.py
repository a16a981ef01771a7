"""Every form of a module is given the same to read: a plain graph at once, a stateful one in steps."""

import burnish
from burnish.backends.interpreter import Interpreter
from burnish.debug.numbers import error
from burnish.debug.samples import readings_of
from burnish.testing.ops import gamma
from tests.decoder import TERMS, decoder
from tests.planted import windowed


def test_a_stateful_graph_reads_in_steps_what_a_plain_one_reads_at_once() -> None:
    plain, stateful = windowed(), None
    plain.source = decoder(4).source
    stateful = burnish.optimize(plain, "stateful")
    for reading in readings_of(plain, numbers=[7]):
        whole, steps = (reading(Interpreter(m, kernels={})) for m in (plain, stateful))
        mine, theirs = steps["forward.logits"].beside(whole["forward.logits"])
        assert len(mine) > 0 and error(mine, theirs) < 2 * gamma(TERMS)
        assert len(mine) <= len(whole["forward.logits"].array)  # the last row of each step


def test_of_states_the_rows_in_use_are_there() -> None:
    module = burnish.optimize(decoder(), "stateful")
    reading = list(readings_of(module))[1]
    results = reading(Interpreter(module, kernels={}))
    assert results["forward.k0"].is_state
    assert results["forward.k0"].array.shape == (11 + 6 + 4, 2, 16)
