"""What decides about applications, and what watches them."""

from burnish.debug.controllers import All, Fuel, Only, PrintChanges, Record, Skip
from burnish.passes.engine import Application, Context
from burnish.passes.pipelines import parse_pipeline
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


def changes(pipeline: str, **options: object) -> list[tuple[str, list[str]]]:
    told: list[tuple[str, list[str]]] = []
    module = decoder()
    watch = PrintChanges(lambda a, text: told.append((a.rule, text.splitlines())), module, **options)
    context = Context(module, observers=[watch])
    for pass_ in parse_pipeline(pipeline):
        context.run(pass_)
    return told


def test_changes_are_told_one_by_one_and_no_pass_is_blamed_for_the_normal_form() -> None:
    told = changes("fuse-fma,fuse-qkv")
    assert [rule for rule, _ in told] == ["MulAddToFma"] * 2 + ["FuseQueryKeyValue"] * 2


def test_a_change_is_what_changed_and_nothing_else() -> None:
    _, (_, change) = changes("fuse-fma")
    assert change == [
        "- %1.10: f32[B, S, 32] = mul(%1.9, @layers.1.scale)",
        "- %1.11: f32[B, S, 32] = add(%1.10, @layers.1.shift)",
        "+ %1.11: f32[B, S, 32] = fma(%1.9, @layers.1.scale, @layers.1.shift)",
    ]


def test_names_stay_put_and_what_takes_a_values_place_takes_its_name() -> None:
    *_, (_, change) = changes("fuse-fma,fuse-qkv")
    names = {line.split(":")[0][2:] for line in change if line[0] == "-"}
    kept = {name for line in change if line[0] == "+" for name in line.split(":")[0][2:].split(", ")}
    assert names == {"%1.0", "%1.2", "%1.4"} and names < kept  # q, k and v are results of a split now
    assert not [line for line in change if "reshape" in line]  # which read them as before


def test_provenance_is_told_where_it_is_asked_for() -> None:
    assert not any(" <- " in line for _, change in changes("fuse-fma") for line in change)
    assert all(" <- " in line for _, change in changes("fuse-fma", provenance=True) for line in change)


def test_a_change_inside_of_a_loop_is_told() -> None:
    told = changes("roll-blocks,fuse-fma")
    assert [rule for rule, _ in told] == ["BlocksToRepeat", "MulAddToFma"]
    assert [line.split(" = ")[1].split("(")[0] for line in told[1][1]] == ["mul", "add", "fma"]
