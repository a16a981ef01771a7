"""XLA against the NumPy interpreter and transformers; what it compiles, and what that needs."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

import burnish
from burnish.backends.binding import BindError
from burnish.backends.interpreter import Interpreter
from burnish.backends.native import cpu
from burnish.backends.xla import Xla
from burnish.backends.xla_kernels import XLA_KERNELS, linear
from burnish.ir import Module, parse
from burnish.ir.evaluate import evaluate
from burnish.ir.format import Packed
from burnish.ir.op import find_op
from burnish.runtime.executable import Executable
from burnish.testing.ops import gamma
from tests import models

Q4 = "quantize-weights{recipe=embedding=q8_0;lm=q8_0;q4_0}"
UNROLLED = "stateful,set-layouts{layout=planes}"


@pytest.fixture(scope="module")
def oracle():
    return models.llama(num_hidden_layers=3)


@pytest.fixture(scope="module")
def module(oracle, tmp_path_factory) -> Module:
    return burnish.optimize(burnish.load(models.saved(oracle, tmp_path_factory.mktemp("llama"))))


def pretend(place: str, patch: pytest.MonkeyPatch) -> None:
    """Run XLA as on a "cpu" with compiled kernels, on a "plain" one without, or on a "gpu"."""
    if place == "plain":
        patch.setattr(cpu, "_found", lambda: ((), "it is plain"))
    patch.setattr(jax, "default_backend", lambda: "gpu" if place == "gpu" else "cpu")


@pytest.fixture(scope="module")
def executables(module) -> Callable[[str], Executable]:
    """That of each place: what one test has compiled runs in others."""
    return cache(lambda place: burnish.executable(module, backend="xla"))


@pytest.fixture(params=["cpu", "plain", "gpu"])
def executable(executables, request, monkeypatch) -> Executable:
    pretend(request.param, monkeypatch)
    return executables(request.param)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend("plain", monkeypatch)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """But for rounding, relative to the largest number."""
    return bool(np.abs(a - b).max() < models.WITHIN * np.abs(b).max())


# ------------------------------------------------------------------------------------------------------------ numbers


def test_a_ragged_batch_and_the_tokens_that_follow(oracle, executable) -> None:
    ids, count = models.tokens((3, 24)), np.array([20, 7, 1], np.int32)
    state = executable.start(3, 32)
    logits = executable.prefill(ids[:, :20], state, count)
    for step in range(3):
        for b, n in enumerate(count + step):
            assert close(logits[b], models.logits_of(oracle, input_ids=ids[b : b + 1, :n])[0, -1])
        logits = executable.decode(ids[np.arange(3), count + step], state)


@pytest.mark.slow
def test_a_prompt_in_chunks_and_the_forward_of_all_positions(oracle, executable, monkeypatch) -> None:
    monkeypatch.setattr("burnish.runtime.generate.CHUNK", 8)
    ids = models.tokens((2, 21))
    expected = models.logits_of(oracle, input_ids=ids)
    assert close(executable.prefill(ids, executable.start(2, 32)), expected[:, -1])
    assert close(executable.forward(ids)["logits"], expected)


@pytest.mark.parametrize("family", ["bert", pytest.param("t5", marks=pytest.mark.slow)])
def test_encoders_and_cross_attention(family: str, tmp_path: Path) -> None:
    """The other families, against NumPy, which is held to transformers elsewhere."""
    made = getattr(models, family)(**({"num_layers": 3, "num_decoder_layers": 3} if family == "t5" else {}))
    module = burnish.optimize(burnish.load(models.saved(made, tmp_path)))
    ours, reference = (burnish.executable(module, backend=b, activations="float") for b in ("xla", "numpy"))
    ids, count = models.tokens((3, 9)), np.array([9, 4, 1], np.int32)
    for key, expected in reference.forward(ids, count).items():
        assert close(ours.forward(ids, count)[key], expected), key
    if family == "t5":
        prompt = ids[0].tolist()
        assert list(ours.generate(prompt, 12, stop=())) == list(reference.generate(prompt, 12, stop=()))
        assert ours.stateful.compilations == 2, "the encoder, and a step"


@pytest.mark.parametrize(
    "pipeline",
    [
        "stateful,xla",
        *(
            pytest.param(pipeline, marks=pytest.mark.slow)
            for pipeline in (
                f"{Q4},{UNROLLED}",
                f"{Q4},stateful,xla",
                "quantize-weights{recipe=int8},stateful,xla",
                f"{Q4},stateful,quantize-activations,xla",
            )
        ),
    ],
)
def test_rolled_or_not_it_is_the_interpreter(module, plain, pipeline: str) -> None:
    reference = Interpreter(burnish.optimize(module, pipeline.removesuffix(",xla").replace(UNROLLED, "stateful")))
    ours = Xla(burnish.optimize(module, pipeline))
    ids, past, count = models.tokens((2, 16)), np.array([0, 5], np.int32), np.array([16, 3], np.int32)
    inputs = {"ids": ids, "past": past, "count": count}
    expected = reference("forward", inputs | states(reference, 32))
    results = ours("forward", inputs | states(ours, 32))
    assert close(ours.to_numpy(results["logits"]), expected["logits"])
    keys = results["k"] if "xla" in pipeline else [results[f"k{i}"] for i in range(3)]
    assert close(np.stack(keys), np.stack([expected[f"k{i}"] for i in range(3)]))


def states(backend, capacity: int) -> dict[str, object]:
    graph = backend.module.graphs["forward"]
    return {
        v.name: backend.zeros(v.type.bind({"B": 2, "C": capacity})) for v in graph.inputs if v.name in graph.outputs
    }


def test_64_bit_and_16_bit_types_are_what_they_say_and_jax_stays_as_it_was() -> None:
    module = parse("""module {
      graph forward(%i: i64[N], %x: f64[N], %h: bf16[N]) {
        %0: i64[N] = add(%i, i64(1)) <- "i"
        %1: f64[N] = exp(%x) <- "x"
        %2: bf16[N] = mul(%h, %h) <- "h"
        return i=%0, y=%1, z=%2
      }
    }""")
    inputs = {"i": np.array([2**40, -1]), "x": np.array([1e-3, 1.0]), "h": np.array([1.5, 3], "f4").astype("bfloat16")}
    reference, ours = Interpreter(module)("forward", inputs), Xla(module)
    results = ours("forward", inputs)
    for name, expected in reference.items():
        got = ours.to_numpy(results[name])
        assert got.dtype == expected.dtype
        assert np.allclose(got.astype("f8"), expected.astype("f8"), rtol=1e-12), name
    assert jax.numpy.asarray(np.int64(1)).dtype == np.int32


def test_both_bodies_of_an_if() -> None:
    module = parse("""module {
      graph forward(%c: bool[], %x: f32[N]) {
        %0: f32[N] = if(%c, %x) {
          graph then(%x: f32[N]) {
            %0: f32[N] = add(%x, f32(1.0)) <- "a"
            return y=%0
          }
          graph else(%x: f32[N]) {
            %0: f32[N] = tanh(%x) <- "b"
            return y=%0
          }
        } <- "if"
        return y=%0
      }
    }""")
    ours, x = Xla(module), np.float32([0, 1])
    assert ours.to_numpy(ours("forward", {"c": np.array(True), "x": x})["y"]).tolist() == [1, 2]
    assert np.allclose(ours.to_numpy(ours("forward", {"c": np.array(False), "x": x})["y"]), np.tanh(x))
    assert ours.compilations == 1


def test_a_repeat_whose_states_are_rewritten_and_whose_values_are_kept() -> None:
    """A loop in a loop; its states are no caches, and each run returns a further value."""
    module = parse("""module {
      graph forward(%x: f32[N], %s: f32[3, N], %t: f32[3, 2, N]) {
        %0, %1, %2: f32[N], f32[3, N], f32[3, N] = repeat(%x, %s, %t, count=3, carries=1, shared=0, states=1) {
          graph outer(%x: f32[N], %s: f32[N], %t: f32[2, N]) {
            %0: f32[N] = repeat(%x, %s, %t, count=2, carries=1, shared=1, states=0) {
              graph inner(%x: f32[N], %s: f32[N], %t: f32[N]) {
                %0: f32[N] = fma(%x, %t, %s) <- "fma"
                return x=%0
              }
            } <- "inner"
            %1: f32[N] = add(%s, %0) <- "s"
            return x=%0, s=%1, y=%x
          }
        } <- "outer"
        return x=%0, s=%1, y=%2
      }
    }""")
    rng = np.random.default_rng(0)
    inputs = {k: rng.standard_normal(shape).astype("f4") for k, shape in {"x": 4, "s": (3, 4), "t": (3, 2, 4)}.items()}
    ours, expected = Xla(module), Interpreter(module)("forward", inputs)
    results, sizes = ours("forward", inputs), Interpreter(module)("forward", {k: abs(x) for k, x in inputs.items()})
    for k, x in expected.items():  # six products are added, one after another
        assert (np.abs(ours.to_numpy(results[k]) - x) <= 2 * gamma(2 * 6) * sizes[k]).all()


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dtype", ["q4_0", "q8_0", "int8", "bf16"])
def test_a_linear_in_blocks_of_rows(dtype: str, rows: int, monkeypatch) -> None:
    """24 outputs in blocks of 7: the last block overlaps the one before."""
    monkeypatch.setattr(linear, "BLOCK", 7 * 64)
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype("f4") for s in ((rows, 64), (24, 64), (24,)))
    stored = w.astype("bfloat16") if dtype == "bf16" else Packed.quantize(np, w, dtype).relayout(np, "planes")
    op = find_op("linear")(to="f32")
    (expected,) = evaluate(op, np, (x, stored, b), ["f32"])
    run = jax.jit(lambda *operands: XLA_KERNELS["linear.rows"](op, ["f32"], *operands)[0])
    assert close(np.asarray(run(x, stored, b)), expected)
    assert "stablehlo.while" in run.lower(x, stored, b).as_text()


@pytest.mark.parametrize(
    "case", ["past", "window", "mask", *(pytest.param(c, marks=pytest.mark.slow) for c in ("softcap", "count", "bias"))]
)
def test_attention_over_parts_of_the_keys(case: str) -> None:
    """100 keys, 64 at a time, so that the last part overlaps; sequences of very different lengths."""
    rng = np.random.default_rng(0)
    attributes = "scale=0.3" if case == "count" else "scale=0.3, causal=true"
    attributes += {"window": ", window=9", "softcap": ", softcap=1.5"}.get(case, "")
    mask = {"bias": "f32", "mask": "bool"}.get(case)
    module = parse(f"""module {{
      graph forward(%q: f32[B, S, 6, 8], %k: f32[B, C, 2, 8], %v: f32[B, C, 2, 5], %past: i32[B], %count: i32[B]{
        f", %bias: {mask}[B, 1, S, C]" if mask else ""
    }) {{
        %0: f32[B, S, 6, 5] = attention(%q, %k, %v, %past, {"%count" if case == "count" else "_"}{
        ", %bias" if mask else ""
    }, {attributes}) <- "y"
        return y=%0
      }}
    }}""")
    shapes = {"q": (3, 4, 6, 8), "k": (3, 100, 2, 8), "v": (3, 100, 2, 5)}
    inputs = {k: rng.standard_normal(s).astype("f4") for k, s in shapes.items()}
    inputs |= {"past": np.array([0, 70, 96], "i4"), "count": np.array([100, 3, 70], "i4")}
    if mask:
        bias = rng.standard_normal((3, 1, 4, 100))
        inputs["bias"] = bias > 0 if mask == "bool" else bias.astype("f4")
    ours = Xla(module)
    (got,), (expected,) = ours("forward", inputs).values(), Interpreter(module)("forward", inputs).values()
    assert close(ours.to_numpy(got), expected)


def test_attention_to_rows_before_and_a_ring() -> None:
    """They run as `evaluate` says, the ring in place on NumPy."""
    module = parse("""module {
      graph forward(%q: f32[B, S, 6, 8], %k: f32[B, S, 2, 8], %past: i32[B] is past, %count: i32[B] is count,
                    %ring: f32[B, R, 2, 8] is ring(batch=0, axis=1, most=5)) {
        %0, %1: f32[B, R, 2, 8], f32[B, R, 2, 8] = ring_update(%ring, %k, %past, %count) <- "ring"
        %2: f32[B, S, 6, 8] = attention(%q, %k, %k, %past, _, _, %1, %1, scale=0.3, causal=true, window=6) <- "y"
        return y=%2, ring=%0 is ring(batch=0, axis=1, most=5)
      }
    }""")
    rng = np.random.default_rng(0)
    shapes = {"q": (3, 4, 6, 8), "k": (3, 4, 2, 8), "ring": (3, 5, 2, 8)}
    inputs = {k: rng.standard_normal(s).astype("f4") for k, s in shapes.items()}
    inputs |= {"past": np.array([0, 3, 17], "i4"), "count": np.array([4, 1, 0], "i4")}
    ours, reference = Xla(module), Interpreter(module, kernels={})
    got = {k: ours.to_numpy(v) for k, v in ours("forward", inputs).items()}
    expected = reference("forward", inputs)
    assert expected["ring"] is inputs["ring"] and np.array_equal(got["ring"], expected["ring"])
    assert close(got["y"], expected["y"])
    assert "attention.keys" not in ours.plan_text("forward") and "in place" in reference.plan_text("forward")


@pytest.mark.parametrize("rows", [0, 3, 6])
def test_rings_of_blocks_in_a_loop(rows: int) -> None:
    """What each block reads is what its ring held before the step, in order, whatever is written meanwhile."""
    module = parse(f"""module {{
      graph forward(%x: f32[B, 4, 2], %past: i32[B] is past, %count: i32[B] is count, %w: f32[1, {rows}],
                    %ring: f32[3, B, {rows}, 2]) {{
        %0, %1: f32[B, 4, 2], f32[3, B, {rows}, 2] = repeat(%x, %past, %count, %w, %ring, count=3, carries=1,
                                                            shared=3, states=1) {{
          graph block(%x: f32[B, 4, 2], %past: i32[B], %count: i32[B], %w: f32[1, {rows}], %ring: f32[B, {rows}, 2]) {{
            %0, %1: f32[B, {rows}, 2], f32[B, {rows}, 2] = ring_update(%ring, %x, %past, %count)
            %2: f32[B, 1, 2] = matmul(%w, %1)
            %3: f32[B, 4, 2] = add(%x, %2)
            return x=%3, ring=%0
          }}
        }}
        return y=%0, ring=%1
      }}
    }}""")
    rng = np.random.default_rng(0)
    inputs = {k: rng.integers(-4, 4, s).astype("f4") for k, s in {"x": (3, 4, 2), "ring": (3, 3, rows, 2)}.items()}
    inputs |= {"past": np.array([0, 3, 17], "i4"), "count": np.array([4, 1, 0], "i4")}
    inputs["w"] = np.arange(1, rows + 1, dtype="f4")[None]
    ours = Xla(module)
    got, expected = ours("forward", inputs), Interpreter(module)("forward", inputs)
    for name, x in expected.items():
        assert np.array_equal(ours.to_numpy(got[name]), x), name


# -------------------------------------------------------------------------------------------------- what is compiled


@pytest.mark.slow
def test_forty_tokens_compile_a_prefill_and_a_step(oracle, module) -> None:
    executable = burnish.executable(module, backend="xla")
    prompt = models.tokens((1, 7))
    with torch.no_grad():
        expected = oracle.generate(torch.tensor(prompt), max_new_tokens=40, do_sample=False, eos_token_id=None)
    assert list(executable.generate(prompt[0].tolist(), 40, stop=())) == expected[0, 7:].tolist()
    assert executable.stateful.compilations == 2


def test_lengths_are_powers_of_two_from_16_on() -> None:
    lengths = [Xla(Module()).length(n) for n in (1, 2, 16, 17, 100, 512, 513)]
    assert lengths == [1, 16, 16, 32, 128, 512, 1024]


def operations(module: Module) -> int:
    """How many operations the StableHLO of a decode step has."""
    text = Xla(module).lower("forward", {"B": 1, "S": 1, "C": 32}).as_text()
    return len(re.findall(r'= (?:"?stablehlo\.|func\.call|call )', text))


@pytest.mark.slow
def test_the_step_of_16_blocks_has_as_many_operations_as_that_of_4(tmp_path: Path) -> None:
    counts = {}
    for blocks in (4, 16):
        saved = models.saved(models.llama(num_hidden_layers=blocks, hidden_size=32), tmp_path / str(blocks))
        module = burnish.optimize(burnish.load(saved), f"default,{Q4}")
        counts[blocks] = [operations(burnish.optimize(module, p)) for p in (f"{UNROLLED},roll-blocks", UNROLLED)]
    assert counts[4][0] == counts[16][0]
    assert counts[16][1] > 3 * counts[4][1], "without roll-blocks they grow"


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Module:
    """Two blocks whose every matrix has more elements than a block of rows."""
    made = models.llama(hidden_size=512, intermediate_size=1024, vocab_size=2048, num_attention_heads=8)
    return burnish.load(models.saved(made, tmp_path_factory.mktemp("large")))


@pytest.mark.parametrize(("quantize", "batch"), [pytest.param("", 4, marks=pytest.mark.slow), (Q4, 1)])
def test_a_step_holds_neither_a_cache_nor_an_unpacked_matrix(large, quantize: str, batch: int) -> None:
    module = burnish.optimize(large, ",".join(filter(None, ["default", quantize, "stateful,xla"])))
    memory = Xla(module).lower("forward", {"B": batch, "S": 1, "C": 2048}).compile().memory_analysis()
    matrix, cache = 512 * 512 * 4, batch * 2048 * 2 * 64 * 4
    assert memory.temp_size_in_bytes < min(matrix, cache)
    assert memory.alias_size_in_bytes >= 2 * 2 * cache, "the caches are written in place"


@pytest.mark.slow
def test_left_to_xla_it_holds_both(large) -> None:
    """So that the test above can fail."""
    kernels = {name: k for name, k in XLA_KERNELS.items() if k.op not in ("linear", "attention", "cache_update")}
    module = burnish.optimize(large, f"default,{Q4},stateful,xla")
    memory = Xla(module, kernels=kernels).lower("forward", {"B": 4, "S": 1, "C": 2048}).compile().memory_analysis()
    assert memory.temp_size_in_bytes > 512 * 1024 * 4 + 4 * 2048 * 2 * 64 * 4


def test_states_are_written_in_place(executable) -> None:
    state = executable.start(1, 16)
    before = dict(state.states)
    executable.decode(np.array([5]), state)
    assert before and all(a.is_deleted() for a in before.values())


def test_it_lowers_for_a_gpu_and_a_tpu_with_packed_weights_as_inputs(module) -> None:
    ours = Xla(burnish.optimize(module, f"{Q4},stateful,xla"))
    exported = ours.export("forward", {"B": 1, "S": 1, "C": 32}, ["cuda", "tpu"])
    assert exported.platforms == ("cuda", "tpu")
    assert any(str(a.dtype) == "uint8" and a.shape[0] == 3 for a in exported.in_avals), "stacked codes of Q4_0"
    assert "stablehlo.while" in exported.mlir_module()


def test_weights_are_on_the_device_once(large) -> None:
    """A matrix that two graphs read, and none of what the stacks were made of."""
    ours = Xla(burnish.optimize(large, "default,stateful,xla"))
    held = sum(a.nbytes for a in jax.tree.leaves(ours.weights("forward")))
    stored = sum(e.type.nbytes for e in large.weights.values())
    assert abs(held - stored) < 1000
    assert ours.weights("forward")[0] is ours.weights("forward")[0]


# -------------------------------------------------------------------------------------------------------- being asked


def test_the_plan_says_what_runs_how(module, plain) -> None:
    ours = Xla(burnish.optimize(module, f"{Q4},stateful,xla"))
    plan = ours.plan_text("forward").splitlines()
    rows = "kernel linear.rows, {} dequantized a block of rows at a time, {}"
    assert f"4 x linear: {rows.format('q4_0', 'W4A32')} (in the loop)" in plan
    assert f"1 x linear: {rows.format('q8_0', 'W8A32')}" in plan
    assert "1 x repeat: kernel repeat.loop, its states written in place" in plan
    assert "1 x attention: kernel attention.keys (in the loop)" in plan
    assert "2 x cache_update: kernel cache_update.stack (in the loop)" in plan
    unrolled = Xla(burnish.optimize(module, f"{Q4},{UNROLLED}")).plan_text("forward").splitlines()
    assert "6 x cache_update: XLA" in unrolled, "XLA writes into what is donated by itself"
    tiles = burnish.optimize(module, f"{Q4},set-layouts{{layout=tiles8}}")
    ours = Xla(tiles)
    refused = "linear.rows: rows cannot be read from its layout tiles8"
    assert refused in ours.plan_text("forward")
    assert any("XLA, dequantized" in line and refused in line for line in ours.fallbacks("forward"))


def test_what_does_not_fit_is_refused(module) -> None:
    ours = Xla(module)
    with pytest.raises(BindError, match="missing \\['ids'\\]"):
        ours("forward", {"tokens": models.tokens((1, 4))})
    with pytest.raises(ValueError, match="for the NumPy backend"):
        ours("forward", {"ids": models.tokens((1, 4))}, probe=object())


def test_a_broken_guard_is_refused() -> None:
    module = parse("""module {
      guard equal(N, M)
      graph forward(%x: f32[N], %y: f32[M]) {
        %0: f32[N] = add(%x, %y) <- "y"
        return y=%0
      }
    }""")
    with pytest.raises(BindError, match="assumed that N = M"):
        Xla(module)("forward", {"x": np.zeros(2, "f4"), "y": np.zeros(3, "f4")})
