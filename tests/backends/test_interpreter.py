"""The NumPy interpreter: a plan for each size, what is static once, states in place, and what it says of itself."""

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from burnish.backends.binding import BindError
from burnish.backends.interpreter import Interpreter
from burnish.backends.kernels import KERNELS, Kernel
from burnish.backends.native.cpu import instruction_set, instruction_sets
from burnish.ir import Module, Node, Op, Packed, Type, parse
from burnish.ir.dims import Sym
from burnish.ir.guards import AllTrue
from burnish.ir.ops.elementwise import Exp
from burnish.ir.run import RunError
from burnish.ir.weights import MemoryWeights

TWO = """module {
  weights {
    @w: f32[3, 2]
  }
  graph first(%x: f32[N, 2]) {
    weights {
      @0: f32[3, 2] = add(@w, f32(1.0)) <- "static"
    }
    %0: f32[N, 3] = linear(%x, @0) <- "y"
    return y=%0, w=@w
  }
  graph second(%x: f32[N, 2]) {
    %0: f32[N, 3] = linear(%x, @w) <- "z"
    return z=%0, x=%x
  }
}"""
W = np.arange(6, dtype="f4").reshape(3, 2)


class Counting(MemoryWeights):
    """Weights of which it is known how often they were read."""

    reads = 0

    def read(self, name: str) -> np.ndarray:
        self.reads += 1
        return super().read(name)


def two() -> Interpreter:
    module = parse(TWO)
    module.source = Counting({"w": W})
    return Interpreter(module)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "f4")


# --------------------------------------------------------------------------------------------------------------- plans


def test_a_plan_is_made_for_each_graph_and_size_and_kept() -> None:
    run = two()
    made = []
    for graph, n in (("first", 2), ("first", 5), ("second", 2), ("first", 2)):
        out = run(graph, {"x": ones(n, 2)})
        assert next(iter(out.values())).shape == (n, 3)
        made.append(dict(run.plans))
    assert [len(plans) for plans in made] == [1, 2, 3, 3]
    assert all(made[-1][key] is plan for plans in made for key, plan in plans.items()), "none is made again"


def test_what_weights_determine_is_computed_once_whatever_the_sizes() -> None:
    run = two()
    for n in (1, 2, 3):
        run("first", {"x": ones(n, 2)})
    assert sorted(x.shape for x in run.static.arrays.values()) == [(3, 2), (3, 2)]
    assert run.module.source.reads == 1
    run("second", {"x": ones(1, 2)})
    assert run.module.source.reads == 1, "another graph reads the same"
    assert [x is W for x in run.static.arrays.values()].count(True) == len(run.static.arrays) - 1 == 1


def test_outputs_may_be_inputs_and_weights() -> None:
    run, x = two(), ones(4, 2)
    assert run("second", {"x": x})["x"] is x
    y, w = run("first", {"x": x}).values()
    assert w is W and y.tolist() == [(W + 1).sum(axis=1).tolist()] * 4


def test_bodies_run_at_the_sizes_of_their_graph() -> None:
    run = Interpreter(
        parse("""module {
      graph forward(%x: f32[N], %y: f32[2, N]) {
        %0: f32[N] = repeat(%x, %y, count=2, carries=1, shared=0, states=0) {
          graph body(%x: f32[N], %y: f32[N]) {
            %0: i32[N] = iota(size=N)
            %1: f32[N] = cast(%0, to="f32")
            %2: f32[N] = fma(%x, %y, %1)
            return x=%2
          }
        }
        return y=%0
      }
    }""")
    )
    for n in (3, 1):
        x, y = np.arange(n, dtype="f4"), np.arange(2.0 * n, dtype="f4").reshape(2, n)
        (got,) = run("forward", {"x": x, "y": y}).values()
        assert got.tolist() == ((x * y[0] + np.arange(n)) * y[1] + np.arange(n)).tolist()


