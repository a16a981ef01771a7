"""A table that keeps what was asked for last."""

import numpy as np
import pytest

from burnish.backends.interpreter import Interpreter
from burnish.backends.recent import MOST, Recent
from burnish.backends.xla import Xla
from burnish.ir import parse


def test_what_was_not_asked_for_the_longest_goes() -> None:
    table, made = Recent[str](2), list[str]()

    def ask(key: str) -> str:
        return table.of(key, lambda: made.append(key) or key.upper())

    assert [ask(k) for k in "abacab"] == list("ABACAB")
    assert made == list("abcb"), "a was asked for again before c came, b was not"
    assert table == {"a": "A", "b": "B"}


def test_what_cannot_be_made_takes_no_place() -> None:
    table = Recent[str](1)
    table.of("a", lambda: "A")
    with pytest.raises(ZeroDivisionError):
        table.of("b", lambda: str(1 // 0))
    assert table == {"a": "A"}


ADD = "module { graph forward(%x: f32[N]) { %0: f32[N] = add(%x, %x) return y=%0 } }"


def test_plans_are_bounded() -> None:
    run = Interpreter(parse(ADD))
    for n in range(MOST + 3):
        assert run("forward", {"x": np.ones(n, "f4")})["y"].tolist() == [2.0] * n
    assert [dict(key[1:])["N"] for key in run.plans] == list(range(3, MOST + 3))


def test_compiled_functions_are_bounded_and_compiled_again_when_needed() -> None:
    run = Xla(parse(ADD), compiled=Recent(2))
    for n, compilations in ((1, 1), (2, 2), (1, 2), (3, 3), (1, 3), (2, 4)):
        assert run.to_numpy(run("forward", {"x": np.ones(n, "f4")})["y"]).tolist() == [2.0] * n
        assert (run.compilations, len(run.compiled)) == (compilations, min(compilations, 2))
