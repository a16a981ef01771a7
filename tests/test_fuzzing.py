"""Mutants of every kind end in a result or in one message; and the harness notices those that would not."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from burnish.frontends.config import LoadError
from tests import conventions, fuzzing, models
from tests.frontends import checkpoint_mutants, onnx_mutants
from tests.fuzzing import ended, every_command, fault_of, faults
from tests.ir import text_mutants

#: by kind, how many `make fuzz` tries
KINDS = {
    "tests.frontends.checkpoint_mutants": 1000,
    "tests.frontends.onnx_mutants": 1000,
    "tests.ir.text_mutants": 500,
    "tests.runtime.package_mutants": 200,
}
SAMPLES = [range(3), pytest.param(range(3, 40), marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `models`: a decoder in every form, an encoder-decoder, a sentence encoder with a Dense."""
    place = tmp_path_factory.mktemp("mutants")
    folder = place / "models"
    for name, options in (("llama", {}), ("shards", {"max_shard_size": "40KB"})):
        models.saved(models.llama(vocab_size=300, num_hidden_layers=1), folder / name, **options)
    for name, zipped in (("pickled", True), ("legacy", False)):
        shutil.copytree(folder / "llama", folder / name)
        tensors = load_file(folder / name / "model.safetensors")
        torch.save(tensors, folder / name / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        (folder / name / "model.safetensors").unlink()
    small = models.llama(vocab_size=300, num_hidden_layers=1)
    conventions.as_flax(small, folder / "flax")
    conventions.as_npz(small, folder / "npz")
    conventions.as_paddle(small, folder / "paddle")
    conventions.as_consolidated(small, folder / "parts", {"hidden_dim": 96, "rope_theta": 1e4}, parts=2)
    models.saved(models.t5(num_layers=1, vocab_size=300), folder / "t5")
    sentence = models.saved(models.bert(num_hidden_layers=1, vocab_size=300), folder / "sentence")
    for kind, config in (("1_Pooling", {"pooling_mode": "mean"}), ("2_Dense", {"in_features": 64, "out_features": 8})):
        (sentence / kind).mkdir()
        (sentence / kind / "config.json").write_text(json.dumps(config))
    dense = {"linear.weight": torch.ones(8, 64), "linear.bias": torch.ones(8)}
    save_file(dense, sentence / "2_Dense/model.safetensors")
    kinds = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")
    entries = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds]
    settings: dict[str, object] = {"modules": entries}
    settings["sentence_bert_config"] = {"max_seq_length": 9, "do_lower_case": True}
    settings["config_sentence_transformers"] = {"prompts": {"a": "b "}, "default_prompt_name": "a"}
    for name, value in settings.items():
        (sentence / f"{name}.json").write_text(json.dumps(value))
    for model in folder.iterdir():
        models.byte_tokenizer().save(str(model / "tokenizer.json"))
    return place


@pytest.mark.parametrize("seeds", SAMPLES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_mutants_ends_well(kind: str, seeds: range, place: Path) -> None:
    assert faults(kind, seeds, place) == {}


@pytest.mark.fuzz
@pytest.mark.parametrize(("kind", "first"), [(k, i) for k, many in KINDS.items() for i in range(0, many, 100)])
def test_many_mutants_end_well(kind: str, first: int, place: Path) -> None:
    assert faults(kind, range(first, first + 100), place) == {}


def test_a_mutant_is_made_of_its_seed_alone() -> None:
    for mutant in (onnx_mutants.mutant, text_mutants.mutant):
        assert [mutant(i) for i in range(20)] == [mutant(i) for i in range(20)]
        assert len({mutant(i) for i in range(50)}) > 40


# ---------------------------------------------------------------------------------------------------------- the harness


def test_what_is_not_documented_is_a_fault(tmp_path: Path) -> None:
    def raises(error: BaseException) -> str:
        def attempt(seed: int, folder: Path) -> None:
            raise error

        return fault_of(attempt, (LoadError,), 0, tmp_path)

    assert raises(LoadError("m.onnx: is damaged")) == ""
    assert "KeyError" in raises(KeyError("x"))
    assert "says nothing" in raises(LoadError(""))
    assert "s of CPU" in raises(fuzzing.OutOfTime())


def test_a_worker_that_dies_names_its_mutant_and_the_others_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying.py").write_text(
        "import os\nDOCUMENTED = ()\ndef attempt(seed, folder):\n    if seed == 2: os._exit(9)\n    assert seed != 4\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = faults("dying", range(6), tmp_path)
    assert found.keys() == {2, 4}
    assert "ended with 9" in found[2]
    assert "AssertionError" in found[4]


def test_how_a_command_may_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(arguments: list[str]) -> None:
        code, text, written = next(ends)
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "weights.bin").write_bytes(bytes(written))
        print(text, file=sys.stderr)
        raise SystemExit(code)

    monkeypatch.setattr(fuzzing, "main", command)
    ends = iter([(0, "", 0), (3, "error: x", 0), (1, "", 0)])
    assert [ended("run"), ended("run"), ended("run")] == [0, 3, 1]
    for end in ((3, "", 0), (70, "error: x", 0), (2, "Traceback", 0), (2, "error: " + "x" * 30_000, 0)):
        ends = iter([end])
        with pytest.raises(AssertionError, match=r"^burnish run "):
            ended("run")
    monkeypatch.setattr(fuzzing, "WRITTEN", 8)
    ends = iter([(0, "", 9)] * 5)
    with pytest.raises(AssertionError, match=r"^9 bytes were written"):
        every_command(tmp_path / "m.graph", tmp_path / "out")


def test_a_fault_of_a_command_is_one_of_its_mutant(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of mutants that would pass, none does where loading one ends in an error of ours."""
    monkeypatch.setattr("burnish.frontends.weight_files.has_weights", lambda folder: {}[folder])
    found = [fault_of(checkpoint_mutants.attempt, (), i, place) for i in range(5)]
    assert sum("ended with 70" in f and "KeyError" in f for f in found) > 1
