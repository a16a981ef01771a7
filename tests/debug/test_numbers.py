"""What the checks measure with."""

import numpy as np
import pytest

from burnish.backends.interpreter import Interpreter
from burnish.debug.numbers import (
    Float64,
    error,
    made_up,
    made_up_inputs,
    made_up_weights,
    run_all,
    same_bits,
    units_of,
)
from burnish.ir import Packed, parse
from burnish.ir.parser import parse_type
from burnish.passes.engine import Context
from burnish.passes.pipelines import parse_pipeline
from burnish.testing.ops import gamma
from tests.decoder import TERMS, VOCABULARY, decoder

nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("result", "reference", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 3.0], [1.0, 2.0], 0.5),
        ([1.0, -4.5], [1.0, -4.0], 0.125),
        ([0.0, 0.25], [0.0, 0.0], 0.25),
        ([1.0], [1.0, 2.0], inf),
        ([nan, 2.0], [nan, 2.0], 0.0),
        ([nan, 2.0], [1.0, 2.0], inf),
        ([inf, 2.0], [inf, 2.0], 0.0),
        ([inf, 2.0], [-inf, 2.0], inf),
        ([1.0, 2.0], [1.0, inf], inf),
    ],
)
def test_error_is_relative_to_the_largest_number(result: list, reference: list, expected: float) -> None:
    assert error(np.array(result, "f4"), np.array(reference, "f8")) == expected


def test_integers_are_equal_or_wrong() -> None:
    assert error(np.array([1, 2]), np.array([1, 2])) == 0.0
    assert error(np.array([1, 2]), np.array([1, 3])) == inf


def test_units_follow_the_element_type() -> None:
    assert units_of(np.zeros(1, "f4")) == 4 * 2.0**-23
    assert units_of(np.zeros(1, parse_bf16())) == 4 * 2.0**-7
    assert units_of(np.zeros(1, "i4")) == 0.0


def parse_bf16() -> np.dtype:
    return made_up(parse_type("bf16[1]"), "x").dtype


def test_same_bits_tells_zeros_apart() -> None:
    assert same_bits(np.array([nan, 0.0]), np.array([nan, 0.0]))
    assert not same_bits(np.array([0.0]), np.array([-0.0]))
    assert not same_bits(np.zeros(2, "f4"), np.zeros(1, "f8"))


@pytest.mark.parametrize("text", ["f32[2, 3]", "bf16[4]", "i32[5]", "bool[3]", "q4_0[4, 64]", "q6_k.planes[4, 256]"])
def test_made_up_data_is_of_its_type_and_depends_on_name_and_seed(text: str) -> None:
    type = parse_type(text)
    x = made_up(type, "x")
    assert tuple(x.shape) == type.shape
    if isinstance(x, Packed):
        assert (x.format, x.layout) == (type.dtype, type.layout)
        x, again, other = (made_up(type, n).dequantize(np) for n in ("x", "x", "y"))
    else:
        again, other = made_up(type, "x"), made_up(type, "y")
    assert same_bits(x, again)
    assert not same_bits(x, other) or text == "bool[3]"


def test_made_up_ids_are_in_the_vocabulary_and_sizes_follow_guards() -> None:
    inputs = made_up_inputs(decoder())
    assert inputs["forward.ids"].shape == (2, 6)
    assert inputs["forward.ids"].min() >= 0 and inputs["forward.ids"].max() < VOCABULARY
    assert made_up_inputs(decoder(), sizes={"S": 3, "B": 1})["forward.ids"].shape == (1, 3)
    module = parse("""module {
      guard equal(P, S)
      graph forward(%x: f32[S, 2], %y: f32[P, 2], %z: f32[Q, 2]) {
        %0: f32[S, 2] = add(%x, %y)
        return s=%0, t=%z
      }
    }""")
    shapes = {k.partition(".")[2]: x.shape for k, x in made_up_inputs(module).items()}
    assert shapes["x"] == shapes["y"] != shapes["z"]


