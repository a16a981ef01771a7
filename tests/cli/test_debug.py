"""burnish debug: a fault planted by a plugin in one of its applications is noticed, and named."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.decoder import PIPELINE, VOCABULARY, decoder

pytestmark = pytest.mark.usefixtures("registries")
Cli = Callable[..., tuple[int, str, str]]
PLUGIN = '''
from burnish.passes.engine import RewritePass, Rule

class MulAdd(Rule):
    """add(mul(a, b), c) -> fma(a, b, c), but in block 2 -> fma(a, b, a)"""
    exactness = "rounding"
    def match(self, op, a, b, c):
        return op.add(op.mul(a, b), c)
    def build(self, op, a, b, c, out):
        return op.fma(a, b, a if out.node.origin.scope == "layers[2]" else c)

class FuseWrongly(RewritePass):
    """A fault in one place."""
    rules = (MulAdd,)
'''


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "decoder.graph"
    file.write_text(str(decoder(blocks=4)))
    return file


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "wrong.py"
    file.write_text(PLUGIN)
    return file


def test_check_prints_a_line_a_pass(cli: Cli, model: Path) -> None:
    code, out, err = cli("debug", "check", model, "--pipeline", PIPELINE)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines] == [["ok", name] for name in PIPELINE.split(",")]
    assert "4 applied" in lines[0] and re.search(r"error \S+ of at most \S+$", lines[0])
    loss = r"loss \S+ \(\S+ added by layers\[\d\], the most\); 9 tensors at most 0\.\d+ of what their formats round$"
    assert re.search(loss, lines[-1])


def test_check_notices_the_fault_in_one_application(cli: Cli, model: Path, plugin: Path) -> None:
    pipeline = "fuse-qkv,fuse-wrongly,canonicalize"
    code, out, err = cli("debug", "check", model, "--plugin", plugin, "--pipeline", pipeline)
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["ok", "FAIL", "layers[2]", "ok"]
    assert err == "error: fuse-wrongly broke its word\n"
    code, out, _ = cli("debug", "check", model, "--plugin", plugin, "--pipeline", pipeline, "--json")
    report = json.loads(out)
    assert (code, report["ok"]) == (1, False)
    assert [p["fault"] is None for p in report["passes"]] == [True, False, True]


def test_bisect_names_the_application_and_prints_commands_that_can_be_pasted(
    cli: Cli, model: Path, plugin: Path
) -> None:
    pipeline = "fuse-qkv,fuse-wrongly,insert-state,canonicalize"
    code, out, err = cli("debug", "bisect", model, "--plugin", plugin, "--pipeline", pipeline, "--size", "S=5")
    assert (code, err) == (1, "")
    assert "culprit: fuse-wrongly/MulAdd (rounding): add(mul(a, b), c) -> fma(a, b, c), but in block 2" in out
    (culprit,) = re.findall(r"^  at layers\[2\] \(([0-9a-f]{12})\)$", out, re.MULTILINE)
    assert "    sources: forward:layers[2]:add.2, forward:layers[2]:mul\n" in out
    assert re.findall(r"^([-+])  %2\.\d+: .* = (add|mul|fma)\(", out, re.MULTILINE) == [
        ("-", "mul"),
        ("-", "add"),
        ("+", "fma"),
    ]
    commands = dict(re.findall(r"^  (good|bad|good graph|bad graph): +burnish (.*)$", out, re.MULTILINE))
    assert commands["good"] == f"{commands['bad']} --skip {culprit}"
    assert cli(*shlex.split(commands["good"]))[0] == 0
    assert cli(*shlex.split(commands["bad"]))[0] == 1
    good, bad = (cli(*shlex.split(commands[f"{which} graph"]))[1] for which in ("good", "bad"))
    assert (good.count("fma("), bad.count("fma(")) == (3, 4)


def test_bisect_finds_nothing_where_nothing_is_wrong(cli: Cli, model: Path) -> None:
    code, out, err = cli("debug", "bisect", model, "--pipeline", "fuse-fma")
    assert (code, out, err) == (0, "nothing is wrong (2 runs)\n", "")


def test_bisect_in_json(cli: Cli, model: Path, plugin: Path) -> None:
    code, out, _ = cli("debug", "bisect", model, "--plugin", plugin, "--pipeline", "fuse-wrongly", "--json")
    report = json.loads(out)
    ((culprit,),) = (c["applications"] for c in report["culprits"])
    assert (code, culprit["rule"], culprit["scope"]) == (1, "MulAdd", "layers[2]")
    assert set(report["changes"]) == {culprit["id"]}
    assert report["probes"] < 12
    code, out, _ = cli(
        *("debug", "bisect", model, "--plugin", plugin, "--pipeline", "fuse-wrongly", "--json"), "--skip", culprit["id"]
    )
    assert (code, json.loads(out)["culprits"]) == (0, [])


def test_bisect_says_when_it_cannot_tell(cli: Cli, model: Path, tmp_path: Path) -> None:
    """A rule that is wrong every third time it is built."""
    file = tmp_path / "flaky.py"
    text = PLUGIN.replace('out.node.origin.scope == "layers[2]"', "next(COIN)").replace("FuseWrongly", "FuseAtRandom")
    file.write_text(f"import itertools\nCOIN = itertools.cycle([False] * 4 + [True] * 4)\n{text}")
    code, out, err = cli("debug", "bisect", model, "--plugin", file, "--pipeline", "fuse-at-random")
    assert (code, err) == (5, "")
    assert out.startswith("fault: fuse-at-random: forward.logits, ")
    assert "\ninconclusive: the same applications fail at one time and not at another" in out


def test_inputs_from_a_file(cli: Cli, model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", ids=np.arange(8, dtype="i4").reshape(2, 4) % VOCABULARY)
    assert cli("debug", "check", model, "--pipeline", "fuse-fma", "--inputs", tmp_path / "inputs.npz")[0] == 0
    np.savez(tmp_path / "wrong.npz", tokens=np.zeros((2, 4), "i4"))
    code, _, err = cli("debug", "check", model, "--inputs", tmp_path / "wrong.npz")
    assert code == 2 and "ids" in err


@pytest.mark.parametrize("command", ["check", "bisect"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "S"], "--size 'S' is not of the form NAME=N"),
        (["--size", "S=-1"], "is not of the form NAME=N"),
        (["--size", "S=0"], "S=0: a size is at least 1"),
        (["--size", "T=4"], "there is no size 'T'; the sizes of the graph are B, S"),
        (["--size", "S=99999999999"], "more than can be checked"),
        (["--size", "S=4", "--size", "S=5"], "--size says both S=4 and S=5"),
        (["--seed", "-1"], "-1 is not in the range x>=0"),
        (["--backend", "abacus"], "'abacus' is not one of 'numpy', 'xla'"),
        (["--inputs", "nowhere.npz"], "nowhere.npz"),
        (["--pipeline", "nothing"], "there is no pass 'nothing'"),
        (["--pipeline", "fuse-fma}"], "cannot read the pipeline"),
        (["--pipeline", "fuse-fma fuse-qkv"], "cannot read the pass"),
    ],
)
def test_errors(cli: Cli, model: Path, command: str, arguments: list[str], message: str) -> None:
    code, out, err = cli("debug", command, model, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and message in err


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([{}]), "cannot be read as an .npz file: Object arrays"),
        (np.zeros((1, 2)), "the given array is of float64"),
        (np.full((1, 2), VOCABULARY), f"the input takes 0 to {VOCABULARY - 1}"),
        (np.full((1, 2), 2**63, np.uint64), "the input takes 0 to"),
        (np.zeros((60, 60), int), "60 x 60 tokens are more than can be checked"),
        (np.zeros(3, int), "ids is i32[B, S], and the given array is [3]"),
        (np.zeros((0, 2), int), "ids is i32[B, S], and the given array is [0, 2]"),
    ],
)
def test_inputs_that_do_not_fit(cli: Cli, model: Path, tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "inputs.npz", ids=array)
    code, _, err = cli("debug", "check", model, "--inputs", tmp_path / "inputs.npz")
    assert code == 2 and message in err


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
def test_a_file_that_is_no_npz(cli: Cli, model: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "inputs.npz").write_bytes(content)
    code, _, err = cli("debug", "check", model, "--inputs", tmp_path / "inputs.npz")
    assert code == 2 and "cannot be read as an .npz file" in err
    np.save(tmp_path / "one.npy", np.zeros(3))
    code, _, err = cli("debug", "check", model, "--inputs", tmp_path / "one.npy")
    assert code == 2 and "give an .npz file of arrays by name" in err


@pytest.mark.parametrize("command", ["check", "bisect"])
def test_an_id_that_never_asked_is_noted(cli: Cli, model: Path, command: str) -> None:
    code, _, err = cli("debug", command, model, "--pipeline", "fuse-fma", "--skip", "fuse-fma", "--skip", "0123")
    assert code == 0
    assert err == "note: --skip 0123: no such pass or application asked to be applied\n"


def test_the_block_that_adds_the_error_is_told(cli: Cli, model: Path, plugin: Path) -> None:
    _, out, _ = cli("debug", "check", model, "--plugin", plugin, "--pipeline", "fuse-wrongly")
    assert re.search(r"^        layers\[2\] adds \S+, \S+ with what it inherits$", out, re.MULTILINE)
    assert "layers[3] adds" not in out


def test_a_backend_is_judged_last(cli: Cli, model: Path) -> None:
    code, out, _ = cli("debug", "check", model, "--pipeline", "fuse-fma", "--backend", "numpy")
    assert code == 0
    assert re.search(r"^ok    backend numpy +rounding  ran +error \S+ of at most \S+$", out, re.MULTILINE)


def test_interrupted_it_says_what_it_knows(
    cli: Cli, model: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from burnish.debug.check import Checker

    verdicts, calls = Checker.verdicts, iter(range(6))

    def interrupted(self, *arguments, **options):  # type: ignore[no-untyped-def]
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return verdicts(self, *arguments, **options)

    monkeypatch.setattr(Checker, "verdicts", interrupted)
    code, out, _ = cli("debug", "bisect", model, "--plugin", plugin, "--pipeline", "fuse-wrongly")
    assert code == 130
    assert out.startswith("fault: fuse-wrongly: forward.logits, ")
    assert re.search(r"^among \d applications of fuse-wrongly/MulAdd$", out, re.MULTILINE)
    assert "inconclusive: interrupted (7 runs)" in out
