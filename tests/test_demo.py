"""The demo is one screen, and ends at its answer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "examples/demo.py"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert [line.split()[2] for line in lines if line.startswith("$ burnish ")] == ["opt", "compile", "eval", "run"]
    assert [line[:3] for line in lines[2:9]].count("  -") == 3  # q, k and v
    assert "  3,412,480 bytes became 1,487,360, 44 %" in lines
    full, small = ([int(x) for x in line.split() if x.isdigit()][:2] for line in lines[-4:-2])
    assert full == [205, 0] and sum(small) == 205  # it knows its almanac by heart
    assert lines[-1] == "  Kroros."
    (readme,) = re.findall(r"^```\n(\$ burnish opt .*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    measured = re.compile(r" +\d\.\d{3} .*")  # losses and tokens a second
    assert measured.sub("", readme).splitlines() == measured.sub("", done.stdout).splitlines()
    assert (tmp_path / "build" / "tiny-lm" / "manifest.json").exists()
