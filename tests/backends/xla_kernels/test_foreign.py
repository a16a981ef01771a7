"""XLA calls the kernels of the NumPy backend: the same bits, on as many threads, whatever its own threads do."""

import ctypes
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import burnish
from burnish.backends.interpreter import Interpreter
from burnish.backends.native.code import CodeError, addresses, bind
from burnish.backends.native.cpu import instruction_set, why_none
from burnish.backends.xla import Xla
from burnish.backends.xla_kernels import XLA_KERNELS, foreign
from burnish.ir import Module, parse
from burnish.ir.format import Packed
from burnish.ir.op import find_op
from burnish.ir.types import Type
from burnish.ir.weights import MemoryWeights
from tests import models

pytestmark = pytest.mark.skipif(bool(why_none()), reason=f"no kernels run here: {why_none()}")
ISA = instruction_set()
LAYOUT = "" if ISA is None else ISA.layout


def both(module: Module, inputs: dict[str, np.ndarray], kernels: list[str]) -> None:
    """XLA runs these kernels, and their results are NumPy's to the bit."""
    ours = Xla(module)
    assert sorted(w.kernel.name for _, w in ours.ways("forward") if w.kernel is not None) == sorted(kernels)
    expected = Interpreter(module)("forward", inputs)
    for name, got in ours("forward", inputs).items():
        assert np.array_equal(ours.to_numpy(got), expected[name]), name


# ------------------------------------------------------------------------------------------------------ the same bits


@settings(max_examples=25)
@given(
    tokens=st.integers(1, 9), rows=st.integers(1, 70), format=st.sampled_from(["q4_0", "q4_1", "q8_0", "int8"]),
    bias=st.booleans(), threads=st.integers(1, 5),
)  # fmt: skip
def test_a_product_of_int8(tokens: int, rows: int, format: str, bias: bool, threads: int) -> None:
    """Each is a custom call of XLA's; the second reads what the first has written."""
    module = parse(f"""module {{
      weights {{ @w: f32[{rows}, 256] }}
      graph forward(%x: f32[{tokens}, 256], %b: f32[{rows}]) {{
        %0: {format}[{rows}, 256] = quantize(@w, format="{format}") <- "w"
        %1: {format}.{LAYOUT}[{rows}, 256] = relayout(%0, layout="{LAYOUT}") <- "w"
        %2: int8_32[{tokens}, 256] = quantize(%x, format="int8_32") <- "q"
        %3: f32[{tokens}, {rows}] = linear(%2, %1{", %b" * bias}, to="f32") <- "y"
        return y=%3
      }}
    }}""")
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype("f4") for s in ((tokens, 256), (rows, 256), (rows,)))
    module.source = MemoryWeights({"w": w})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreign, "cores", lambda: threads)
        both(module, {"x": x, "b": b}, ["quantize.int8_32", "linear.int8"])


