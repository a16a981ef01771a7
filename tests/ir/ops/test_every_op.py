"""What is asked of every op: an oracle, the laws; and that the laws can fail."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from burnish.ir import OPS, Op, Type
from burnish.ir.box import Box, whole
from burnish.ir.op import Array, Arrays, Axes, Part
from burnish.ir.types import require
from burnish.testing import Example, check_op
from tests.ir.oracles import ORACLES, STRUCTURE, family, ours, without_oracle

FAMILIES = "attention control elementwise experts linear normalization quantization recurrence reduction shape".split()


def test_every_op_has_an_oracle() -> None:
    assert without_oracle() == []
    assert set(ORACLES) <= set(OPS)


def test_an_op_without_an_oracle_is_found(registries: None) -> None:
    class Nameless(Op):
        """Nobody says what it means."""

    Nameless.__module__ = "burnish.ir.ops.elementwise"
    assert without_oracle() == ["nameless"]


def test_every_family_has_a_test_file() -> None:
    covered = {name for f in FAMILIES for name in family(f"ops.{f}")} | set(family("leaves"))
    assert covered == set(ours()) - set(STRUCTURE)


@pytest.mark.parametrize("name", family("leaves"))
def test_a_leaf_obeys_the_laws(name: str) -> None:
    check_op(OPS[name], *ORACLES[name])


@pytest.mark.parametrize("name", ["add", "linear", "concat"])
def test_operands_are_found_by_trying(name: str) -> None:
    check_op(OPS[name])


X = np.arange(6, dtype="f4").reshape(2, 3)


class _Faulty(Op):
    """Twice x."""

    def infer(self, x: Type) -> Type:
        return x

    def eval(self, xp: Arrays, x: Array) -> Array:
        return x + x


def refused(cls: type[Op], *attributes: object, oracle: object = lambda x: 2 * x) -> str:
    with pytest.raises(AssertionError) as error:
        check_op(cls, Example(cls(*attributes), (X,), oracle))
    return str(error.value)


def test_a_sound_op_passes(registries: None) -> None:
    class Twice(_Faulty):
        """Twice x."""

        elementwise = by_last_axis = True

    check_op(Twice, Example(Twice(), (X,), lambda x: 2 * x))


def test_an_op_needs_a_docstring_infer_and_eval(registries: None) -> None:
    class NoDoc(_Faulty):
        scale: float = 1.0

    class NoEval(Op):
        """Twice x."""

        def infer(self, x: Type) -> Type:
            return x

    class NoInfer(Op):
        """Twice x."""

        def eval(self, xp: Arrays, x: Array) -> Array:
            return x

    assert "no docstring" in refused(NoDoc)
    assert "no eval" in refused(NoEval)
    assert "no infer" in refused(NoInfer)


def test_wrong_numbers_are_found(registries: None) -> None:
    class Wrong(_Faulty):
        """Twice x."""

    message = refused(Wrong, oracle=lambda x: 2.00001 * x)
    assert "wrong() of f32[2, 3], in f32: NumPy against the oracle: " in message


def test_numpy_and_jax_must_agree(registries: None) -> None:
    class TwiceOrThrice(_Faulty):
        """Twice x, in NumPy."""

        def eval(self, xp: Arrays, x: Array) -> Array:
            return x + x if xp is np else x * 3

    assert "JAX against NumPy" in refused(TwiceOrThrice)


def test_a_wrong_type_is_found(registries: None) -> None:
    class Column(_Faulty):
        """A column less than it says."""

        def eval(self, xp: Arrays, x: Array) -> Array:
            return x[:, 1:]

    assert "infers" in refused(Column)


def test_changing_an_operand_is_found(registries: None) -> None:
    class Scribble(_Faulty):
        """x, made zero on the way."""

        def eval(self, xp: Arrays, x: Array) -> Array:
            if xp is np:
                x[...] = 0
            return x

    assert "an operand was changed" in refused(Scribble, oracle=None)


def test_a_false_declaration_is_found(registries: None) -> None:
    class Parts(_Faulty):
        """The running sum over rows."""

        def part(self, box: Box, operands: Sequence[Type | None], result: int) -> Part:
            return Part(self, (box,))

        def eval(self, xp: Arrays, x: Array) -> Array:
            return xp.cumsum(x, axis=0)

    class LastAxis(Parts):
        """The running sum over rows."""

        by_last_axis = True

    class Elementwise(_Faulty):
        """x times its rank."""

        elementwise = True

        def eval(self, xp: Arrays, x: Array) -> Array:
            return x * x.dtype.type(x.ndim)

    class Difference(Op):
        """a - b"""

        commutative = True

        def infer(self, a: Type, b: Type) -> Type:
            return a

        def eval(self, xp: Arrays, a: Array, b: Array) -> Array:
            return a - b

    class Cut(Parts):
        """x"""

        def part(self, box: Box, operands: Sequence[Type | None], result: int) -> Part:
            return Part(self, (whole(operands[0].sizes),), whole([s.stop - s.start for s in box]))

        def eval(self, xp: Arrays, x: Array) -> Array:
            return x

    class Planes(_Faulty):
        """Twice x."""

        planewise = True

    class NoPlanes(Planes):
        """Twice x."""

        def infer(self, x: Type) -> Type:
            require(x.format is None, "packed")
            return x

    oracle = lambda x: np.cumsum(x, axis=0)  # noqa: E731
    assert "`part`" in refused(Cut, oracle=lambda x: x)
    assert "other numbers than those of floats" in refused(Planes)
    assert "declares `planewise`, but no example" in refused(NoPlanes)
    assert "`part`" in refused(Parts, oracle=oracle)
    assert "declares `along` 0" in refused(LastAxis, oracle=oracle)
    assert "declares `elementwise`" in refused(Elementwise)
    with pytest.raises(AssertionError, match="declares `commutative`"):
        check_op(Difference, Example(Difference(), (X, X[::-1].copy())))


def test_tokens_that_do_not_run_along_their_axis_are_found(registries: None) -> None:
    """What `along` says decides whether a graph is run in steps, so that a false word would be a wrong number."""

    class Reversed(_Faulty):
        """x, its columns from last to first."""

        def along(self, x: Type) -> tuple[Axes, ...]:
            return ((0, 1),)

        def eval(self, xp: Arrays, x: Array) -> Array:
            return x[:, ::-1] if x.ndim == 2 else x

    class Counted(Reversed):
        """x, with the number of each column added."""

        def eval(self, xp: Arrays, x: Array) -> Array:
            return x + xp.arange(x.shape[1], dtype=x.dtype)

    class Turned(Reversed):
        """x with its axes exchanged."""

        def infer(self, x: Type) -> Type:
            return x.with_shape(x.shape[::-1])

        def eval(self, xp: Arrays, x: Array) -> Array:
            return x.T

    class Told(Turned):
        """x with its axes exchanged, as it says."""

        def along(self, x: Type) -> tuple[Axes, ...]:
            return ((1, 0),)

    assert "declares `along` 1" in refused(Reversed, oracle=None)
    assert "declares `along` 1" in refused(Counted, oracle=None)
    assert "declares `along` 0" in refused(Turned, oracle=None)
    check_op(Told, Example(Told(), (X,)))


def test_what_is_overwritten_is_given_first_and_read_before(registries: None) -> None:
    class Exchange(Op):
        """y, and what was in x."""

        inplace = "x"

        def infer(self, x: Type, y: Type) -> tuple[Type, Type]:
            return x, x

        def eval(self, xp: Arrays, x: Array, y: Array) -> tuple[Array, Array]:
            return y, x

        def overwrite(self, x: Array, y: Array) -> tuple[Array, Array]:
            before = x.copy()
            x[...] = y
            return x, before

    class Late(Exchange):
        """y, and what was in x."""

        def overwrite(self, x: Array, y: Array) -> tuple[Array, Array]:
            x[...] = y
            return x, x

    class Elsewhere(Exchange):
        """y, and what was in x."""

        def overwrite(self, x: Array, y: Array) -> tuple[Array, Array]:
            return y, x

    check_op(Exchange, Example(Exchange(), (X, X + 1)))
    for wrong, message in ((Late, "differs from `eval`"), (Elsewhere, "another array than its operand")):
        with pytest.raises(AssertionError, match=message):
            check_op(wrong, Example(wrong(), (X, X + 1)))


def test_bf16_accumulates_in_f32(registries: None) -> None:
    """Without widening, NumPy's mean of 4,096 bf16 numbers is off by a factor of 8, in silence."""

    class NarrowMean(Op):
        """The mean along the last axis, added up in the operand's own precision."""

        widen = False

        def infer(self, x: Type) -> Type:
            return x.with_shape(x.shape[:-1])

        def eval(self, xp: Arrays, x: Array) -> Array:
            return xp.mean(x, axis=-1)

    mean = Example(NarrowMean(), (np.full((1, 4096), 1.01, "f4"),), lambda x: x.mean(-1), terms=4096)
    with pytest.raises(AssertionError, match="in bf16: NumPy against the oracle"):
        check_op(NarrowMean, mean)


