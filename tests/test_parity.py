"""Every model type computes what it computes in transformers, and each field of its config is accounted for.

Of each type the plain forward in its last configuration; all of it is `make parity` and `make keys`.
"""

import dataclasses

import pytest

from burnish.frontends.checkpoint import load_checkpoint
from tests import models
from tests.parity import keys
from tests.parity.keys import account
from tests.parity.laws import LAWS, forward_error
from tests.parity.types import TYPES

BY_NAME = {type.cls: type for type in TYPES}
SAMPLE = ("DebertaV2ForQuestionAnswering", "MistralForCausalLM", "Phi3ForCausalLM")


@pytest.mark.slow
@pytest.mark.parametrize("cls", BY_NAME)
def test_numbers_of_every_type_are_the_oracles(cls, tmp_path) -> None:
    oracle = BY_NAME[cls].made(BY_NAME[cls].variants[-1])
    assert forward_error(load_checkpoint(oracle.saved(tmp_path)), oracle) < models.WITHIN


@pytest.mark.parametrize("cls", SAMPLE)
def test_numbers_are_the_oracles_however_it_is_fed(cls, tmp_path) -> None:
    oracle = BY_NAME[cls].made(BY_NAME[cls].variants[-1])
    for name, law in LAWS.items():
        for in_full in (False, True):
            error = law(load_checkpoint(oracle.saved(tmp_path, in_full)), oracle)
            assert error < models.WITHIN, f"{name}: {error:.1e} of the largest"


def test_every_type_is_tried_in_two_configurations() -> None:
    assert {t.cls: len(t.variants) for t in TYPES if len(t.variants) < 2} == {}
    assert len(BY_NAME) == len(TYPES)


def test_a_field_that_is_read_wrongly_shows(monkeypatch) -> None:
    type = BY_NAME["MistralForCausalLM"]
    found = {r.outcome for r in account(type, only=["sliding_window", "rms_norm_eps", "attention_dropout"])}
    assert found == {"another", "same"}

    def deaf(folder):
        oracle = keys.ModelType.made(type, type.variants[-1])
        return load_checkpoint(oracle.saved(folder))

    monkeypatch.setattr(keys, "load_checkpoint", deaf)
    assert {r.outcome for r in account(type, only=["sliding_window"])} == {"WRONG"}


def test_a_wrong_weight_shows(tmp_path) -> None:
    type = BY_NAME["MistralForCausalLM"]
    oracle = type.made({})
    module = load_checkpoint(oracle.saved(tmp_path))
    assert forward_error(module, oracle) < models.WITHIN
    other = dataclasses.replace(oracle, model=type.made({"rms_norm_eps": 1e-3}).model, _known={})
    assert forward_error(module, other) > models.WITHIN
