"""What an op infers is asked of it once for operands that are alike, unless a guard has a part in it."""

import functools
from collections.abc import Callable

import pytest

from burnish.ir import OPS, InferError, Op, Type
from burnish.ir.dims import Sym
from burnish.ir.guards import Equal, Guard, recording
from burnish.ir.ops.elementwise import Add
from burnish.ir.ops.shape import Unsqueeze
from burnish.ir.registry import Registry

pytestmark = pytest.mark.usefixtures("registries")
X, Y = Type("f32", (2, 3)), Type("f32", (3,))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Type, ...]]:
    """The operands of each `Add.infer`; nothing is known from before."""
    calls: list[tuple[Type, ...]] = []

    def counted(infer: Callable[..., Type]) -> Callable[..., Type]:
        @functools.wraps(infer)
        def call(self: Op, a: Type, b: Type) -> Type:
            calls.append((a, b))
            return infer(self, a, b)

        return call

    monkeypatch.setattr(Add, "infer", counted(Add.infer))
    Registry.changes += 1
    return calls


def test_the_same_operands_are_asked_about_once(asked: list[tuple[Type, ...]]) -> None:
    assert Add().results(X, Y) == Add().results(Type("f32", (2, 3)), Type("f32", (3,))) == (X,)
    assert asked == [(X, Y)]
    Add().results(Y, X)
    assert len(asked) == 2


def test_attributes_are_a_part_of_the_question() -> None:
    assert Unsqueeze(axes=(0,)).results(Y) != Unsqueeze(axes=(1,)).results(Y)


def test_what_is_refused_is_refused_again(asked: list[tuple[Type, ...]]) -> None:
    for _ in range(2):
        with pytest.raises(InferError, match="2 against 3"):
            Add().results(Type("f32", (2,)), Y)
    assert len(asked) == 2


def test_what_rests_on_guards_is_asked_each_time(asked: list[tuple[Type, ...]]) -> None:
    n, m = Type("f32", (Sym("N"),)), Type("f32", (Sym("M"),))
    first, second = list[Guard](), list[Guard]()
    for guards in (first, second):
        with recording(guards):
            Add().results(n, m)
    assert first == second == [Equal(Sym("N"), Sym("M"))]
    with recording([], extend=False), pytest.raises(InferError, match="no guard says"):
        Add().results(n, m)
    with recording(first, extend=False):
        Add().results(n, m)
    assert len(asked) == 4


def test_it_is_asked_anew_where_definitions_changed(asked: list[tuple[Type, ...]]) -> None:
    """Of formats too, which types name."""
    Add().results(X, Y)
    OPS.add("another", Add)
    Add().results(X, Y)
    assert len(asked) == 2


def test_an_op_without_attributes_is_what_its_base_is() -> None:
    class Twice(Add):
        """a + b"""

    assert Twice() == Twice() != Add()
    assert Twice().results(X, Y) == (X,)
    with pytest.raises(TypeError):
        Twice(1)  # type: ignore[call-arg]
