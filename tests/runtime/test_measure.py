"""What is measured of a model: the numbers that follow from it, and none that are times."""

import subprocess
import sys
from pathlib import Path

import pytest

import burnish
from burnish.runtime.measure import Spread, differences, machine, peak_memory, read_bandwidth, state_bytes, weight_bytes
from tests import models


def test_a_spread_is_of_all_that_was_measured() -> None:
    assert Spread.of([3.0, 1.0, 10.0, 2.0]) == (2.5, 1.0, 10.0)
    with pytest.raises(ValueError):
        Spread.of([])


def test_a_ratio_holds_for_whichever_runs_are_compared() -> None:
    old, new = Spread(2.0, 1.0, 4.0), Spread(6.0, 5.0, 8.0)
    assert new.ratio(old) == (3.0, 1.25, 8.0)
    assert min(n / o for n in new for o in old) == new.ratio(old).least
    assert max(n / o for n in new for o in old) == new.ratio(old).most


def test_settings_differ_by_name() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 2}) == []
    assert differences({"a": 1, "b": 2, "d": 4}, {"a": 1, "b": 3, "c": 5}) == [
        "b: 2, now 3",
        "c: None, now 5",
        "d: 4, now None",
    ]


def test_the_machine_has_a_name() -> None:
    assert " cores, " in machine()


def test_memory_that_was_held_stays_the_most() -> None:
    if peak_memory() is None:
        pytest.skip("this system does not say how much memory a process has held")
    code = """
import numpy as np
from burnish.runtime.measure import peak_memory
before = peak_memory()
held = np.ones(before + (64 << 20), np.uint8)
del held
print(peak_memory() > before)
"""  # a process of its own holds little
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"


def test_bandwidth_is_above_nothing() -> None:
    assert read_bandwidth(2, repeat=1).least > 0


def test_a_token_reads_each_weight_and_one_row_of_the_table(tmp_path: Path) -> None:
    model = models.llama(tie_word_embeddings=False)
    module = burnish.optimize(burnish.load(models.saved(model, tmp_path)))
    table = model.get_input_embeddings().weight
    numbers = sum(p.numel() for p in model.parameters()) - table.numel() + table.shape[1]
    rotations = model.model.rotary_emb.inv_freq.numel()
    assert weight_bytes(module) in (4 * numbers, 4 * (numbers + rotations))


def test_a_token_reads_all_of_a_table_that_is_its_head_too(tmp_path: Path) -> None:
    model = models.llama(tie_word_embeddings=True)
    module = burnish.optimize(burnish.load(models.saved(model, tmp_path)))
    assert weight_bytes(module) >= 4 * sum(p.numel() for p in model.parameters())


def test_a_token_reads_the_experts_that_it_chooses(tmp_path: Path) -> None:
    sizes = models.SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2}
    model = models.made("MixtralForCausalLM", vocab_size=96, **sizes)
    module = burnish.optimize(burnish.load(models.saved(model, tmp_path)))
    table = model.get_input_embeddings().weight
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    everything = sum(p.numel() for p in model.parameters())
    wanted = 4 * (everything - table.numel() + table.shape[1] - experts // 2)
    assert 0 <= weight_bytes(module) - wanted <= 4 * 64  # rotations


def test_states_are_read_as_far_as_they_are_written(tmp_path: Path) -> None:
    model = burnish.executable(burnish.load(models.saved(models.llama(), tmp_path)))
    session = model.start(1, 40)
    blocks, heads, size = 2, 2, 16
    assert state_bytes(session, 10) == 2 * blocks * heads * size * 10 * 4


def test_of_a_window_no_more_is_read_than_it_holds(tmp_path: Path) -> None:
    model = burnish.executable(burnish.load(models.saved(models.mistral(), tmp_path)))
    assert state_bytes(model.start(1, 40), 40) == 2 * 2 * 2 * 16 * 6 * 4  # the seventh is the token itself
