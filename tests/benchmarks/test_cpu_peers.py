"""The engines' turns: with our own, which is there, and others, which are not. No time is held to anything."""

import subprocess
import sys
from pathlib import Path

import pytest

import burnish
from benchmarks import cpu_peers
from benchmarks.cpu_peers import EngineError, Model, Running, competitor, measure, parser
from benchmarks.peer_report import Turns
from tests import models


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of peers with one model, which one engine has."""
    folder = tmp_path_factory.mktemp("peers")
    source = models.saved(models.llama(vocab_size=4000, max_position_embeddings=512), folder / "models" / "tiny")
    burnish.compile(burnish.optimize(burnish.load(source)), folder / "packages" / "tiny-none")
    return folder


def test_engines_take_turns_and_those_that_are_not_there_are_left_out(peers: Path) -> None:
    line = [str(peers), "--models", "tiny", "--cases", "1x20:3", "--repeat", "2", "--starts", "2"]
    options = parser.parse_args([*line, "--engines", "burnish,llama.cpp,onnxruntime"])
    found = measure(options, Model.of(peers, "tiny"), threads=1, budget=60.0)
    assert list(found["engines"]) == ["burnish bf16"]
    assert found["setting"]["rounds"] == 2
    assert list(found["engines"]["burnish bf16"]["phases"]) == ["pp20", "tg@20"]
    left = found["left_out"]
    assert left["llama.cpp q4_0"] == f"{peers / 'llama_cpp'}: No such file or directory"
    assert "tiny-q4_0" in left["burnish q4_0"]
    assert "onnxruntime" in left["onnxruntime-genai int4"]


def test_a_budget_that_is_over_ends_the_rounds(peers: Path) -> None:
    line = [str(peers), "--models", "tiny", "--cases", "1x4", "--repeat", "50", "--starts", "1"]
    found = measure(parser.parse_args([*line, "--engines", "burnish bf16"]), Model.of(peers, "tiny"), 1, budget=0.0)
    assert found["setting"]["rounds"] == 1


def test_a_step_reads_weights_and_what_came_before(peers: Path) -> None:
    model, llama = Model.of(peers, "tiny"), models.llama(vocab_size=4000)
    table = llama.get_input_embeddings().weight
    numbers = sum(p.numel() for p in llama.parameters()) - table.numel() + table.shape[1]
    assert 0 <= model.weights - numbers <= 8  # rotations
    assert model.cache == 2 * 2 * 2 * 16
    peer = next(p for p in cpu_peers.DECODERS if p.name == "llama.cpp q4_0")
    assert model.bytes_of(peer, 10) == model.weights * 4.5 / 8 + model.cache * 10 * 2


def test_each_engine_is_compared_with_one_that_runs_the_same_models() -> None:
    for table in (cpu_peers.DECODERS, cpu_peers.ENCODERS):
        names = [p.name for p in table]
        assert len(names) == len(set(names))
        assert {p.beside for p in table} <= set(names)


def test_an_engine_that_fails_in_a_turn_is_left_out(peers: Path) -> None:
    line = [str(peers), "--models", "tiny", "--cases", "1x4,2x4", "--repeat", "1", "--starts", "1"]
    found = measure(parser.parse_args([*line, "--engines", "burnish bf16"]), Model.of(peers, "tiny"), 1, budget=60.0)
    assert found["engines"] == {}
    assert found["left_out"] == {"burnish bf16": "Case(batch=2, tokens=4, steps=0): it ended"}


def test_an_engine_that_ends_is_an_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "print('{\"ready\": true}')"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        engine = Running(process, Turns())
        assert engine.ask("") == {"ready": True}
        with pytest.raises(EngineError, match="it ended"):
            engine.ask("")


def test_a_competitor_is_there_while_it_is_wanted() -> None:
    with competitor("pinned", 0) as process:
        assert process is not None
        assert process.poll() is None
    assert process.poll() is not None
    with competitor(None, 0) as process:
        assert process is None
