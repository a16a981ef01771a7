"""Which calls make a phase: those that may follow each other row by row."""

import numpy as np

from burnish.backends.native.cpu import INSTRUCTION_SETS
from burnish.backends.native.emit import Emitter, phases_of
from burnish.backends.native.tensor import Memory, Tensor


def emitter() -> Emitter:
    return Emitter(INSTRUCTION_SETS[0], threads=2)


def tensor(*shape: int) -> Tensor:
    array = np.empty(shape, np.float32)
    return Tensor(Memory(array, "made"), array)


def sizes(e: Emitter) -> list[int]:
    return [len(p.calls) for p in phases_of(e.calls)]


def rows(e: Emitter, items: int, *reads: Tensor, to: Tensor) -> None:
    e.call("elementwise:activations", "silu", *reads, to, items=items, writes=[to], by_row=True)


def test_calls_on_the_same_rows_follow_each_other() -> None:
    e, (x, y, z) = emitter(), (tensor(2, 3, 8) for _ in range(3))
    rows(e, 6, x, to=y)
    rows(e, 6, y, to=z)
    rows(e, 6, z, y, to=z)
    assert sizes(e) == [3]


def test_another_number_of_rows_waits() -> None:
    e, x, y = emitter(), tensor(6, 8), tensor(6, 8)
    rows(e, 6, x, to=y)
    rows(e, 12, y, to=tensor(12, 4))
    assert sizes(e) == [1, 1]


def test_what_is_in_no_rows_waits() -> None:
    e, x, y = emitter(), tensor(6, 8), tensor(6, 8)
    rows(e, 6, x, to=y)
    e.call("linear:q4_0", "linear", y, items=6, writes=[tensor(6, 8)])
    rows(e, 6, x, to=tensor(6, 8))
    assert sizes(e) == [1, 1, 1]


def test_rows_in_another_order_wait() -> None:
    """As many rows, but the third of them is another one."""
    e, x, y = emitter(), tensor(2, 3, 8), tensor(2, 3, 8)
    rows(e, 6, x, to=y)
    rows(e, 6, y.view(y.array.swapaxes(0, 1)), to=tensor(3, 2, 8))
    assert sizes(e) == [1, 1]


def test_rows_that_are_shifted_wait() -> None:
    """What an item reads is the row that another one writes."""
    e, whole = emitter(), tensor(4, 8)
    rows(e, 3, tensor(3, 8), to=whole.view(whole.array[1:]))
    rows(e, 3, whole.view(whole.array[:3]), to=tensor(3, 8))
    assert sizes(e) == [1, 1]


def test_parts_of_rows_are_rows_of_the_whole() -> None:
    e, x, y = emitter(), tensor(6, 8), tensor(6, 16)
    rows(e, 6, x, to=y.view(y.array[:, :8]))
    rows(e, 6, x, to=y.view(y.array[:, 8:]))
    rows(e, 6, y.view(y.array.reshape(6, 4, 4)[:, 1:3]), to=tensor(6, 2, 4))
    assert sizes(e) == [3]


def test_a_call_without_items_is_none() -> None:
    e = emitter()
    rows(e, 0, tensor(0, 8), to=tensor(0, 8))
    assert not e.calls


def test_an_item_is_worth_what_all_calls_of_a_phase_do() -> None:
    """As few rows are worth taking as the dearest of them says."""
    e, x, y = emitter(), tensor(64, 8), tensor(64, 8)
    e.call("positions", "positions", x, items=64, writes=[x], by_row=True, grain=1024)
    e.call("rope", "halves", x, y, items=64, writes=[y], by_row=True, grain=4)
    (phase,) = phases_of(e.calls)
    assert phase.grain == 4
