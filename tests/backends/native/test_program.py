"""Programs: what their threads do, and who waits for whom."""

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from burnish.backends.interpreter import Interpreter
from burnish.backends.native.cpu import instruction_set
from burnish.backends.native.plan import NativePlan
from burnish.backends.native.threads import Team, team
from burnish.ir import parse

pytestmark = pytest.mark.skipif(instruction_set() is None, reason="this CPU has no instruction set with kernels")

CHAIN = """module {
  graph forward(%x: f32[N, 40], %w: f32[40]) {
    %0: f32[N, 40] = rms_norm(%x, %w, eps=1e-06)
    %1: f32[N, 40] = silu(%0)
    %2: f32[N, 40] = mul(%1, %0)
    %3: f32[N, 40] = add(%2, %x)
    return y=%3, on_the_way=%1
  }
}"""


@pytest.fixture(params=(1, 2, 5))
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv("BURNISH_THREADS", str(request.param))
    team.cache_clear()
    yield request.param
    team.cache_clear()


def inputs(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {"x": rng.standard_normal((n, 40), "f4"), "w": rng.standard_normal(40, "f4")}


def test_a_chain_is_one_program_of_one_phase(threads: int) -> None:
    run = Interpreter(parse(CHAIN))
    for n in (1, 3, 1000):
        got, expected = run("forward", inputs(n)), Interpreter(parse(CHAIN), kernels={})("forward", inputs(n))
        for name, x in expected.items():
            assert np.abs(got[name] - x).max() <= 8 * np.finfo("f4").eps * np.abs(x).max()
        plan = run.plans.of(("forward", ("N", n)), lambda: None)
        assert isinstance(plan, NativePlan)
        (part,) = plan.parts
        assert part.program is not None and [len(p.calls) for p in part.program.phases] == [4]
        assert part.program.threads == threads


def test_results_are_the_callers_own() -> None:
    """The next run, which uses the same memory again, does not change them."""
    run = Interpreter(parse(CHAIN))
    first = run("forward", inputs(7))
    kept = {k: x.copy() for k, x in first.items()}
    run("forward", {k: x * 3 for k, x in inputs(7).items()})
    assert all((first[k] == kept[k]).all() for k in kept)


def test_two_callers_at_once_wait_for_each_other() -> None:
    run = Interpreter(parse(CHAIN))
    expected = {n: run("forward", inputs(n))["y"] for n in (5, 6)}
    faults: list[int] = []

    def call(n: int) -> None:
        for _ in range(200):
            if (run("forward", inputs(n))["y"] != expected[n]).any():
                faults.append(n)

    callers = [threading.Thread(target=call, args=(n,)) for n in (5, 6)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    assert not faults


def test_a_helper_that_comes_late_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds that the run is over, or another one under way, and does nothing."""
    monkeypatch.setenv("BURNISH_THREADS", "2")
    team.cache_clear()
    gate = threading.Event()
    work = Team._work

    def late(self: Team, thread: int) -> None:
        if thread:
            gate.wait(10)
        work(self, thread)

    monkeypatch.setattr(Team, "_work", late)
    run = Interpreter(parse(CHAIN))
    results = [run("forward", inputs(n))["y"] for n in (100, 100, 300)]
    gate.set()
    time.sleep(0.01)
    monkeypatch.undo()
    team.cache_clear()
    alone = Interpreter(parse(CHAIN))
    for n, y in zip((100, 100, 300), results, strict=True):
        assert (alone("forward", inputs(n))["y"] == y).all()


def test_a_probe_sees_what_stays() -> None:
    """Node by node, as arrays of its own."""
    seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    class Probe:
        def node(self, node, inputs, outputs, seconds) -> None:  # type: ignore[no-untyped-def]
            seen[node.op.name] = (outputs[0], outputs[0].copy())

        def finished(self, wall: float, own: float) -> None:
            pass

    run = Interpreter(parse(CHAIN))
    y = run("forward", inputs(9), Probe())["y"]
    run("forward", {k: -x for k, x in inputs(9).items()})
    assert list(seen) == ["rms_norm", "silu", "mul", "add"] and (seen["add"][0] == y).all()
    assert all((kept == copy).all() for kept, copy in seen.values())
    assert (run("forward", inputs(9))["y"] == y).all(), "one by one has the same bits"


def test_a_child_has_threads_and_scratch_of_its_own() -> None:
    """Of a plan that its parent made."""
    text = """module { graph f(%x: f32[N, 33], %w: f32[70, 33]) { %0: f32[N, 70] = linear(%x, %w) return y=%0 } }"""
    run, rng = Interpreter(parse(text)), np.random.default_rng(0)
    x, w = rng.standard_normal((64, 33), "f4"), rng.standard_normal((70, 33), "f4")
    expected = run("f", {"x": x, "w": w})["y"]
    if (child := os.fork()) == 0:
        same = (run("f", {"x": x, "w": w})["y"] == expected).all()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_two_backends_at_once_wait_for_each_other() -> None:
    """Threads and their scratch memory are the process's."""
    text = """module { graph f(%x: f32[N, 33], %w: f32[70, 33]) { %0: f32[N, 70] = linear(%x, %w) return y=%0 } }"""
    rng, faults = np.random.default_rng(0), list[int]()
    w = rng.standard_normal((70, 33), "f4")

    def call(n: int) -> None:
        run, x = Interpreter(parse(text)), rng.standard_normal((n, 33), "f4")
        expected = run("f", {"x": x, "w": w})["y"]
        if any((run("f", {"x": x, "w": w})["y"] != expected).any() for _ in range(50)):
            faults.append(n)

    callers = [threading.Thread(target=call, args=(n,)) for n in (5, 300)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    assert not faults


@pytest.mark.parametrize("check", [False, True], ids=["at once", "node by node"])
def test_what_has_no_elements_lies_nowhere(check: bool) -> None:
    got = Interpreter(parse(CHAIN), check=check)("forward", inputs(0))
    assert [x.shape for x in got.values()] == [(0, 40), (0, 40)]
    text = CHAIN.replace(", on_the_way=%1", "")
    assert Interpreter(parse(text), check=check)("forward", inputs(0))["y"].shape == (0, 40)


def test_a_probe_sees_operands_as_they_were() -> None:
    """Of a node of several phases too, the last of which may write where the first has read: here, a copy."""
    text = """module {
      graph f(%x: f32[64, 32], %w: f32[64, 64]) {
        %0: f32[64, 32] = neg(%x)
        %1: f32[32, 64] = transpose(%0, perm=[1, 0])
        %2: f32[32, 64] = linear(%1, %w)
        %3: f32[32, 64] = neg(%2)
        return y=%3
      }
    }"""
    seen: dict[str, list[np.ndarray]] = {}

    class Probe:
        def node(self, node, inputs, outputs, seconds) -> None:  # type: ignore[no-untyped-def]
            seen.setdefault(node.op.name, [inputs[0], outputs[0]])

        def finished(self, wall: float, own: float) -> None:
            pass

    x = np.random.default_rng(0).standard_normal((64, 32), "f4")
    Interpreter(parse(text))("f", {"x": x, "w": np.ones((64, 64), "f4")}, Probe())
    assert (seen["linear"][0] == -x.T).all() and (seen["transpose"][1] == -x.T).all()