def test_float64_is_the_truth_that_the_interpreter_rounds() -> None:
    module = decoder()
    inputs = made_up_inputs(module)
    truth = run_all(module, Float64(module), inputs)["forward.logits"]
    rounded = run_all(module, Interpreter(module), inputs)["forward.logits"]
    assert truth.dtype == np.float64
    assert 0 < error(rounded, truth) < gamma(TERMS)
    embed, head = (module.source.read(f"{n}.weight").astype("f8") for n in ("embed", "head"))  # without any block:
    none = decoder(blocks=0)
    none.source = module.source
    expected = embed[inputs["forward.ids"]] @ head.T
    np.testing.assert_array_equal(run_all(none, Float64(none), inputs)["forward.logits"], expected)


def test_quantized_weights_count_for_what_they_stand_for() -> None:
    module = parse("""module {
      weights {
        @w: q4_0[3, 32]
      }
      graph forward(%x: f32[B, 32]) {
        %0: int8_32[B, 32] = quantize(%x, format="int8_32")
        %1: f32[B, 3] = linear(%x, @w)
        %2: f32[B, 3] = linear(%0, @w, to="f32")
        return y=%1, z=%2
      }
    }""")
    module.source = made_up_weights(module)
    inputs = made_up_inputs(module)
    x, w = inputs["forward.x"], module.source.read("w").dequantize(np).astype("f8")
    results = run_all(module, Float64(module), inputs)
    np.testing.assert_array_equal(results["forward.y"], x.astype("f8") @ w.T)
    quantized = Packed.quantize(np, x, "int8_32").dequantize(np).astype("f8")
    np.testing.assert_array_equal(results["forward.z"], quantized @ w.T)


def test_weights_packed_out_of_stored_parts_count_for_what_they_stand_for() -> None:
    module = parse("""module {
      weights {
        @code: u8[3, 32]
        @scale: f16[3, 1]
      }
      graph forward(%x: f32[B, 32]) {
        %0: q4_0[3, 32] = pack_parts(@scale, @code, format="q4_0")
        %1: f32[B, 3] = linear(%x, %0)
        return y=%1
      }
    }""")
    module.source = made_up_weights(module)
    inputs = made_up_inputs(module)
    code, scale = (module.source.read(name).astype("f8") for name in ("code", "scale"))
    y = run_all(module, Float64(module), inputs)["forward.y"]
    np.testing.assert_array_equal(y, inputs["forward.x"].astype("f8") @ ((code - 8) * scale).T)


def test_what_passes_add_is_filled_in() -> None:
    """Caches are empty and hold the tokens, nothing is past, every token counts."""
    module = decoder()
    inputs = made_up_inputs(module)
    context = Context(module.copy())
    for pass_ in parse_pipeline("stateful"):
        context.run(pass_)
    plain = run_all(module, Interpreter(module), inputs)["forward.logits"]
    stateful = run_all(context.module, Interpreter(context.module), inputs)
    assert stateful["forward.logits"].shape == (2, 1, VOCABULARY)
    assert error(stateful["forward.logits"], plain[:, -1:]) < 2 * gamma(TERMS)
    assert stateful["forward.k0"].shape[1] == inputs["forward.ids"].shape[1]


@pytest.mark.parametrize(
    ("guard", "sizes", "expected"),
    [
        ("at_most(9, N)", {}, (9, 6)),
        ("at_most(N, 1)", {}, (1, 6)),
        ("at_most(M, N)", {}, (6, 6)),
        ("at_most(M, N)", {"N": 4}, (4, 4)),
        ("at_most(9, N)", {"N": 3}, (3, 6)),  # whoever says so gets what they asked for
    ],
)
def test_sizes_are_as_guards_want_them_but_those_that_are_given(
    guard: str, sizes: dict[str, int], expected: tuple[int, int]
) -> None:
    module = parse(f"module {{ guard {guard} graph f(%x: f32[N], %y: f32[M]) {{ return x=%x, y=%y }} }}")
    assert tuple(x.shape[0] for x in made_up_inputs(module, sizes=sizes).values()) == expected
