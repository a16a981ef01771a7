"""Oracles are never engines: everything that Burnish does works where none of the oracles can be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import models

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
ORACLES = ("torch", "transformers", "onnxruntime", "onnx.reference", "llama_cpp", "gguf", "sentencepiece")

BLOCKED = f"""
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == o or name.startswith(o + ".") for o in {ORACLES!r}):
            raise AssertionError(f"{{name}} is an oracle, not an engine")
sys.meta_path.insert(0, Blocker())
"""

COMMAND = BLOCKED + "from burnish.cli import main; main(sys.argv[1:])"


def python(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", program, *map(str, arguments)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("oracle", ORACLES)
def test_the_blocker_blocks(oracle: str) -> None:
    for program in (f"import {oracle}", f"import importlib; importlib.import_module('{oracle}')"):
        ran = python(BLOCKED + program)
        assert ran.returncode == 1
        assert f"AssertionError: {oracle} is an oracle, not an engine" in ran.stderr
    assert python(BLOCKED + "import burnish, numpy").returncode == 0


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = models.saved(models.llama(vocab_size=300), tmp_path_factory.mktemp("llama"))
    models.byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def test_every_command_does_without_them(llama: Path, tmp_path: Path) -> None:
    """Import, optimise, quantize, write, read, run on both backends, inspect, measure, check, bisect."""
    data = tmp_path / "heldout.jsonl"
    data.write_text(json.dumps({"text": "the city of the king"}) + "\n" + json.dumps({"text": "the land"}) + "\n")
    package = tmp_path / "package"
    text = ("--prompt", "the king", "--max-new-tokens", 2)
    lines = [
        ("compile", llama, "-o", package, "--quantize", "embedding=q8_0;q4_0"),
        ("run", package, *text),
        ("run", package, *text, "--backend", "xla"),
        ("inspect", package),
        ("bench", llama, "--prompt-tokens", 4, "--new-tokens", 2, "--repeat", 1),
        ("eval", llama, "--data", data, "--variants", "none,q8_0"),
        ("opt", llama),
        ("debug", "check", llama),
        ("debug", "bisect", llama),
    ]
    program = BLOCKED + (
        "import json; from burnish.cli import main\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    try: main(line)\n"
        "    except SystemExit as e: assert e.code == 0, (line, e.code)\n"
    )
    ran = python(program, json.dumps([[str(word) for word in line] for line in lines]))
    note = "note: 9 products take their inputs in int8"
    said = [line for line in ran.stderr.splitlines() if not line.startswith(note)]
    assert (ran.returncode, said) == (0, [])


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_encoders_do_without_them(family: str, tmp_path: Path) -> None:
    folder = models.saved(getattr(models, family)(), tmp_path / family)
    ran = python(COMMAND, "run", folder, "--prompt-ids", "5,6,7", "--max-new-tokens", 2)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_onnx_files_do_without_them(family: str, exports) -> None:
    ran = python(COMMAND, "run", exports(family).onnx, "--prompt-ids", "5,6,7", "--max-new-tokens", 2)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
