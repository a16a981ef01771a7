"""What decides about applications, and what watches them."""

from burnish.debug.controllers import All, Fuel, Only, PrintChanges, Record, Skip, graphs_text
from burnish.passes.engine import Application, Context
from burnish.passes.pipelines import parse_pass
from tests.decoder import decoder


def application(id: str, pass_name: str = "pass") -> Application:
    return Application(id, pass_name, "Rule", "exact", "forward", "", (id,), "op()")


def test_skip_knows_passes_and_ids_and_which_it_met() -> None:
    skip = Skip(["a", "other", "never"])
    assert skip(application("a")) == "skipped: a"
    assert skip(application("b")) is None
    assert skip(application("c", "other")) == "skipped: other"
    assert skip.used == {"a", "other"}


def test_fuel_counts_an_application_once_however_often_it_is_asked_for() -> None:
    fuel = Fuel(2)
    answers = [fuel(application(i)) for i in "aaabca"]
    assert answers == [None, None, None, None, "out of fuel after 2", None]


def test_only() -> None:
    assert [Only({"b"})(application(i)) is None for i in "abc"] == [False, True, False]


def test_what_is_skipped_costs_no_fuel() -> None:
    both = All([Skip(["a"]), Fuel(1)])
    assert [both(application(i)) for i in "abc"] == ["skipped: a", None, "out of fuel after 1"]


def test_record_keeps_what_was_allowed_in_order() -> None:
    record = Record(Skip(["b"]))
    for i in "cbac":
        record(application(i))
    assert list(record.allowed) == ["c", "a"]


def test_changes_are_told_one_by_one_and_no_pass_is_blamed_for_the_normal_form() -> None:
    told: list[tuple[str, str]] = []
    module = decoder()
    watch = PrintChanges(lambda a, text: told.append((a.rule, text)), graphs_text(module))
    context = Context(module, observers=[watch])
    for name in ("fuse-fma", "fuse-qkv"):
        context.run(parse_pass(name))
    assert [rule for rule, _ in told] == ["MulAddToFma"] * 2 + ["FuseQueryKeyValue"] * 2
    removed = [line.partition(" = ")[2].partition("(")[0] for line in told[0][1].splitlines() if line[0] == "-"]
    assert removed[:2] == ["mul", "add"]
    assert watch.before == graphs_text(module)