# ------------------------------------------------------------------------------------------ the bounds of sums can fail


class _Sum(Op):
    """The sum along the last axis."""

    def infer(self, x: Type) -> Type:
        return x.with_shape(x.shape[:-1])


def sum_of(op: Op, x: np.ndarray, terms: int) -> Example:
    return Example(op, (x,), lambda x: x.sum(-1), terms=terms, magnitude=lambda x: np.abs(x).sum(-1), units=0)


def test_a_sum_may_be_added_up_in_any_order(registries: None) -> None:
    class OneByOne(_Sum):
        """The sum along the last axis, in NumPy from left to right."""

        def eval(self, xp: Arrays, x: Array) -> Array:
            return xp.add.accumulate(x, axis=-1)[..., -1] if xp is np else xp.sum(x, axis=-1)

    long = np.full((2, 4096), 1.01, "f4") ** 2  # its matrix product is added up so by XLA on some processors
    check_op(OneByOne, sum_of(OneByOne(), long, 4096))
    with pytest.raises(AssertionError, match="in f32: NumPy against the oracle"):
        check_op(OneByOne, sum_of(OneByOne(), long, 16))


def test_terms_that_cancel_leave_their_error(registries: None) -> None:
    class Right(_Sum):
        """The sum along the last axis."""

        def eval(self, xp: Arrays, x: Array) -> Array:
            return xp.sum(x, axis=-1)

    x = np.float32([[1e4 / 3, 0.1, -1e4 / 3]])
    check_op(Right, sum_of(Right(), x, 3))
    with pytest.raises(AssertionError, match="in f32: NumPy against the oracle"):
        check_op(Right, Example(Right(), (x,), lambda x: x.sum(-1), terms=3))


