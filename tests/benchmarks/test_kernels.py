"""The benchmark of kernels: that it reaches each, runs what it says, and tells what is slower. No time is measured."""

import sys
from typing import Any

import pytest

from benchmarks import kernels
from benchmarks.kernel_examples import Example, example, examples
from burnish.backends.kernels import KERNELS
from burnish.backends.native.cpu import instruction_set

NATIVE = pytest.mark.skipif(instruction_set() is None, reason="no kernel runs on this processor")
NORM = example("rms_norm", "f32[1, 3, 40]", "f32[40]", eps=1e-6)
UPDATE = example("cache_update", "f32[1, 8, 2, 4]", "f32[1, 1, 2, 4]", "i32[1] = 3")
PACKED = example("embedding", "i32[1, 2] < 64", "q4_0[64, 32]")


@NATIVE
def test_every_kernel_has_an_example() -> None:
    reached = {kernel.name for e in examples() if (kernel := kernels.kernel_of(e)) is not None}
    assert [name for name in kernels.wanted() if name not in reached] == []


def test_the_operands_of_every_example_fit() -> None:
    for one in examples():
        assert one.op.results(*kernels.types_of(one))


@NATIVE
@pytest.mark.parametrize("one", [NORM, UPDATE, PACKED], ids=lambda e: e.op.name)
def test_a_program_is_of_nodes_that_the_kernel_runs(one: Example) -> None:
    module, inputs, count = kernels.program(one)
    native, plain = kernels.runs_of(module)
    assert f"{count} x {one.op.name}: kernel " in native.plan_text("f")
    assert f"{count} x {one.op.name}: numpy" in plain.plan_text("f")
    assert native("f", inputs).keys() == plain("f", inputs).keys()


@NATIVE
def test_a_line_says_what_was_compared() -> None:
    kernel = kernels.kernel_of(NORM)
    assert kernel is not None
    line = kernels.measure(kernel, NORM, turns=1)
    assert (line["kernel"], line["node"]) == (kernel.name, "rms_norm(f32[1, 3, 40], f32[40])")
    assert line["ratio"] == line["numpy_us"] / line["us"]


def test_what_is_slower_is_said_and_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(kernel: Any, one: Example, turns: int) -> dict[str, Any]:
        speed = 0.5 if one.op.name == "gather" else 2.0
        return {"kernel": one.op.name, "node": one.title, "us": 1.0, "numpy_us": speed, "ratio": speed, "bar": 1.0}

    monkeypatch.setattr(kernels, "measure", measure)
    monkeypatch.setattr(kernels, "kernel_of", lambda one: KERNELS["rms_norm.rows"])
    monkeypatch.setattr(sys, "argv", ["kernels", "--only", "gather,rms_norm"])
    assert kernels.main() == 1
    assert capsys.readouterr().out.partition("slower than what they replace:\n")[2].startswith("gather ")
    monkeypatch.setattr(sys, "argv", ["kernels", "--only", "rms_norm"])
    assert kernels.main() == 0
    assert "slower" not in capsys.readouterr().out


def test_a_kernel_that_no_example_reaches_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "examples", lambda: [])
    monkeypatch.setattr(kernels, "wanted", lambda: ["one.of.ours"])
    monkeypatch.setattr(sys, "argv", ["kernels"])
    assert kernels.main() == 1
    assert capsys.readouterr().out.endswith("without an example: one.of.ours\n")


def test_a_product_of_matrices_need_not_pass_openblas_by_much() -> None:
    matrices = example("linear", "f32[4, 8]", "f32[8, 8]")
    row = example("linear", "f32[1, 8]", "f32[8, 8]")
    assert (kernels.bar_of(matrices), kernels.bar_of(row), kernels.bar_of(NORM)) == (0.85, 1.0, 1.0)
