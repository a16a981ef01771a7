"""quantize-activations: golden/quantize-activations shows what it does."""

from collections.abc import Callable

import pytest

from burnish.ir import parse
from burnish.passes.pipelines import run_passes


@pytest.mark.parametrize("case", ["groups", "experts"])
def test_golden(golden: Callable[[str, str], None], case: str) -> None:
    golden("quantize-activations", case)


def test_of_several_formats_in_one_walk() -> None:
    """Each node is looked at once, and again where something was made at it, however many formats there are."""
    module = parse("""module {
      weights { @a: q4_0[32, 32] @b: q8_0[32, 32] @c: q4_1[32, 32] }
      graph forward(%x: f32[2, 32]) {
        %0: f32[2, 32] = linear(%x, @a) <- "a"
        %1: f32[2, 32] = linear(%0, @b) <- "b"
        %2: f32[2, 32] = linear(%1, @c) <- "c"
        return y=%2
      }
    }""")
    one = run_passes(module.copy(), "quantize-activations{formats=Q4_0|q8_0}")
    rounded = [n["w"].dtype for n in one.module.graphs["forward"] if n.op.name == "linear" and n["x"].type.format]
    assert rounded == ["q4_0", "q8_0"]
    more = run_passes(module.copy(), "quantize-activations{formats=q4_0|q8_0|q5_0|q5_1|q6_k}")
    assert more.visited == one.visited