@pytest.mark.parametrize("tokens", [1, 3, 20])
def test_products_with_chosen_experts(tokens: int) -> None:
    """Of several tokens, the choices are sorted first; these calls hand each other what they make."""
    module = parse(f"""module {{
      weights {{ @w: q4_0[5, 40, 64] }}
      graph forward(%x: f32[{tokens}, 1, 64], %chosen: i32[{tokens}, 2]) {{
        %0: q4_0.{LAYOUT}[5, 40, 64] = relayout(@w, layout="{LAYOUT}") <- "w"
        %1: int8_32[{tokens}, 1, 64] = quantize(%x, format="int8_32") <- "q"
        %2: f32[{tokens}, 2, 40] = expert_linear(%1, %0, %chosen, to="f32") <- "y"
        return y=%2
      }}
    }}""")
    rng = np.random.default_rng(0)
    module.source = MemoryWeights({"w": Packed.made_up("q4_0", (5, 40, 64), rng)})
    inputs = {"x": rng.standard_normal((tokens, 1, 64), np.float32), "chosen": rng.integers(0, 5, (tokens, 2), "i4")}
    both(module, inputs, ["quantize.int8_32", "expert_linear.int8"])


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("tokens", [1, 3, 60])
def test_a_product_of_floats_in_a_loop(dtype: str, tokens: int) -> None:
    """The weights of a block are read where they lie in the stack of all blocks."""
    module = parse(f"""module {{
      graph forward(%x: f32[N, 40], %ws: {dtype}[3, 40, 40]) {{
        %0: f32[N, 40] = repeat(%x, %ws, count=3, carries=1, shared=0, states=0) {{
          graph block(%x: f32[N, 40], %w: {dtype}[40, 40]) {{
            %0: f32[N, 40] = linear(%x, %w, to="f32") <- "own"
            return x=%0
          }}
        }}
        return y=%0
      }}
    }}""")
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((tokens, 40)).astype("f4"), rng.standard_normal((3, 40, 40)).astype("f4")
    stored = np.asarray(jax.numpy.asarray(w).astype({"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[dtype]))
    ours = Xla(module)
    assert "linear: kernel linear.floats, called by XLA (in the loop)" in ours.plan_text("forward")
    calls = [t for t in ours.lower("forward", {"N": tokens}).as_text().splitlines() if "burnish.float_linear:" in t]
    assert len(calls) == 1 and "tensor<3x40x40x" in calls[0]
    expected = x
    for i in range(3):
        one = parse(f"""module {{
          graph forward(%x: f32[N, 40], %w: {dtype}[40, 40]) {{
            %0: f32[N, 40] = linear(%x, %w, to="f32") <- "own"
            return y=%0
          }}
        }}""")
        expected = Interpreter(one)("forward", {"x": expected, "w": stored[i]})["y"]
    assert np.array_equal(ours.to_numpy(ours("forward", {"x": x, "ws": stored})["y"]), expected)


ATTENTION = """module {
  graph forward(%q: f32[B, S, 4, 8], %k: f32[B, C, 2, 8], %v: f32[B, C, 2, 8], %past: i32[B], %count: i32[B]) {
    %0: f32[B, S, 4, 8] = attention(%q, %k, %v, %past, %count, scale=0.5, causal=true, window=WINDOW) <- "y"
    return y=%0
  }
}"""


@settings(max_examples=20)
@given(
    batch=st.integers(1, 3), tokens=st.integers(1, 40), past=st.integers(0, 300), window=st.sampled_from([0, 7]),
)  # fmt: skip
def test_attention_over_a_ragged_batch(batch: int, tokens: int, past: int, window: int) -> None:
    """With few rows and many keys, one call over segments of keys and one that joins them."""
    rng, keys = np.random.default_rng(past), past + tokens
    inputs = {
        "q": rng.standard_normal((batch, tokens, 4, 8)).astype("f4"),
        "k": rng.standard_normal((batch, keys, 2, 8)).astype("f4"),
        "v": rng.standard_normal((batch, keys, 2, 8)).astype("f4"),
        "past": rng.integers(0, past + 1, batch).astype("i4"),
        "count": rng.integers(1, tokens + 1, batch).astype("i4"),
    }
    both(parse(ATTENTION.replace("WINDOW", str(window))), inputs, ["attention.tiles"])


def test_a_whole_step_with_its_caches(tmp_path) -> None:
    """A decoder in q4_0, rolled, gives what the NumPy backend gives, but for what XLA computes between."""
    module = burnish.load(models.saved(models.llama(num_hidden_layers=3), tmp_path))
    module = burnish.optimize(module, "default,quantize-weights{recipe=q4_0}")
    ids, results = models.tokens((2, 9)), []
    for backend in ("numpy", "xla"):
        executable = burnish.executable(module, backend=backend)
        state = executable.start(2, 32)
        results.append([executable.prefill(ids[:, :7], state), executable.decode(ids[:, 7], state)])
        if backend == "xla":
            plan = executable.stateful.plan_text("forward").splitlines()
    assert "4 x linear: kernel linear.int8, called by XLA (in the loop)" in plan
    assert "1 x attention: kernel attention.tiles, called by XLA (in the loop)" in plan
    step = 0.02  # a rounding of an activation that goes the other way, times a weight
    for a, b in zip(*results, strict=True):
        assert np.abs(a - b).max() < step * np.abs(a).max()


# ----------------------------------------------------------------------------------------------------------- at once


def test_two_runs_at_once() -> None:
    """On XLA's two threads, each of which helps the other's run or its own."""
    module = parse("""module {
      graph forward(%x: f32[N, 64], %w: f32[512, 64]) {
        %0: f32[N, 512] = linear(%x, %w, to="f32") <- "y"
        return y=%0
      }
    }""")
    rng, ours = np.random.default_rng(0), Xla(module)
    shapes = {"x": (2, 64), "w": (512, 64)}
    inputs = [{k: rng.standard_normal(shape).astype("f4") for k, shape in shapes.items()} for _ in "12"]
    expected = [ours.to_numpy(ours("forward", i)["y"]) for i in inputs]

    def run(n: int) -> bool:
        return np.array_equal(ours.to_numpy(ours("forward", inputs[n % 2])["y"]), expected[n % 2])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(400)))


class Frame:
    """A call frame as XLA makes it (xla/ffi/api/c_api.h, version 0.3) of a quantize: with threads of our own."""

    def __init__(self, x: np.ndarray, threads: int, schedule: Callable[[int, int], int]) -> None:
        """`schedule(task, data)` is what XLA's threads are asked; it gives an error, or 0."""
        count, size = x.shape
        self.out = np.zeros((count, size // 32 * 40), np.uint8)
        self.work = np.full(4096, 0xAA, np.uint8)
        self.destroyed: list[int] = []
        words = [0, x.strides[0], 0, self.out.strides[0], size]
        places = [0, 0, 0, -1, 0, 2, 1, 0, -1, 0]
        head = [count, 1, 0, threads, threads, 100, len(words), 2]
        self.program = np.array([*head, *words, *places], np.int64)
        task = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(ctypes.c_int64))
        self._schedule = task(lambda a: schedule(a[3], a[4]))
        self._destroy = task(lambda a: self.destroyed.append(a[2]) or 0)
        self._kept: list[object] = [x]
        api = [0] * 30
        for at, function in ((136, self._schedule), (64, self._destroy)):
            api[at // 8] = ctypes.cast(function, ctypes.c_void_p).value or 0
        buffers = [self._at([48, 0, 0, a.ctypes.data, 0, 0]) for a in (x, self.out, self.work)]
        array = self._at([0, len(self.program), self.program.ctypes.data])
        args, rets = [40, 0, 1, 0, self._at(buffers[:1])], [40, 0, 2, 0, self._at(buffers[1:])]
        attrs = [48, 0, 1, 0, 0, self._at([array])]
        self.address = self._at([0, 0, self._at(api), 7, 3, *args, *rets, *attrs])

    def _at(self, words: list[int]) -> int:
        self._kept.append(memory := np.array(words, np.int64))
        return int(memory.ctypes.data)


@pytest.fixture(scope="module")
def handler() -> Callable[[Frame], int]:
    assert ISA is not None
    at = bind("foreign", ISA, [addresses("quantize", ISA)["int8_32"]])["handle"]
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(at)
    return lambda frame: function(frame.address)


X = np.random.default_rng(0).standard_normal((64, 64)).astype("f4")
EXPECTED = Packed.quantize(np, X, "int8_32").planes["bytes"]
TASK = ctypes.CFUNCTYPE(None, ctypes.c_int64)


def test_helpers_at_once(handler: Callable[[Frame], int]) -> None:
    threads: list[threading.Thread] = []

    def schedule(task: int, data: int) -> int:
        threads.append(threading.Thread(target=TASK(task), args=(data,)))
        threads[-1].start()
        return 0

    for _ in range(50):
        frame = Frame(X, 4, schedule)
        assert handler(frame) == 0 and np.array_equal(frame.out, EXPECTED)
        for thread in threads:
            thread.join()
        assert len(threads) == 3
        threads.clear()


def test_a_helper_that_comes_late_touches_nothing(handler: Callable[[Frame], int]) -> None:
    """XLA may run it when the call is done, and its memory is another's."""
    late: list[Callable[[], None]] = []
    frame = Frame(X, 3, lambda task, data: late.append(partial(TASK(task), data)) or 0)
    assert handler(frame) == 0 and np.array_equal(frame.out, EXPECTED)
    frame.out[:] = frame.work[:] = 0x55
    for run in late:
        run()
    assert len(late) == 2 and (frame.out == 0x55).all() and (frame.work == 0x55).all()


def test_without_threads_it_is_done_alone(handler: Callable[[Frame], int]) -> None:
    frame = Frame(X, 3, lambda task, data: 99)
    assert handler(frame) == 0 and np.array_equal(frame.out, EXPECTED)
    assert frame.destroyed == [99], "the error is given back, once"


def test_a_failing_kernel_would_show(handler: Callable[[Frame], int]) -> None:
    """The check above can fail: other numbers, other bytes."""
    frame = Frame(X * 2, 1, lambda task, data: 0)
    assert handler(frame) == 0 and not np.array_equal(frame.out, EXPECTED)


# ----------------------------------------------------------------------------------------------------------- elsewhere


def test_it_is_for_a_cpu_with_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, op = XLA_KERNELS["linear.floats"], find_op("linear")(to="f32")
    x, w = Type("f32", (2, 8)), Type("f32", (4, 8))
    assert kernel.why_not(op, x, w) is None
    assert kernel.why_not(op, x.with_dtype("bf16"), w) == "x is bf16[2, 8], not f32"
    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        assert kernel.why_not(op, x, w) == "it is for a CPU, and XLA runs on gpu"
    monkeypatch.setattr(foreign, "why_none", lambda: "BURNISH_CPU is none")
    assert kernel.why_not(op, x, w) == "BURNISH_CPU is none"


def test_an_xla_that_refuses_them_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("FFI handler API version 0.3 is not 0.9\nand so on")

    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    monkeypatch.setattr(foreign, "_register", foreign._register.__wrapped__)  # which remembers nothing
    told = r"JAX 0\..* does not take compiled kernels: FFI .* is not 0\.9; BURNISH_CPU=none does without them"
    with pytest.raises(CodeError, match=told):
        Xla(parse(ATTENTION.replace("WINDOW", "3"))).lower("forward", {"B": 1, "S": 1, "C": 8})


def test_names_are_the_same_in_every_process_and_what_is_exported_has_none() -> None:
    """A function's name has the digest of its code, and of what this calls."""
    product = parse("""module {
      graph forward(%x: f32[N, 64], %w: f32[8, 64]) {
        %0: f32[N, 8] = linear(%x, %w, to="f32") <- "y"
        return y=%0
      }
    }""")
    text = Xla(product).lower("forward", {"N": 1}).as_text()
    assert re.search(r'@"burnish\.float_linear:f32\.multiply\.[0-9a-f]{20}\.[0-9a-f]{20}"', text)
    module = parse(ATTENTION.replace("WINDOW", "0"))
    sizes, ours = {"B": 1, "S": 1, "C": 8}, Xla(module)
    text += ours.lower("forward", sizes).as_text()
    assert "@burnish.attention.attend." in text
    assert max(map(int, re.findall(r"\b\d{1,19}\b", text))) < 1 << 40, "no address"
    exported = ours.export("forward", sizes, ["cpu", "cuda"])
    assert "custom_call" not in exported.mlir_module()
    assert "attention.tiles" in ours.plan_text("forward"), "it still runs by it here"
