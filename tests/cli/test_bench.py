"""burnish bench: what it says, and what it compares. No time is held to anything."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli

SMALL = ("--prompt-tokens", 8, "--new-tokens", 3, "--repeat", 1)


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is measured once in this module, for all tests that only look at it."""
    return {}


@pytest.fixture
def measured(cli: Cli, llama: Path, tried: dict[str, Any]) -> dict[str, Any]:
    """A measurement of the small Llama."""
    if not tried:
        ran = cli("bench", llama, *SMALL, "--json")
        assert (ran.code, ran.err) == (0, "")
        tried.update(json.loads(ran.out))
    return dict(tried)


@pytest.mark.parametrize("family", ["llama", pytest.param("t5", marks=pytest.mark.slow)])
def test_it_says_how_fast_and_where_the_time_goes(cli: Cli, family: str, request: pytest.FixtureRequest) -> None:
    code, out, err = cli("bench", request.getfixturevalue(family), *SMALL)
    assert (code, err) == (0, "")
    assert re.search(r"^prefill +[\d,.]+ tokens/s  \(8 tokens, [\d.]+ cores, one run\)$", out, re.M)
    assert re.search(r"^decode +[\d,.]+ tokens/s  \(3 tokens, [\d.]+ cores, one run\)$", out, re.M)
    assert re.search(r"^first token +[\d.]+ s +\(8 tokens, one run\)$", out, re.M)
    assert re.search(r"^bandwidth +[\d.]+ % +\([\d.]+ MB of weights and states for a token of decode, of ", out, re.M)
    for phase in ("prefill", "decode"):
        assert f"\n{phase}, where the time goes:\n" in out
    assert len(re.findall(r"^sum +[\d.]+ ms of [\d.]+; the probe took [\d.]+$", out, re.M)) == 2


def test_the_figures_have_a_spread(measured: dict[str, Any]) -> None:
    for name in ("prefill_tokens_per_s", "decode_tokens_per_s", "first_token_s", "prefill_cores", "decode_cores"):
        spread = measured[name]
        assert 0 < spread["least"] <= spread["median"] <= spread["most"], name
    assert measured["setting"]["new_tokens"] == 3
    assert measured["bytes_of_a_token"] > 0


def test_a_result_is_compared_with_an_earlier_one(
    cli: Cli, llama: Path, measured: dict[str, Any], tmp_path: Path
) -> None:
    old = tmp_path / "old.json"
    for name in ("prefill_tokens_per_s", "decode_tokens_per_s", "first_token_s"):
        measured[name] = {"median": 1e-9, "least": 1e-10, "most": 1e-8}  # so that no run comes near
    old.write_text(json.dumps(measured))
    code, out, err = cli("bench", llama, *SMALL, "--compare", old, "--json")
    assert (code, err) == (0, "")
    now = json.loads(out)
    for name, ratio in now["times_as_much"].items():
        assert ratio["median"] == pytest.approx(now[name]["median"] / 1e-9)
        assert ratio["least"] == pytest.approx(now[name]["least"] / 1e-8)
        assert ratio["most"] == pytest.approx(now[name]["most"] / 1e-10)


@pytest.mark.slow
def test_what_differs_by_no_more_than_the_runs_do_is_said_so(
    cli: Cli, llama: Path, measured: dict[str, Any], tmp_path: Path
) -> None:
    old = tmp_path / "old.json"
    measured["decode_tokens_per_s"] = {"median": 1.0, "least": 1e-9, "most": 1e9}
    measured["prefill_tokens_per_s"] = {"median": 1e9, "least": 1e9, "most": 1e9}
    old.write_text(json.dumps(measured))
    _, out, _ = cli("bench", llama, *SMALL, "--compare", old)
    assert f"\ntimes as much as in {old}:\n" in out
    assert re.search(r"^decode +[\d.]+  \(0.00 to [\d.]+; no more than the runs differ\)$", out, re.M)
    assert re.search(r"^prefill +0.00  \(0.00 to 0.00\)$", out, re.M)


@pytest.mark.parametrize(
    ("name", "other"), [("model", "another"), ("machine", "another"), ("threads", 1000), ("new_tokens", 4)]
)
def test_a_result_of_another_setting_is_refused(
    cli: Cli, llama: Path, measured: dict[str, Any], tmp_path: Path, name: str, other: object
) -> None:
    old, own = tmp_path / "old.json", measured["setting"][name]
    old.write_text(json.dumps(measured | {"setting": measured["setting"] | {name: other}}))
    code, out, err = cli("bench", llama, *SMALL, "--compare", old)
    assert (code, out) == (2, "")
    assert err == f"error: --compare: {old} is of something else:\n  {name}: {other}, now {own}\n"


@pytest.mark.parametrize("text", ["", "[]", '{"setting": {}}', '{"setting": 1, "first_token_s": {}}'])
def test_what_is_no_result_is_refused(cli: Cli, llama: Path, tmp_path: Path, text: str) -> None:
    old = tmp_path / "old.json"
    old.write_text(text)
    code, out, err = cli("bench", llama, *SMALL, "--compare", old)
    assert (code, out, err) == (2, "", f"error: --compare: {old} is not what `burnish bench --json` prints\n")


def test_a_result_that_is_not_there_is_refused(cli: Cli, llama: Path, tmp_path: Path) -> None:
    code, _, err = cli("bench", llama, *SMALL, "--compare", tmp_path / "none.json")
    assert (code, err) == (2, f"error: --compare: {tmp_path / 'none.json'}: No such file or directory\n")


@pytest.mark.usefixtures("measured")  # so that the kernels are there, which a process is started for too
def test_a_start_that_fails_says_why(cli: Cli, llama: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "burnish.py").write_text("raise SystemExit('it is broken')")
    monkeypatch.syspath_prepend(tmp_path)  # this process has its own already
    code, _, err = cli("bench", llama, *SMALL)
    assert (code, err) == (5, "error: a process that was started for a first token made none: it is broken\n")


def test_it_stays_in_the_context(cli: Cli, llama: Path) -> None:
    code, _, err = cli("bench", llama, "--prompt-tokens", 60, "--new-tokens", 5)
    assert (code, "65 tokens do not fit the model's context of 64" in err) == (2, True)


def test_it_needs_a_model_that_makes_text(cli: Cli, bert: Path) -> None:
    code, _, err = cli("bench", bert)
    assert (code, err) == (2, "error: the model makes no text; bench measures prefill and decode\n")