class Watch:
    """A probe that knows what it was shown, and does not keep it alive."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[Any]]] = []
        self.results: dict[str, weakref.ref] = {}
        self.alive: list[set[str]] = []
        self.times: list[float] = []
        self.finishes: list[tuple[float, float]] = []

    def node(self, node: Node, inputs: Sequence[Any], outputs: Sequence[Any], seconds: float) -> None:
        self.seen.append((node.op.name, [None if x is None else x.shape for x in inputs]))
        self.results[node.op.name] = weakref.ref(outputs[0])
        self.times.append(seconds)
        self.alive.append({name for name, r in self.results.items() if r() is not None})

    def finished(self, wall: float, own: float) -> None:
        self.finishes.append((wall, own))


CHAIN = """module {
  graph forward(%x: f32[N]) {
    %0: f32[N] = exp(%x)
    %1: f32[N] = tanh(%0)
    %2: f32[N] = neg(%1)
    %3: f32[N] = add(%2, %1)
    return kept=%1, y=%3
  }
}"""


def test_a_probe_sees_each_node_and_what_is_freed_on_the_way() -> None:
    watch = Watch()
    results = Interpreter(parse(CHAIN))("forward", {"x": ones(3)}, watch)
    assert watch.seen == [("exp", [(3,)]), ("tanh", [(3,)]), ("neg", [(3,)]), ("add", [(3,), (3,)])]
    ((wall, own),) = watch.finishes
    assert wall == pytest.approx(sum(watch.times) + own) and min(watch.times) > 0
    gc.collect()
    held = {name for name, r in watch.results.items() if r() is not None}
    assert held == {"tanh", "add"} and "exp" not in watch.alive[2], "exp went before neg was done"
    assert list(results) == ["kept", "y"] and (results["y"] == 0).all()


# -------------------------------------------------------------------------------------------------------------- states

UPDATES = {"cache_update": "%state, %new, %past", "ring_update": "%state, %new, %past, %count"}
ROLES = {"cache_update": "rows(batch=0, axis=1)", "ring_update": "ring(batch=0, axis=1, most=9)"}


IN_PLACE = "kernel {}.in_place" if instruction_sets() else "numpy, in place"


def update(op: str, role: str, more: str = "", returned: str = "") -> Interpreter:
    results = "%0: f32[B, C, 1, 2]" if op == "cache_update" else "%0, %9: f32[B, C, 1, 2], f32[B, C, 1, 2]"
    mark = f" is {role}" if role else ""
    return Interpreter(
        parse(f"""module {{
      graph forward(%state: f32[B, C, 1, 2]{mark}, %new: f32[B, S, 1, 2], %past: i32[B], %count: i32[B]) {{
        {results} = {op}({UPDATES[op]}) <- "update"
        {more}
        return state=%0{mark}{returned}
      }}
    }}""")
    )


def fed(old: np.ndarray) -> dict[str, np.ndarray]:
    return {"state": old, "new": ones(1, 2, 1, 2), "past": np.array([1], "i4"), "count": np.array([2], "i4")}


@pytest.mark.parametrize("op", UPDATES)
@pytest.mark.parametrize(
    ("role", "more", "returned", "in_place"),
    [
        ("its own", "", "", True),
        ("carry(batch=0)", "", "", True),
        ("", "", "", False),  # an input like another
        ("its own", '%1: f32[B, C, 1, 2] = neg(%state) <- "reader"', ", neg=%1", False),
        ("its own", "", ", old=%state", False),
    ],
    ids=["state", "carry", "no role", "another reader", "returned"],
)
def test_a_state_that_nothing_else_reads_is_written_in_place(
    op: str, role: str, more: str, returned: str, in_place: bool
) -> None:
    run = update(op, ROLES[op] if role == "its own" else role, more, returned)
    old = np.zeros((1, 4, 1, 2), "f4")
    results = run("forward", fed(old))
    assert results["state"][0, :, 0, 0].tolist() == [0, 1, 1, 0]
    assert (results["state"] is old) == in_place and old.any() == in_place
    assert not results.get("neg", old * 0).any() and not results.get("old", old * 0).any()
    assert (f"1 x {op}: {IN_PLACE.format(op)}" in run.plan_text("forward").splitlines()) == in_place


@pytest.mark.parametrize("op", UPDATES)
def test_a_value_on_the_way_is_no_state(op: str) -> None:
    """Even where it was made of a state."""
    made = "%2, %3: f32[B, C, 1, 2], f32[B, C, 1, 2]" if op == "ring_update" else "%2: f32[B, C, 1, 2]"
    more = f'%1: f32[B, C, 1, 2] = neg(%0) <- "n"\n{made} = {op}({UPDATES[op].replace("%state", "%1")}) <- "again"'
    run = update(op, ROLES[op], more, ", neg=%1, again=%2")
    results = run("forward", fed(np.zeros((1, 4, 1, 2), "f4")))
    assert results["neg"][0, :, 0, 0].tolist() == [0, -1, -1, 0]
    assert results["again"][0, :, 0, 0].tolist() == [0, 1, 1, 0]
    lines = run.plan_text("forward").splitlines()
    assert f"1 x {op}: {IN_PLACE.format(op)}" in lines
    assert f"1 x {op}: numpy (something else reads what it would write into)" in lines


def test_an_empty_state() -> None:
    made = Interpreter(Module()).zeros(Type("bf16", (2, 0, 3)))
    assert (made.shape, str(made.dtype)) == ((2, 0, 3), "bfloat16")
    assert (Interpreter(Module()).zeros(Type("i32", (2,))) == [0, 0]).all()


def test_lengths_are_what_is_wanted_and_arrays_are_numpys() -> None:
    run, x = Interpreter(Module()), ones(3)
    assert [run.length(n) for n in (0, 1, 17)] == [0, 1, 17] and run.to_numpy(x) is x


# -------------------------------------------------------------------------------------------------------------- guards


def guarded() -> Interpreter:
    """A module that assumes of N that it is at most 8, and that every number below it is below 5."""
    module = parse("module { guard at_most(N, 8) graph forward(%x: f32[N]) { return y=%x } }")
    graph = module.body("guard")
    five = graph.ops.constant(5, "i32")
    graph.set_outputs({"holds": graph.ops.less(graph.ops.iota(size=Sym("N")), five)})
    module.guards.append(AllTrue("that N is small", graph))
    return Interpreter(module)


@pytest.mark.parametrize(
    ("n", "message"),
    [(0, None), (5, None), (6, "assumed that N is small, which does not hold with N=6"), (9, "assumed that N <= 8")],
)
def test_guards_are_checked(n: int, message: str | None) -> None:
    run = guarded()
    if message is None:
        assert run("forward", {"x": ones(n)})["y"].shape == (n,)
        return
    for _ in range(2):  # a refusal is not forgotten
        with pytest.raises(BindError, match=message):
            run("forward", {"x": ones(n)})
    assert not run.plans


def test_guards_are_checked_once_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    run, checked = guarded(), list[dict[str, int]]()
    once = Interpreter.run_guard
    monkeypatch.setattr(Interpreter, "run_guard", lambda self, g, sizes: checked.append(sizes) or once(self, g, sizes))
    for n in (2, 3, 2, 3, 2):
        run("forward", {"x": ones(n)})
    assert checked == [{"N": 2}, {"N": 3}]


# --------------------------------------------------------------------------------------------------------------- types


BODY = "%0: f32[N] = exp(%x) %1: f32[N] = add(%0, %x) return y=%1"


BODIES = f"{{ graph a(%x: f32[N]) {{ {BODY} }} graph b(%x: f32[N]) {{ {BODY} }} }}"


@pytest.mark.parametrize("statements", [BODY, f"%0: f32[N] = if(bool(true), %x) {BODIES} return y=%0"])
def test_results_are_held_to_their_types_where_that_is_asked_for(
    statements: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those on the way too, though what is made of them is of its type again."""
    module, inputs = parse(f"module {{ graph forward(%x: f32[N]) {{ {statements} }} }}"), {"x": ones(3)}
    expected = Interpreter(module, kernels={}, check=True)("forward", inputs)["y"]
    assert expected.tolist() == (np.exp(ones(3)) + 1).tolist()
    monkeypatch.setattr(Exp, "eval", lambda self, xp, x: xp.exp(x[:1]))
    assert Interpreter(module, kernels={})("forward", inputs)["y"].tolist() == expected.tolist(), "nobody checks"
    with pytest.raises(RunError, match=r"gives float32\[1\], but is declared f32\[N\] = f32\[3\]"):
        Interpreter(module, kernels={}, check=True)("forward", inputs)


