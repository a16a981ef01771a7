"""Mutants of ONNX files end in a module or in one message; and the harness notices those that would not."""

from pathlib import Path

import pytest

from burnish.frontends.config import LoadError
from tests.frontends import onnx_mutants
from tests.fuzzing import fault_of, faults

MODULE = "tests.frontends.onnx_mutants"


def test_a_sample_of_mutants_ends_well(tmp_path: Path) -> None:
    assert faults(MODULE, range(30), tmp_path) == {}


@pytest.mark.fuzz
def test_a_thousand_mutants_end_well(tmp_path: Path) -> None:
    assert faults(MODULE, range(1000), tmp_path) == {}


def test_a_mutant_is_made_of_its_seed_alone() -> None:
    assert [onnx_mutants.mutant(i) for i in range(20)] == [onnx_mutants.mutant(i) for i in range(20)]
    assert len({onnx_mutants.mutant(i) for i in range(50)}) > 40


def test_what_is_not_documented_is_a_fault(tmp_path: Path) -> None:
    def raises(error: Exception) -> str:
        def attempt(seed: int, folder: Path) -> None:
            raise error

        return fault_of(attempt, (LoadError,), 0, tmp_path)

    assert raises(LoadError("m.onnx: is damaged")) == ""
    assert "KeyError" in raises(KeyError("x"))
    assert "says nothing" in raises(LoadError(""))


def test_a_worker_that_dies_names_its_mutant_and_the_others_are_tried(tmp_path: Path, monkeypatch: object) -> None:
    (tmp_path / "dying.py").write_text(
        "import os\nDOCUMENTED = ()\ndef attempt(seed, folder):\n    if seed == 2: os._exit(9)\n    assert seed != 4\n"
    )
    assert isinstance(monkeypatch, pytest.MonkeyPatch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = faults("dying", range(6), tmp_path)
    assert found.keys() == {2, 4}
    assert "ended with 9" in found[2]
    assert "AssertionError" in found[4]
