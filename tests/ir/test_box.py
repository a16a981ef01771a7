"""Boxes, and what becomes of one when a tensor gets another shape."""

import itertools
import math

import numpy as np
import pytest

from burnish.ir.box import Box, cut, reshaped, whole

SHAPES = [
    ((6, 5), (2, 3, 5)),
    ((2, 3, 5), (6, 5)),
    ((2, 3, 4, 5), (6, 2, 2, 5)),
    ((4, 6, 5), (3, 8, 5)),
    ((1, 4, 1, 3), (2, 1, 2, 3, 1)),
    ((12,), (3, 4)),
    ((1, 1), ()),
]


def ranges(shape: tuple[int, ...]) -> list[Box]:
    """Every box that is cut along one axis at most, and a few that are cut along all."""
    every = [[slice(a, b) for a, b in itertools.combinations(range(d + 1), 2)] for d in shape]
    one = [(*whole(shape[:i]), s, *whole(shape[i + 1 :])) for i, cuts in enumerate(every) for s in cuts]
    return [whole(shape), *one, *(tuple(c[k % len(c)] for c in every) for k in range(7))]


@pytest.mark.parametrize(("before", "after"), SHAPES)
def test_a_box_of_another_shape_holds_the_same_elements(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    numbers = np.arange(math.prod(before))
    for box in ranges(after):
        held, source = reshaped(box, after, before)
        made = cut(numbers.reshape(before), source).reshape([s.stop - s.start for s in held])
        assert np.array_equal(made, cut(numbers.reshape(after), held))
        assert all(h.start <= b.start and b.stop <= h.stop for h, b in zip(held, box, strict=True))


def test_what_need_not_be_read_is_not() -> None:
    rows = lambda *box: (*(slice(*b) for b in box), slice(0, 5))  # noqa: E731
    for box, after, before, held, source in [
        (rows((1, 2), (0, 2)), (2, 3), (6,), rows((1, 2), (0, 2)), rows((3, 5))),  # an axis split
        (rows((2, 4)), (6,), (3, 2), rows((2, 4)), rows((1, 2), (0, 2))),  # two joined
        (rows((1, 2)), (6,), (3, 2), rows((1, 2)), rows((0, 1), (1, 2))),
        (rows((1, 4)), (6,), (3, 2), rows((0, 4)), rows((0, 2), (0, 2))),  # cut through pairs: these whole
        (rows((0, 2), (1, 2)), (2, 3), (6,), rows((0, 2), (0, 3)), rows((0, 6))),  # not a range
        (rows((1, 2), (0, 2)), (2, 2), (2, 2), rows((1, 2), (0, 2)), rows((1, 2), (0, 2))),
    ]:
        assert reshaped(box, (*after, 5), (*before, 5)) == (held, source)