# ------------------------------------------------------------------------------------------------------------- kernels

PRODUCTS = """module {
  weights {
    @q: q8_0[2, 32]
    @w: f32[2, 32]
  }
  graph forward(%x: f32[N, 32]) {
    weights {
      @0: f32[2, 32] = dequantize(@q) <- "weight time"
    }
    %0: f32[N, 2] = linear(%x, @q) <- "a"
    %1: f32[N, 2] = linear(%x, @q) <- "b"
    %2: f32[N, 2] = linear(%x, @w) <- "c"
    %3: f32[N, 2] = linear(%x, @0) <- "d"
    %4: f32[N, 2] = add(%0, %1) <- "sum"
    return y=%4, c=%2, d=%3
  }
}"""


class Sevens(Kernel):
    """A kernel that can run every linear on some weights, and says 7."""

    op = "linear"

    def __init__(self, *formats: str) -> None:
        self.formats, self.calls = formats, 0

    def why_not(self, op: Op, x: Type, w: Type, b: Type | None = None) -> str | None:
        return None if w.dtype in self.formats else f"{w.dtype} is not for it"

    def __call__(self, op: Op, dtypes: Sequence[str], x: Any, w: Any, b: Any = None) -> tuple[np.ndarray, ...]:
        self.calls += 1
        return (np.full((*x.shape[:-1], w.shape[0]), 7, dtypes[0].replace("f", "float")),)


