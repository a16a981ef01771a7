"""Prefill, decode and generation, on the embedded backend."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import burnish
from burnish.runtime.executable import Executable
from burnish.runtime.sampling import Sampling
from tests import models


@pytest.fixture(scope="module")
def oracle():
    return models.llama()


@pytest.fixture(scope="module")
def executable(oracle, tmp_path_factory) -> Executable:
    folder: Path = models.saved(oracle, tmp_path_factory.mktemp("llama"))
    return burnish.executable(burnish.optimize(burnish.load(folder)))


def test_greedy_text_is_the_oracles(oracle, executable) -> None:
    prompt = models.tokens((1, 7))
    with torch.no_grad():
        expected = oracle.generate(torch.tensor(prompt), max_new_tokens=12, do_sample=False, eos_token_id=None)
    assert list(executable.generate(prompt[0].tolist(), 12, stop=())) == expected[0, 7:].tolist()


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_the_penalty_sees_what_the_oracles_does(family: str, tmp_path) -> None:
    """The prompt and the output; of an encoder-decoder, what its decoder has said."""
    oracle, prompt = getattr(models, family)(), models.tokens((1, 7))
    model = burnish.executable(burnish.load(models.saved(oracle, tmp_path)))
    with torch.no_grad():
        expected = oracle.generate(
            torch.tensor(prompt), max_new_tokens=12, do_sample=False, eos_token_id=None, repetition_penalty=1.5
        )[0].tolist()
    seen: list[list[int]] = []
    penalized = Sampling(temperature=0, repetition_penalty=1.5)

    def sampler(logits: np.ndarray, ids: list[int]) -> int:
        seen.append(list(ids))
        return penalized(logits, ids)

    ids = list(model.generate(prompt[0].tolist(), 12, sampler, stop=()))
    before = [0] if family == "t5" else prompt[0].tolist()
    assert [*before, *ids] == expected
    assert seen == [expected[: len(before) + i] for i in range(12)]


def test_a_stop_token_ends_the_text_and_is_not_part_of_it(executable) -> None:
    prompt = models.tokens((1, 7))[0].tolist()
    whole = list(executable.generate(prompt, 12, stop=()))
    assert list(executable.generate(prompt, 12, stop=[whole[3]])) == whole[: whole.index(whole[3])]


def test_the_models_own_ends_hold_unless_others_are_given(oracle, tmp_path) -> None:
    prompt = models.tokens((1, 7))[0].tolist()
    module = burnish.load(models.saved(oracle, tmp_path))
    whole = list(burnish.executable(module).generate(prompt, 6, stop=()))
    module.facts = replace(module.facts, eos=(whole[2],))
    model = burnish.executable(module)
    assert list(model.generate(prompt, 6)) == whole[: whole.index(whole[2])]
    assert list(model.generate(prompt, 6, stop=())) == whole, "none, if none are given"


def test_a_batch_of_different_lengths(oracle, executable) -> None:
    ids, count = models.tokens((3, 9)), np.array([9, 4, 1], np.int32)
    state = executable.start(3, 16)
    logits = executable.prefill(ids, state, count)
    assert state.past.tolist() == [9, 4, 1]
    for b, n in enumerate(count):
        expected = models.logits_of(oracle, input_ids=ids[b : b + 1, :n])[0, -1]
        assert np.abs(logits[b] - expected).max() < models.WITHIN * np.abs(expected).max()


def test_a_long_prompt_goes_in_chunks(oracle, executable, monkeypatch) -> None:
    monkeypatch.setattr("burnish.runtime.generate.CHUNK", 4)
    ids = models.tokens((2, 11))
    logits = executable.prefill(ids, executable.start(2, 16), np.array([11, 3], np.int32))
    for b, n in enumerate((11, 3)):
        expected = models.logits_of(oracle, input_ids=ids[b : b + 1, :n])[0, -1]
        assert np.abs(logits[b] - expected).max() < models.WITHIN * np.abs(expected).max()


def test_a_state_that_is_full_refuses(executable) -> None:
    state = executable.start(1, 4)
    with pytest.raises(ValueError, match="do not fit a session of 4"):
        executable.prefill(models.tokens((1, 5)), state)


def test_an_encoder_makes_no_text(tmp_path) -> None:
    module = burnish.load(models.saved(models.llama(), tmp_path))
    del module.graphs["forward"]
    with pytest.raises(ValueError, match="makes no text"):
        burnish.executable(module).start(1, 4)


@given(
    counts=st.lists(st.integers(0, 7), min_size=1, max_size=3),
    more=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    seed=st.integers(0, 3),
)
@settings(max_examples=settings.default.max_examples // 5)
def test_ragged_prefills_add_up(executable, counts, more, seed) -> None:
    """Two prefills of any lengths, none included, into caches that are then just full: as each sequence alone."""
    batch, first = len(counts), np.array(counts, np.int32)
    second = np.array(more[:batch], np.int32) + (first == 0)  # at least one token in all
    ids = models.tokens((batch, int((first + second).max())), seed=seed)
    state = executable.start(batch, int((first + second).max()))
    logits = np.zeros((batch, 96), np.float32)
    for at, n in ((np.zeros_like(first), first), (first, second)):
        if n.max() > 0:
            chunk = np.zeros((batch, int(n.max())), np.int32)
            for b in range(batch):
                chunk[b, : n[b]] = ids[b, at[b] : at[b] + n[b]]
            logits = np.where((n > 0)[:, None], executable.prefill(chunk, state, n), logits)
    assert state.past.tolist() == (first + second).tolist()
    for b in range(batch):
        alone = executable.forward(ids[b : b + 1, : state.past[b]])["logits"][0, -1]
        assert np.abs(logits[b] - alone).max() < models.WITHIN * np.abs(alone).max()


def test_a_state_is_used_up_to_its_last_row(oracle, executable) -> None:
    ids = models.tokens((1, 5))
    state = executable.start(1, 5)
    executable.prefill(ids[:, :4], state)
    last = executable.decode(ids[:, 4], state)[0]
    expected = models.logits_of(oracle, input_ids=ids)[0, -1]
    assert np.abs(last - expected).max() < models.WITHIN * np.abs(expected).max()
    with pytest.raises(ValueError, match=r"\[6\] tokens do not fit a session of 5"):
        executable.decode(ids[:, 0], state)
    assert state.past.tolist() == [5]  # a refusal leaves the state as it was


@pytest.mark.slow
def test_a_graph_of_a_fixed_batch_says_so(exports) -> None:
    model = burnish.executable(burnish.optimize(burnish.load(exports("llama", batch=1).onnx)))
    with pytest.raises(ValueError, match="graph forward is fixed to a batch of 1, not 2"):
        model.start(2, 8)
    assert len(list(model.generate([5, 6, 7], 3, stop=()))) == 3


# --------------------------------------------------------------------------------------------------- what it is made of

Q4 = "recover,quantize-weights{recipe=lm=q8_0;embedding=q8_0;q4_0},fuse"


def held(model: Executable) -> dict[int, int]:
    """The bytes of each array that is there before run time, by its identity."""
    return {id(x): x.nbytes for a in model.static.arrays.values() for x in jax.tree.leaves(getattr(a, "planes", a))}


@pytest.mark.parametrize(
    ("backend", "pipeline"),
    [("numpy", "default"), ("numpy", Q4), pytest.param("xla", Q4, marks=pytest.mark.slow)],
)
def test_the_plain_and_the_stateful_form_hold_weights_once(oracle, tmp_path, backend: str, pipeline: str) -> None:
    module = burnish.optimize(burnish.load(models.saved(oracle, tmp_path)), pipeline)
    both, stateful = (burnish.executable(module, backend) for _ in range(2))
    ids = models.tokens((1, 4))
    both.forward(ids)
    plain = held(both)
    both.prefill(ids, both.start(1, 8))
    assert held(both) == plain, "not a byte more"
    stateful.prefill(ids, stateful.start(1, 8))
    assert sorted(held(stateful).values()) == sorted(plain.values()), "apart, each holds its own"
    assert sum(plain[i] for i in held(stateful).keys() & plain.keys()) < 100, "but for constants of the graph"


@pytest.mark.parametrize("backend", ["numpy", pytest.param("xla", marks=pytest.mark.slow)])
def test_what_encoder_and_decoder_both_read_is_held_once(tmp_path, backend: str) -> None:
    """T5's table of tokens is that of the encoder, of the decoder, and its head."""
    module = burnish.load(models.saved(models.t5(), tmp_path))
    model, ids = burnish.executable(module, backend), models.tokens((1, 4))
    model.forward(ids, graph="encoder")
    model.prefill(ids, model.start(1, 8, encoder_ids=ids))
    assert sum(held(model).values()) == sum(e.type.nbytes for e in module.weights.values())


