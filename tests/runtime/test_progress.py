"""Whoever does long work says how far it is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import burnish
from burnish.passes.pipelines import parse_pipeline, run_passes
from burnish.runtime.progress import PassesDone
from tests.decoder import decoder

IDS = np.array([[1, 2, 3]], np.int32)


@pytest.fixture
def told() -> tuple[list[tuple[str, int, int]], Callable[..., Any]]:
    calls: list[tuple[str, int, int]] = []
    return calls, lambda *call: calls.append(call)


def test_passes(told) -> None:
    calls, progress = told
    passes = parse_pipeline("fuse-fma,recover-rope,fuse-qkv")
    run_passes(decoder(), passes, observers=[PassesDone(passes, progress)])
    assert calls == [("passes", done, 3) for done in (1, 2, 3)]


@pytest.mark.parametrize("backend", ["numpy", pytest.param("xla", marks=pytest.mark.slow)])
def test_what_the_first_run_of_each_size_computes_and_compiles(backend: str, told) -> None:
    calls, progress = told
    burnish.executable(decoder(), backend).forward(IDS)  # the kernels of NumPy's are built, once and for all
    model = burnish.executable(decoder(), backend, progress=progress)
    assert {what for what, _, _ in calls} == {"passes"} and calls[-1][1] == calls[-1][2]
    calls.clear()
    model.forward(IDS)
    compiles = [("compiling forward", 0, 0), ("compiling forward", 1, 1)] if backend == "xla" else []
    weights = [call for call in calls if call[0] == "weights"]
    assert weights and weights == [("weights", done, len(weights)) for done in range(1, len(weights) + 1)]
    assert [call for call in calls if call[0] != "weights"] == compiles
    calls.clear()
    model.forward(IDS)
    assert calls == []
    model.forward(np.repeat(IDS, 20, 1))
    assert calls == compiles


def test_nobody_need_listen() -> None:
    model = burnish.executable(decoder())
    assert model.forward(IDS)["logits"].shape == (1, 3, 24)