@pytest.mark.parametrize("formats", [(), ("f32",), ("q8_0",), ("f32", "q8_0")], ids=str)
def test_the_plan_and_the_fallbacks_say_what_runs(
    formats: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, registries: None
) -> None:
    monkeypatch.setattr(KERNELS, "_things", {})
    kernel = Sevens(*formats)
    kernel.name = "sevens"
    KERNELS.add("sevens", kernel)
    module = parse(PRODUCTS)
    q = np.eye(2, 32, dtype="f4") * 127
    module.source = MemoryWeights({"q": Packed.quantize(np, q, "q8_0"), "w": 3 * q})
    run = Interpreter(module)
    results = run("forward", {"x": ones(1, 32)})
    packed = "kernel sevens" if "q8_0" in formats else "numpy, dequantized (sevens: q8_0 is not for it)"
    plain = "kernel sevens" if "f32" in formats else "numpy (sevens: f32 is not for it)"
    lines = [f"4 x linear: {plain}"] if packed == plain else [f"2 x linear: {packed}", f"2 x linear: {plain}"]
    lines += ["programs: none", "1 x add: numpy (no kernel runs add)"]
    assert sorted(run.plan_text("forward").splitlines()) == sorted(lines)
    refused = "linear(f32[N, 32], q8_0[2, 32]): numpy, dequantized (sevens: q8_0 is not for it)"
    assert run.fallbacks("forward") == ([] if "q8_0" in formats else [refused] * 2)
    assert results["y"].tolist() == [[14, 14] if "q8_0" in formats else [254, 254]]
    assert results["c"].tolist() == [[7, 7] if "f32" in formats else [381, 381]]
    assert kernel.calls == 2 * len(formats)
    hows = {(s.node.origin.sources[0], s.how) for p in run.plans.values() for s in p.steps}
    ran = {(where, how.partition(" (s")[0]) for where, how in (("c", plain), ("sum", "numpy"))}
    assert {("a", packed), *ran} <= hows, "the steps say the same"


def test_what_is_done_before_run_time_is_no_fallback() -> None:
    how = f"1 x linear: {'numpy' if instruction_set() is None else 'kernel linear.floats'}"
    run = Interpreter(
        parse("""module {
      weights {
        @q: q8_0[2, 32]
        @w: f32[3, 32]
      }
      graph forward(%x: f32[N, 2]) {
        %0: f32[3, 2] = linear(@w, @q) <- "load time"
        %1: f32[N, 3] = linear(%x, %0) <- "run time"
        return y=%1
      }
    }""")
    )
    assert run.fallbacks("forward") == [] and run.plan_text("forward").splitlines()[1:] == [how]