def tf32(x: np.ndarray) -> np.ndarray:
    """With ten bits behind the point, of 23."""
    return (x.astype("f4").view("u4") & 0xFFFFE000).view("f4").astype("f8")


def without_the_last(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[..., -1] = 0
    return x


SUMS = [(n, i) for n, found in ORACLES.items() for i, x in enumerate(found) if 0 < x.terms < 1000]


@pytest.mark.parametrize("mistake", [tf32, without_the_last])
@pytest.mark.parametrize(("name", "index"), SUMS)
def test_a_mistake_in_a_sum_shows(name: str, index: int, mistake: Callable[[np.ndarray], np.ndarray]) -> None:
    example = ORACLES[name][index]
    oracle = example.oracle
    assert oracle is not None
    wrong = replace(example, oracle=lambda x, *more: oracle(mistake(x), *more))
    with pytest.raises(AssertionError, match="in f32: NumPy against the oracle"):
        check_op(OPS[name], wrong)


def test_jax_and_numpy_may_be_off_to_either_side(registries: None) -> None:
    def op(name: str, off: float) -> type[Op]:
        def evaluate(self: Op, xp: Arrays, x: Array) -> Array:
            return x * (1 + off if xp is np else 1 - off)

        return type(name, (_Faulty,), {"eval": evaluate, "__doc__": "x"})

    x = np.ones((1, 3), "f4")
    near, far = op("Near", 3 * 2.0**-23), op("Far", 6 * 2.0**-23)
    check_op(near, Example(near(), (x,), np.array))
    for oracle, message in ((np.array, "NumPy against the oracle"), (None, "JAX against NumPy")):
        with pytest.raises(AssertionError, match=message):
            check_op(far, Example(far(), (x,), oracle))
