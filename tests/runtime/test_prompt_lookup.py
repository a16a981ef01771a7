"""Prompt lookup: what is looked up, and that the text is the one that there would be without."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import burnish
from burnish.backends.binding import BindError
from burnish.runtime.executable import Executable
from burnish.runtime.prompt_lookup import look_up
from burnish.runtime.sampling import Sampler, Sampling, greedy
from burnish.runtime.session import Session
from tests import models


@pytest.mark.parametrize(
    "ids, most, found",
    [
        ([1, 2, 3, 9, 1, 2, 3], 2, [9, 1]),  # the longest match
        ([5, 7, 5, 8, 5], 3, [8, 5, 8]),  # the latest of equally long ones, as if the text repeated itself
        ([1, 2, 3], 4, []),
        ([4], 4, []),
        ([4, 4], 4, [4, 4, 4, 4]),
    ],
)
def test_what_stood_behind_the_last_tokens_before(ids: list[int], most: int, found: list[int]) -> None:
    assert look_up(ids, most) == found


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 5))
def test_it_stands_behind_tokens_like_the_last_in_the_text_that_it_makes(ids: list[int], most: int) -> None:
    found = look_up(ids, most)
    text = ids + found
    places = [i for i in range(1, len(ids)) if ids[i - 1] == ids[-1] and text[i : i + most] == found]
    assert not found or (len(found) == most and places)
    assert bool(found) == (ids[-1] in ids[:-1])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Executable:
    folder = models.saved(models.llama(), tmp_path_factory.mktemp("llama"))
    return burnish.executable(burnish.load(folder))


class Counted:
    """A sampler that keeps the logits that it was given."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.seen: list[np.ndarray] = []

    def __call__(self, logits: np.ndarray, ids: Sequence[int]) -> int:
        self.seen.append(logits.copy())
        return self.sampler(logits, ids)


@pytest.mark.parametrize("sampler", [greedy, Sampling(temperature=0.7, seed=3)], ids=["greedy", "drawn"])
def test_the_text_and_every_logit_are_the_same(llama: Executable, sampler: Sampler) -> None:
    prompt = [5, 6, 7, 8, 5, 6, 7, 8, 5, 6]
    if isinstance(sampler, Sampling):
        plain, quick = Counted(Sampling(temperature=0.7, seed=3)), Counted(Sampling(temperature=0.7, seed=3))
    else:
        plain, quick = Counted(greedy), Counted(greedy)
    expected = list(llama.generate(prompt, 40, plain))
    found = list(llama.generate(prompt, 40, quick, prompt_lookup_num_tokens=4))
    assert found == expected
    assert all((a.view("u4") == b.view("u4")).all() for a, b in zip(plain.seen, quick.seen, strict=True))


def test_fewer_steps_are_taken(llama: Executable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a text that repeats itself, as greedy ones of such models do."""
    steps: list[int] = []
    step = Session.step

    def counted(self: Session, *more: Any, **named: Any) -> Any:
        steps.append(1)
        return step(self, *more, **named)

    monkeypatch.setattr(Session, "step", counted)
    text = list(llama.generate([5, 6, 7], 50, greedy, stop=(), prompt_lookup_num_tokens=4))
    assert len(text) == 50 and len(steps) < 50


def test_steps_have_two_lengths(llama: Executable) -> None:
    """Each is one plan; the last step tries tokens behind the limit."""
    llama.every_row.plans.clear()  # type: ignore[attr-defined]  # of the interpreter
    list(llama.generate([5, 6, 7, 5, 6], 37, greedy, stop=(), prompt_lookup_num_tokens=4))
    sizes = [dict(key[1:]) for key in llama.every_row.plans]  # type: ignore[attr-defined]
    assert sorted(size["S"] for size in sizes) == [1, 5]


def test_what_cannot_go_back_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = models.saved(models.mistral(), tmp_path_factory.mktemp("mistral"))
    windows = burnish.executable(burnish.load(folder))
    with pytest.raises(BindError, match=r"state .* \(ring.* cannot"):
        list(windows.generate([5, 6], 4, prompt_lookup_num_tokens=2))
    jax = burnish.executable(burnish.load(folder), "xla")
    with pytest.raises(BindError, match="bits of steps of one; use numpy"):
        list(jax.generate([5, 6], 4, prompt_lookup_num_tokens=2))
