"""What is made of the answers of engines."""

import pytest

from benchmarks.peer_report import Case, Turns, summary, table

LONG = Case(1, 128, 24)


def answer(prefill: float, decode: float, cpu: float = 2.0, memory: int = 1000) -> dict[str, float]:
    times = {"prefill_s": prefill, "prefill_cpu_s": cpu * prefill, "decode_s": decode, "decode_cpu_s": cpu * decode}
    return {**times, "memory": memory}


OURS = Turns([1.0, 3.0, 2.0], {LONG: [answer(1.0, 2.0), answer(2.0, 2.0), answer(4.0, 8.0, memory=5000)]})
THEIRS = Turns([6.0, 6.0, 3.0], {LONG: [answer(2.0, 2.0), answer(2.0, 8.0), answer(4.0, 8.0)]})


@pytest.mark.parametrize(
    ("text", "case", "names"),
    [
        ("1x128:24", Case(1, 128, 24), ["pp128", "tg@128"]),
        ("1x512", Case(1, 512, 0), ["pp512"]),
        ("32x128", Case(32, 128, 0), ["32xpp128"]),
    ],
)
def test_a_case_is_so_many_texts_and_steps(text: str, case: Case, names: list[str]) -> None:
    assert Case.parse(text) == case
    assert list(case.phases) == names
    assert case.phases[names[0]] == ("prefill", case.batch * case.tokens)


@pytest.mark.parametrize("text", ["", "128", "x128", "1x", "1x2:a"])
def test_anything_else_is_no_case(text: str) -> None:
    with pytest.raises(ValueError):
        Case.parse(text)


def test_ratios_are_those_of_turns_beside_each_other() -> None:
    found = summary(OURS, THEIRS, lambda tokens: 0.0, 1.0)
    prefill, decode = found["phases"]["pp128"], found["phases"]["tg@128"]
    assert prefill["tokens_per_s"] == {"median": 64.0, "least": 32.0, "most": 128.0}
    assert prefill["ratio"] == {"median": 1.0, "least": 1.0, "most": 2.0}
    assert decode["ratio"] == {"median": 1.0, "least": 1.0, "most": 4.0}  # that of the medians is 4
    assert prefill["cores"] == 2.0
    assert found["memory_bytes"] == 5000


def test_a_start_is_compared_with_any_other() -> None:
    start = summary(OURS, THEIRS, lambda tokens: 0.0, 1.0)["start"]
    assert start["seconds"] == {"median": 2.0, "least": 1.0, "most": 3.0}
    assert start["ratio"] == {"median": 3.0, "least": 1.0, "most": 6.0}


def test_the_share_of_the_bandwidth_is_of_what_a_step_reads() -> None:
    line = summary(OURS, None, lambda tokens: 10 * tokens, 28000.0)["phases"]["tg@128"]
    assert line["tokens_per_s"]["median"] == 12.0
    assert line["share_of_bandwidth"] == 12.0 * 10 * (128 + 12) / 28000.0


def test_alone_an_engine_has_no_ratios() -> None:
    found = summary(OURS, None, lambda tokens: 0.0, 1.0)
    assert "ratio" not in found["phases"]["pp128"]
    assert "ratio" not in found["start"]


def test_a_table_of_ratios_names_what_they_are_to() -> None:
    setting = {"model": "S", "machine": "a machine", "threads": 2, "competitor": "pinned", "rounds": 3, "read_gb_s": 30}
    ours, theirs = (summary(t, THEIRS, lambda tokens: 1.0, 1.0) for t in (OURS, THEIRS))
    engines = {"theirs": theirs | {"beside": "theirs"}, "ours": ours | {"beside": "theirs"}}
    text = table({"setting": setting, "engines": engines, "left_out": {"another": "it is not there"}})
    first, *lines = text.splitlines()
    assert first == "S: a machine; 2 threads, beside a process that spins (pinned); 30 GB/s; 3 rounds"
    assert "left out: another: it is not there" in lines
    assert [line.split() for line in lines[-2:]] == [
        ["times", "as", "fast", "pp128", "tg@128", "start", "as"],
        ["ours", "1.00", "1.00", "3.00", "theirs"],
    ]


def test_a_table_of_nothing_says_why() -> None:
    setting = {"model": "S", "machine": "a machine", "threads": 2, "competitor": "", "rounds": 0, "read_gb_s": 30}
    text = table({"setting": setting, "engines": {}, "left_out": {"one": "why"}})
    assert text.splitlines() == ["S: a machine; 2 threads; 30 GB/s; 0 rounds", "left out: one: why"]