def test_it_is_optimised_unless_it_was_or_that_is_not_wanted(tmp_path) -> None:
    module = burnish.load(models.saved(models.llama(), tmp_path))
    text = str(module)
    assert str(burnish.executable(module).module) == str(burnish.optimize(module))
    assert str(module) == text, "the module itself stays as it is"
    assert burnish.executable(module, pipeline="").module is module
    for pipeline in ("default", "fuse-qkv", "recover,quantize-weights{recipe=q8_0},fuse"):
        done = burnish.optimize(module, pipeline)
        assert burnish.executable(done).module is done, "what has been optimised, in whatever way, is left alone"
    quantized = burnish.optimize(module, "quantize-weights{recipe=q8_0}")
    assert burnish.executable(quantized).module is not quantized, "that was no pass of the pipeline"
    burnish.compile(burnish.optimize(module), tmp_path / "package")
    package = burnish.load(tmp_path / "package")
    assert burnish.executable(package).module is package


def test_what_is_optimised_gives_the_same_numbers(oracle, tmp_path) -> None:
    module, ids = burnish.load(models.saved(oracle, tmp_path)), models.tokens((2, 9))
    expected = models.logits_of(oracle, input_ids=ids)
    for pipeline in ("default", ""):
        logits = burnish.executable(module, pipeline=pipeline).forward(ids)["logits"]
        assert np.abs(logits - expected).max() < models.WITHIN * np.abs(expected).max()


def test_an_unknown_backend_is_refused_with_the_nearest_name(oracle, tmp_path) -> None:
    with pytest.raises(ValueError, match="there is no backend 'nunpy'; did you mean numpy"):
        burnish.executable(burnish.load(models.saved(oracle, tmp_path)), "nunpy")
