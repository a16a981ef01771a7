"""burnish opt: the graph after some passes, and what they did."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from burnish.ir import parse
from burnish.passes.engine import PASSES
from burnish.runtime.targets import named_pipelines
from tests.cli.conftest import Screen
from tests.decoder import PIPELINE, decoder

Cli = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "decoder.graph"
    file.write_text(str(decoder()))
    return file


def ops(text: str) -> list[str]:
    return [n.op.name for n in parse(text).graphs["forward"]]


def test_no_passes_print_the_graph_as_it_is(cli: Cli, model: Path) -> None:
    assert cli("opt", model, "--pipeline", "") == (0, model.read_text(), "")


def test_statements_without_a_source_are_told_apart(cli: Cli, model: Path) -> None:
    lines = [line.split(" <- ")[0] for line in model.read_text().splitlines()]
    model.write_text("\n".join(lines))
    code, out, _ = cli("opt", model, "--pipeline", "fuse-fma")
    assert (code, ops(out).count("fma")) == (0, 2)
    assert len(set(re.findall(r"text:\d+", out))) == len(re.findall(r"text:\d+", out)) > 4


def test_the_pipeline_runs_and_the_text_reads_back(cli: Cli, model: Path, tmp_path: Path) -> None:
    code, out, _ = cli("opt", model, "--pipeline", "fuse-fma")
    assert (code, ops(out).count("fma")) == (0, 2)
    assert cli("opt", model, "--pipeline", "fuse-fma", "-o", tmp_path / "out.graph") == (0, "", "")
    assert (tmp_path / "out.graph").read_text() == out


def test_stop_after(cli: Cli, model: Path) -> None:
    _, whole, _ = cli("opt", model, "--pipeline", PIPELINE)
    code, out, _ = cli("opt", model, "--pipeline", PIPELINE, "--stop-after", "fuse-qkv")
    assert code == 0
    assert {"split", "mul"} <= set(ops(out)) and "fma" not in ops(out)
    assert {"split", "fma", "cache_update", "quantize"} <= set(ops(whole))
    code, _, err = cli("opt", model, "--pipeline", PIPELINE, "--stop-after", "fuse")
    assert code == 2 and "the pipeline is fuse-qkv, fuse-fma" in err


def test_skip_by_pass_and_by_id(cli: Cli, model: Path) -> None:
    _, out, _ = cli("opt", model, "--pipeline", PIPELINE, "--skip", "fuse-fma", "--skip", "insert-state")
    assert not {"fma", "cache_update"} & set(ops(out))
    _, out, _ = cli("opt", model, "--pipeline", "fuse-fma", "--json")
    first, second = (a["id"] for a in json.loads(out)["applied"])
    _, out, _ = cli("opt", model, "--pipeline", "fuse-fma", "--skip", first, "--json")
    assert [a["id"] for a in json.loads(out)["applied"]] == [second]


def test_a_name_that_nothing_answers_to_is_told(cli: Cli, model: Path) -> None:
    code, _, err = cli("opt", model, "--pipeline", "fuse-fma", "--skip", "fuse-fmm")
    assert code == 0
    assert err == "note: --skip fuse-fmm: no such pass or application asked to be applied\n"


@pytest.mark.parametrize("fuel", [0, 1, 2])
def test_fuel(cli: Cli, model: Path, fuel: int) -> None:
    _, out, _ = cli("opt", model, "--pipeline", "fuse-fma", "--fuel", fuel)
    assert ops(out).count("fma") == fuel


def test_remarks(cli: Cli, model: Path) -> None:
    _, out, err = cli("opt", model, "--pipeline", "fuse-fma,quantize-weights{recipe=int8}", "--remarks", "--fuel", 1)
    assert out.startswith("module {")
    lines = [" ".join(line.split()) for line in err.splitlines()]
    products = ", ".join(f"layers[0..1].attn.{name}" for name in "qkvo") + ", forward"
    assert lines[0] == "applied:" and re.fullmatch(r"[0-9a-f]{12} fuse-fma/MulAddToFma at layers\[0\]", lines[1])
    refused = "9× quantize-weights/QuantizeWeight at " + products
    assert (lines[3], " ".join(lines[4:8])) == ("not applied:", f"{refused} out of fuel after 1")
    assert max(map(len, err.splitlines())) <= 80
    report = json.loads(cli("opt", model, "--pipeline", "fuse-fma", "--remarks", "--fuel", 1, "--json")[1])
    assert [a["scope"] for a in report["applied"]] == ["layers[0]"]
    assert [(a["scope"], a["reason"]) for a in report["refused"]] == [("layers[1]", "out of fuel after 1")]


def test_layers_that_change_alike_are_told_once_but_not_to_machines(cli: Cli, model: Path) -> None:
    line = ("opt", model, "--pipeline", "fuse-fma,insert-state", "--print-after-change")
    _, _, err = cli(*line)
    heads = re.findall(r"^[0-9a-f]{12} (.*)$", err, re.MULTILINE)
    assert heads == ["fuse-fma/MulAddToFma at layers[0]", "insert-state/MakeStateful at forward"]
    assert "\n  and the same in 1 other layer: layers[1]\n" in err
    changed = [line[2:].split(" = ")[1].split("(")[0] for line in err.splitlines() if re.match(r"[-+] %.* = ", line)]
    assert changed[:3] == ["mul", "add", "fma"]
    assert " <- " not in err and "\x1b" not in err
    report = json.loads(cli(*line, "--json")[1])
    assert list(report["changes"]) == [a["id"] for a in report["applied"]]
    assert len(report["changes"]) == 3
    assert all(" <- " in change for change in report["changes"].values())
    assert " <- " in cli(*line, "--provenance")[2]


def test_a_table_says_what_each_pass_did(cli: Cli, model: Path) -> None:
    _, _, err = cli("opt", model, "--pipeline", "fuse-qkv,fuse-fma,recover-rope,last-row", "--remarks")
    table = err[err.index("pass  ") :].splitlines()
    rows = [line.split() for line in table]
    assert rows[0] == ["pass", "applied", "nodes", "ms"]
    assert [row[:5] for row in rows[1:3]] == [["fuse-qkv", "2", "26", "->", "26"], ["fuse-fma", "2", "26", "->", "24"]]
    assert rows[-2][:4] == ["2", "that", "found", "nothing"]
    assert rows[-1][:6] == ["in", "all", "4", "26", "->", "24"]
    assert {len(line) for line in table} == {max(map(len, table))}  # aligned
    passes = json.loads(cli("opt", model, "--pipeline", "fuse-fma,recover-rope", "--json")[1])["passes"]
    assert [(p["pass"], p["applied"]) for p in passes] == [("fuse-fma", 2), ("recover-rope", 0)]


def test_a_long_signature_is_cut(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "deep.graph"
    file.write_text(str(decoder(20)))
    _, _, err = cli("opt", file, "--pipeline", "insert-state", "--print-after-change")
    assert re.search(r"^\+ graph forward\(.* … \([\d,]+ more characters\)$", err, re.M)
    assert max(map(len, err.splitlines())) < 300


def test_what_was_done_before_a_pass_fails_is_told(cli: Cli, model: Path) -> None:
    code, _, err = cli("opt", model, "--pipeline", "fuse-fma,expect{op=conv,plus=1}", "--print-after-change")
    assert code == 4
    assert err.index("fuse-fma/MulAddToFma") < err.index("error: ")


def test_the_screen(cli: Cli, screen: Screen, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out.graph"
    code, stdout, err = cli("opt", "examples/tiny-lm", "--print-after-change", "--remarks", "-o", out)
    assert (code, stdout) == (0, "")
    screen("opt", re.sub(r" +[\d.]+$", lambda time: f"{'…':>{len(time[0])}}", err, flags=re.M))


def test_list_names_every_pass_with_its_docstring_and_every_pipeline_with_its_reasons(cli: Cli) -> None:
    code, out, _ = cli("opt", "--list")
    assert code == 0
    for name, cls in PASSES.items():
        assert f"  {name} ({cls.exactness})" in out
        assert (cls.__doc__ or "").splitlines()[0] in out
    for entries in named_pipelines().values():
        assert all(reason in out for _, reason in entries)
    listing = json.loads(cli("opt", "--list", "--json")[1])
    assert listing["passes"]["fuse-fma"]["rules"] == {"MulAddToFma": "add(mul(a, b), c) -> fma(a, b, c)"}
    assert list(listing["pipelines"]) == list(named_pipelines())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["opt"], 2, "give SRC, or --list"),
        (["opt", "MODEL", "--pipeline", "no-such-pass"], 2, "no pass 'no-such-pass'"),
        (["opt", "nowhere.graph"], 3, "there is no such file"),
        (["opt", "MODEL", "--pipeline", "expect{op=conv,plus=1}"], 4, "found 0 of 1 conv"),
        (["opt", "MODEL", "--plugin", "nowhere.py"], 3, "plugin nowhere.py"),
    ],
)
def test_errors_are_one_message_and_their_exit_code(
    cli: Cli, model: Path, arguments: list[str], code: int, message: str
) -> None:
    result, _, err = cli(*(model if a == "MODEL" else a for a in arguments))
    assert result == code
    assert err.startswith("error: ") and message in err and "Traceback" not in err
