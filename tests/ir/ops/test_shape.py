"""Memory operators: the same numbers in another shape, order or place."""

import numpy as np
import pytest

from burnish.ir import OPS, InferError, Op, Type
from burnish.ir.dims import Dim, Sym
from burnish.ir.format import Layout
from burnish.ir.guards import Guard, recording
from burnish.testing import check_op, run_jax, run_numpy
from tests.ir.oracles import ORACLES, family, op


@pytest.mark.parametrize("name", family("ops.shape"))
def test_an_op_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


B, S, T = Sym("B"), Sym("S"), Sym("T")


def test_reshape_keeps_the_number_of_elements() -> None:
    x = Type("f32", (B, S, 64))
    assert op("reshape", shape=(B, S, 4, 16)).results(x)[0].shape == (B, S, 4, 16)
    assert op("reshape", shape=(B * S, -1)).results(x)[0].shape == (B * S, 64)
    for shape, message in [
        ((B, S, 63), "has not as many"),
        ((B, 3, -1), "does not divide"),
        ((-1, -1), "not divide|neg"),
    ]:
        with pytest.raises(InferError, match=message):
            op("reshape", shape=shape).results(x)


def test_a_negative_size_is_refused() -> None:
    for shape in ((-2, -3), (-1, -1)):
        with pytest.raises(InferError):
            op("reshape", shape=shape).results(Type("f32", (6,)))


def test_broadcast_to_assumes_and_refuses() -> None:
    assumed: list = []
    with recording(assumed):
        assert op("broadcast_to", shape=(B, T)).results(Type("f32", (S,)))[0].shape == (B, T)
    assert list(map(str, assumed)) == ["equal(T, S)"]
    for shape in ((2,), (3, 2), (4, 1)):
        with pytest.raises(InferError):
            op("broadcast_to", shape=shape).results(Type("f32", (4, 3)))


def test_concat_adds_symbols_up() -> None:
    parts = [Type("f32", (B, d)) for d in (S, 1, S)]
    assert op("concat", axis=-1).results(*parts)[0].shape == (B, S * 2 + 1)


def test_nothing_to_join_is_refused() -> None:
    for joining in (op("concat", axis=0), op("stack")):
        with pytest.raises(InferError):
            joining.results()


def test_packed_rows_join_but_not_their_insides() -> None:
    x = Type("q8_0", (4, 64), "planes")
    assert op("concat", axis=0).results(x, x) == (Type("q8_0", (8, 64), "planes"),)
    for axis in (1, -1, -2):  # counted from the end, an axis of a plane is another one
        with pytest.raises(InferError, match="counted from the front"):
            op("concat", axis=axis).results(x, x)
    with pytest.raises(InferError, match="concat"):
        op("concat", axis=0).results(x, Type("q8_0", (4, 64)))


@pytest.mark.parametrize(
    ("applied", "shape"),
    [
        (op("reshape", shape=(2, 3, 64)), (2, 3, 64)),
        (op("reshape", shape=(-1, 2, 64)), (3, 2, 64)),
        (op("transpose", perm=(0, 1)), (6, 64)),
        (op("squeeze", axes=()), (6, 64)),
        (op("unsqueeze", axes=(0, 2)), (1, 6, 1, 64)),
        (op("slice", axis=0, start=1, stop=4), (3, 64)),
        (op("stack"), (1, 6, 64)),
        (op("index", index=5), (64,)),
    ],
)
def test_rows_of_a_packed_value_move_as_those_of_any_other(applied: Op, shape: tuple[int, ...]) -> None:
    for layout in ("", "planes"):
        assert applied.results(Type("q4_0", (6, 64), layout)) == (Type("q4_0", shape, layout),)


@pytest.mark.parametrize(
    "applied",
    [
        op("reshape", shape=(12, 32)),
        op("reshape", shape=(6, 2, 32)),
        op("reshape", shape=(384,)),
        op("transpose", perm=(1, 0)),
        op("unsqueeze", axes=(2,)),
        op("broadcast_to", shape=(2, 6, 64)),
        op("split", axis=1, sizes=(32, 32)),
        op("split", axis=-2, sizes=(2, 4)),
        op("slice", axis=1, start=0, stop=32),
        op("slice", axis=-2, start=0, stop=2),
    ],
)
def test_the_groups_of_a_packed_value_stay_together(applied: Op) -> None:
    with pytest.raises(InferError, match="is packed"):
        applied.results(Type("q4_0", (6, 64)))


def test_what_has_rows_no_more_is_refused() -> None:
    vector, at = Type("int8", (1,)), Type("i32", (2,))
    for applied, more in ((op("squeeze", axes=(0,)), ()), (op("index", index=0), ()), (op("gather", axis=0), (at,))):
        with pytest.raises(InferError, match="is packed"):
            applied.results(vector, *more)


def test_rows_are_moved_before_they_are_laid_out_for_a_kernel(registries: None) -> None:
    class Interleaved(Layout):
        """Rows side by side."""

        name = "interleaved"
        by_rows = False

    laid = Type("q4_0", (6, 64), "interleaved")
    for applied in (op("reshape", shape=(2, 3, 64)), op("concat", axis=0), op("index", index=0)):
        with pytest.raises(InferError, match="before it is laid out"):
            applied.results(laid)
    assert op("stack").results(laid, laid) == (laid.with_shape((2, 6, 64)),), "whole matrices stay as they lie"


def test_slices_and_splits_are_checked() -> None:
    x = Type("f32", (S, 8))
    assert op("slice", axis=1, start=2, stop=8).results(x)[0].shape == (S, 6)
    for start, stop in ((5, 2), (-1, 4), (9, 12), (2, 99)):
        with pytest.raises(InferError, match="slice"):
            op("slice", axis=1, start=start, stop=stop).results(x)
    with pytest.raises(InferError, match="do not add up"):
        op("split", axis=1, sizes=(4, 3)).results(x)


