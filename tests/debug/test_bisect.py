"""The search for the culprits: faults as formulas over applications, and a fault planted in a graph."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable

import pytest

from burnish.debug.bisect import MOST_RUNS, Bisection, Culprit, Outcome, bisect, changes_of, probe_of
from burnish.debug.check import Checker
from burnish.debug.controllers import Only, Skip
from burnish.passes.engine import Application, Controller
from tests.debug.test_check import plant
from tests.decoder import PIPELINE, decoder

Formula = Callable[[set[str]], bool]


def application(name: str) -> Application:
    return Application(name, "pass", "Rule", "exact", "forward", f"at.{name}", (name,), "op()")


def searched(names: Iterable[str], fails: Formula, needs: dict[str, str] | None = None) -> Bisection:
    """Bisect a run whose applications are `names`, in order; one that `needs` another fits only after it."""

    def probe(controller: Controller, quick: bool = False) -> Outcome:
        allowed: dict[str, Application] = {}
        for a in map(application, names):
            needed = (needs or {}).get(a.id)
            if (needed is None or needed in allowed) and controller(a) is None:
                allowed[a.id] = a
        return Outcome("wrong" if fails(set(allowed)) else None, tuple(allowed.values()))

    return bisect(probe)


def culprits(found: Bisection) -> list[list[str]]:
    return [[a.id for a in c.applications] for c in found.culprits or []]


LETTERS = "abcdefghijklmnop"


@pytest.mark.parametrize("culprit", LETTERS)
def test_one_culprit(culprit: str) -> None:
    found = searched(LETTERS, lambda on: culprit in on)
    assert culprits(found) == [[culprit]]


def test_layers_that_are_as_wrong_are_told_in_one_line() -> None:
    """Their ids are in the commands, which skip all of them."""
    layers = tuple(dataclasses.replace(application(name), scope=f"layers[{i}].mlp") for i, name in enumerate("abcd"))
    culprit = Culprit(layers)
    assert str(culprit).splitlines()[-1] == "  and as wrong at 3 more: layers[1..3].mlp"
    assert culprit.ids == ["a", "b", "c", "d"]


@pytest.mark.parametrize("pair", itertools.combinations("acgp", 2))
def test_two_that_are_harmless_apart(pair: tuple[str, str]) -> None:
    assert culprits(searched(LETTERS, lambda on: set(pair) <= on)) == [list(pair)]


@pytest.mark.parametrize(
    ("fails", "expected"),
    [
        (lambda on: "b" in on or "k" in on, [["b", "k"]]),
        (lambda on: "b" in on or {"d", "k"} <= on, [["b"], ["d", "k"]]),
        (lambda on: "c" in on or {"a", "p"} <= on, [["c"], ["a", "p"]]),
        (lambda on: {"a", "b"} <= on or {"c", "d"} <= on, [["a", "b"], ["c", "d"]]),
        (lambda on: {"d", "h", "n"} <= on, [["d", "h", "n"]]),
        (lambda on: "b" in on and "c" not in on, []),  # two wrongs that cancel: nothing is wrong
        (lambda on: "b" in on and ("c" not in on or "d" in on), [["b"]]),  # d undoes what c had hidden
    ],
)
def test_formulas(fails: Formula, expected: list[list[str]]) -> None:
    assert culprits(searched(LETTERS, fails)) == expected


def test_what_a_culprit_rests_on_is_not_to_blame() -> None:
    found = searched(LETTERS, lambda on: "m" in on, needs={"m": "f", "f": "b"})
    assert culprits(found) == [["m"]]


def test_a_partner_and_a_support_are_told_apart() -> None:
    found = searched(LETTERS, lambda on: {"c", "m"} <= on, needs={"m": "f"})
    assert culprits(found) == [["c", "m"]]


@pytest.mark.parametrize("count", [16, 256, 4096])
def test_runs_grow_with_the_logarithm(count: int) -> None:
    names = [str(i) for i in range(count)]
    found = searched(names, lambda on: str(count // 3) in on)
    assert culprits(found) == [[str(count // 3)]]
    assert found.probes <= math.log2(count) + 9


def test_nothing_wrong() -> None:
    found = searched(LETTERS, lambda on: False)
    assert (found.culprits, found.fault, found.probes) == ([], None, 2)


def test_a_fault_without_any_application_is_inconclusive() -> None:
    found = searched(LETTERS, lambda on: True)
    assert found.culprits is None
    assert "nothing applied" in found.reason


def test_a_search_ends() -> None:
    """Every two applications of 64 fail together: the search gives up, and shows the fault."""
    names = [str(i) for i in range(256)]
    found = searched(names, lambda on: len(on) >= 2)
    assert found.probes <= MOST_RUNS and found.fault == "wrong"
    assert found.culprits is None and "given up" in found.reason


def test_rules_that_undo_each_other_are_both_named_at_once() -> None:
    a, b = application("a"), application("b")
    found = bisect(lambda controller, quick=False: Outcome("without end", (a, b), "endless", "pass", turn=(a, b)))
    assert found.probes == 2
    assert [[x.id for x in c.applications] for c in found.culprits or []] == [["a", "b"]]


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[str, int, int]] = []
    bisect(lambda controller, quick=False: Outcome(None, ()), lambda *now: told.append(now))
    assert told == [("bisecting", 0, 5), ("bisecting", 1, 6), ("bisecting", 2, 2)]


def test_a_flaky_fault_is_inconclusive() -> None:
    coin = itertools.cycle([True, False, False])
    found = searched(LETTERS, lambda on: next(coin))
    assert found.culprits is None
    assert str(found).startswith("fault: wrong\ninconclusive: ")


def test_a_fault_that_is_flaky_later_is_inconclusive() -> None:
    answers = iter([True, True])
    assert searched(LETTERS, lambda on: next(answers, False)).culprits is None


# ------------------------------------------------------------------------------------------------ a fault in a real run


@pytest.mark.usefixtures("registries")
def test_the_one_wrong_application_is_named() -> None:
    plant(lambda op, x, y, w: op.sub(x, op.linear(y, w)))
    checker, pipeline = Checker(decoder(blocks=4)), f"{PIPELINE.removesuffix(',quantize-weights')},plant,canonicalize"
    found = bisect(probe_of(checker, pipeline))
    assert found.culprits is not None
    ((culprit,),) = (c.applications for c in found.culprits)
    assert (culprit.pass_name, culprit.rule, culprit.scope) == ("plant", "Planted", "layers[1]")
    assert culprit.sources == ("forward:layers[1]:add", "forward:layers[1].attn.o:linear")
    assert found.probes <= math.log2(13) + 10
    # with it bad, without it good, in the words of `check`
    assert [v.fault is None for v in checker(pipeline)].count(False) == 1
    assert all(v.fault is None for v in checker(pipeline, Skip([culprit.id])))
    assert [v.fault is None for v in checker(pipeline, Only([culprit.id]))].count(False) == 1
    change = changes_of(checker, pipeline, found.ids)[culprit.id]
    assert re.search(r"^-.* = add\(", change, re.MULTILINE) and re.search(r"^\+.* = sub\(", change, re.MULTILINE)
    assert culprit.id in str(found) and "forward:layers[1]:add" in str(found)


@pytest.mark.usefixtures("registries")
def test_a_crash_is_bisected_too() -> None:
    plant(lambda op, x, y, w: (x, x))
    found = bisect(probe_of(Checker(decoder(blocks=3)), "fuse-fma,plant"))
    assert [[a.scope for a in c.applications] for c in found.culprits or []] == [["layers[1]"]]
    assert "builds 2 values for 1" in str(found.fault)


@pytest.mark.usefixtures("registries")
def test_what_a_pipeline_expects_does_not_hide_the_fault() -> None:
    plant(lambda op, x, y, w: op.sub(x, op.linear(y, w)))
    found = bisect(probe_of(Checker(decoder(blocks=3)), "fuse-fma,expect{op=fma,per_block=1},plant"))
    assert [[a.scope for a in c.applications] for c in found.culprits or []] == [["layers[1]"]]


@pytest.mark.usefixtures("registries")
def test_a_fault_behind_a_crash_is_left_for_another_search() -> None:
    def build(op, x, y, w):  # type: ignore[no-untyped-def]
        return op.sub(x, op.linear(y, w)) if w.node.op.tensor.startswith("layers.2") else (x, x)

    plant(build, wrong_in="layers")
    checker = Checker(decoder(blocks=3))
    found = bisect(probe_of(checker, "plant"))
    assert [[a.scope for a in c.applications] for c in found.culprits or []] == [["layers[0]", "layers[1]"]]
    assert found.reason.startswith("without them another fault appears: plant: forward.logits, ")
    rest = bisect(probe_of(checker, "plant", Skip(found.ids)))
    assert [[a.scope for a in c.applications] for c in rest.culprits or []] == [["layers[2]"]]
