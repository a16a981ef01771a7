"""Mutants of graph texts and packages: each command ends with a documented exit code and one message, within limits,
and damage to a package is noticed. A sample here, the rest by `make fuzz`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import fuzz

ROOT = Path(__file__).parents[2]
MANY = pytest.mark.fuzz


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("texts", 0, 20),
        ("packages", 0, 20),
        *(pytest.param("texts", i, i + 100, marks=MANY) for i in range(20, 520, 100)),
        *(pytest.param("packages", i, i + 100, marks=MANY) for i in range(20, 220, 100)),
    ],
)
def test_mutants(kind: str, first: int, last: int) -> None:
    line = [sys.executable, "-m", "tests.fuzz", kind, str(first), str(last)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    *faults, summary = done.stdout.splitlines() or [done.stderr]
    assert (done.returncode, faults) == (0, []), done.stdout + done.stderr
    codes = json.loads(summary)["codes"]
    assert json.loads(summary)["mutants"] == last - first and "3" in codes
    assert sum(codes.values()) == 5 * (last - first)


def test_what_the_fuzzer_would_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(error: BaseException, written: int = 0) -> str:
        def command(arguments: list[str]) -> None:
            (tmp_path / "out").write_bytes(bytes(written))
            raise error

        monkeypatch.setattr(fuzz, "main", command)
        ((_, fault),) = fuzz.faults_of(["inspect"], tmp_path)
        return fault

    monkeypatch.setattr(fuzz, "WRITTEN", 8)
    assert judged(SystemExit(0)) == ""
    assert judged(SystemExit(3)).startswith("ended without a message")
    assert judged(SystemExit(0), written=9) == "wrote 9 bytes"
    assert judged(KeyError("x")) == "KeyError: 'x'"
    assert judged(fuzz.Hang()) == "took too long"