@pytest.mark.parametrize(
    ("applied", "shapes", "guards"),
    [
        (op("slice", axis=0, start=0, stop=8), [(S,)], ["at_most(8, S)"]),
        (op("slice", axis=0, start=1, stop=S), [(S,)], ["at_most(1, S)"]),
        (op("slice", axis=0, start=B, stop=B + S), [(T,)], ["at_most({B + S}, T)"]),
        (op("slice", axis=0, start=T, stop=S), [(S,)], ["at_most(T, S)"]),
        (op("slice", axis=0, start=0, stop=S), [(S,)], []),
        (op("index", index=3), [(S, 2)], ["at_most(4, S)"]),
        (op("split", axis=0, sizes=(2, B)), [(S,)], ["equal({B + 2}, S)"]),
        (op("split", axis=0, sizes=(2, S - 2)), [(S,)], ["at_most(0, {S - 2})"]),
        (op("squeeze", axes=(0,)), [(S, 2)], ["equal(S, 1)"]),
        (op("broadcast_to", shape=(S - 1, 2)), [(2,)], ["at_most(0, {S - 1})"]),
        (op("iota", size=S - T), [], ["at_most(0, {S - T})"]),
        (op("gather_elements", axis=1), [(S, T), (B, 2)], ["at_most(B, S)"]),
        (op("last_row"), [(B, S, 4), (B,)], ["at_most(1, S)"]),
        (op("relative_bias", query=S, key=S - 1, bidirectional=False), [(8, 2)], ["at_most(0, {S - 1})"]),
    ],
)
def test_what_must_fit_is_assumed_to(applied: Op, shapes: list[tuple[Dim, ...]], guards: list[str]) -> None:
    types = [Type("i32" if i else "f32", shape) for i, shape in enumerate(shapes)]
    assumed: list[Guard] = []
    with recording(assumed):
        before = applied.results(*types)
        assert applied.results(*types) == before
    assert list(map(str, assumed)) == guards
    if guards:
        with pytest.raises(InferError, match="no guard says"):
            applied.results(*types)


def test_what_never_fits_is_refused() -> None:
    with recording([]):
        for wrong in (op("slice", axis=0, start=S, stop=S + 1), op("slice", axis=0, start=S, stop=S - 1)):
            with pytest.raises(InferError, match="is more than"):
                wrong.results(Type("f32", (S,)))
        with pytest.raises(InferError, match="3 is more than 2"):
            op("gather_elements", axis=1).results(Type("f32", (2, 4)), Type("i32", (3, 1)))


def test_axes_are_checked() -> None:
    x = Type("f32", (1, 8))
    for wrong in (
        op("squeeze", axes=(1,)),
        op("squeeze", axes=(2,)),
        op("unsqueeze", axes=(0, 0)),
        op("unsqueeze", axes=(3,)),
    ):
        with pytest.raises(InferError):
            wrong.results(x)
    with pytest.raises(InferError, match="does not permute"):
        op("transpose", perm=(0, 0)).results(x)
    with pytest.raises(InferError, match="no axis 2"):
        op("concat", axis=2).results(x)
    with pytest.raises(InferError, match="no row 1"):
        op("index", index=1).results(x)


def test_out_of_bounds_is_clipped_alike() -> None:
    x, at = np.arange(5, dtype="f4"), np.array([-1, -5, -6, 4, 5, 2**31 - 1], "i4")
    for run in (run_numpy, run_jax):
        assert run(op("gather", axis=0), [x, at])[0].tolist() == [4, 0, 0, 4, 4, 4]


def test_iota_is_of_numbers() -> None:
    for dtype in ("bool", "q8_0", "f99"):
        with pytest.raises(InferError, match="iota"):
            op("iota", size=32, dtype=dtype).results()


@pytest.mark.parametrize(
    ("applied", "shapes", "along"),
    [
        (op("transpose", perm=(1, 2, 0)), [(B, S, 4)], [(2, 0, 1)]),
        (op("squeeze", axes=(1,)), [(B, 1, S)], [(0, None, 1)]),
        (op("unsqueeze", axes=(0, 2)), [(B, S)], [(1, 3)]),
        (op("broadcast_to", shape=(B, S, 4)), [(S, 1)], [(1, 2)]),
        (op("concat", axis=-1), [(B, 2), (B, 3)], [(0, None), (0, None)]),
        (op("split", axis=0, sizes=(1, 2)), [(3, S)], [(None, 1)]),
        (op("slice", axis=1, start=0, stop=2), [(B, 3, S)], [(0, None, 2)]),
        (op("stack"), [(B, S), (B, S)], [(1, 2), (1, 2)]),
        (op("index", index=0), [(2, B, S)], [(None, 0, 1)]),
        (op("gather", axis=1), [(B, 9, 4), (S, T)], [(0, None, 3), (1, 2)]),
        (op("gather_elements", axis=1), [(B, 9, 4), (B, S, 4)], [(0, None, 2), (0, 1, 2)]),
        (op("gather_nd"), [(9, 8, B), (S, T, 2)], [(None, None, 2), (0, 1, None)]),
    ],
    ids=lambda x: x.name if isinstance(x, Op) else "",
)
def test_each_axis_runs_along_one_of_the_results(
    applied: Op, shapes: list[tuple[Dim, ...]], along: list[tuple[int | None, ...]]
) -> None:
    """All that do: the laws find those that do not, but not those that are forgotten."""
    types = [Type("i32" if i and "gather" in applied.name else "f32", shape) for i, shape in enumerate(shapes)]
    assert list(applied.along(*types)) == along
