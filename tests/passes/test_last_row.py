"""last-row: golden/last-row shows what it does."""

from collections.abc import Callable

import numpy as np
import pytest

from burnish.backends.interpreter import Interpreter
from burnish.ir.parser import parse
from burnish.passes.engine import Context
from burnish.passes.pipelines import parse_pass

TEXT = """
module {
  graph forward(%ids: i32[B, S] is tokens, %past: i32[B] is past, %x: f32[B, S, 1, 2], %y: f32[B, S, 2]) {
    %0: f32[B, S, 1, 2] = attention(%x, %x, %x, scale=1.0, causal=true)
    %1: f32[B, S, 2] = squeeze(%0, axes=[2])
    %2: f32[B, S, 2] = add(%1, %y)
    %3: f32[B, S, 2] = neg(%2)
    return logits=%3 is logits, hidden=%2 is hidden
  }
}
"""


@pytest.mark.parametrize("case", ["head", "both_ways"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("last-row", case)


def test_the_row_is_the_last_real_tokens() -> None:
    plain, module = parse(TEXT), parse(TEXT)
    Context(module).run(parse_pass("last-row"))
    rng = np.random.default_rng(0)
    inputs = {"ids": np.zeros((3, 4), "i4"), "past": np.zeros(3, "i4")}
    inputs |= {"x": rng.standard_normal((3, 4, 1, 2)).astype("f4"), "y": rng.standard_normal((3, 4, 2)).astype("f4")}
    expected = Interpreter(plain)("forward", inputs)
    count = np.array([4, 2, 1], "i4")
    results = Interpreter(module)("forward", {**inputs, "count": count})
    assert results["logits"].shape == (3, 1, 2)
    assert np.array_equal(results["logits"][:, 0], expected["logits"][np.arange(3), count - 1])
    assert np.array_equal(results["hidden"], expected["hidden"])  # other outputs keep every row


def test_what_adds_sequences_up_comes_before_the_row_is_taken() -> None:
    """Its rows run along, but each sequence has its last token elsewhere."""
    text = TEXT.replace("neg(%2)", "cumulative_sum(%2, axis=0)")
    plain, module = parse(text), parse(text)
    Context(module).run(parse_pass("last-row"))
    inputs = {"ids": np.zeros((2, 3), "i4"), "past": np.zeros(2, "i4"), "x": np.ones((2, 3, 1, 2), "f4")}
    inputs["y"] = np.arange(12, dtype="f4").reshape(2, 3, 2)
    results = Interpreter(module)("forward", inputs | {"count": np.array([3, 1], "i4")})
    assert np.array_equal(results["logits"][:, 0], Interpreter(plain)("forward", inputs)["logits"][[0, 1], [2, 0]])


def test_what_says_how_many_rows_there_are_stays_behind() -> None:
    """Of one row it would make S again."""
    text = TEXT.replace("neg(%2)", "broadcast_to(%2, shape=[B, S, 2])")
    module = parse(text)
    Context(module).run(parse_pass("last-row"))
    assert str(module.graphs["forward"].outputs["logits"].type) == "f32[B, 1, 2]"
