"""Budgets: what is refused before it begins, what the message says, and what a stated budget allows."""

import resource
from collections.abc import Iterator

import numpy as np
import pytest

from burnish.backends.interpreter import Interpreter
from burnish.backends.static import Static
from burnish.ir import budget
from burnish.ir.budget import BudgetError, allowing, check_held, check_work, read_size
from burnish.ir.module import Module, WeightEntry
from burnish.ir.parser import parse
from burnish.ir.types import Type
from burnish.ir.weights import MemoryWeights
from burnish.runtime.package import write_package

TERA = 10**12


def module_of(*statements: str, returns: str = "%y", inputs: str = "%x: f32[2]") -> Module:
    """A graph of these statements."""
    return parse(f"module {{ graph forward({inputs}) {{ {' '.join(statements)} return y={returns} }} }}")


#: what is made of constants alone, and the value that is too large
BOMBS = {
    "a broadcast": (f"@1: f32[{TERA}] = broadcast_to(f32(1), shape=[{TERA}])", "broadcast_to"),
    "a range": (f'%1: f32[{TERA}] = iota(size={TERA}, dtype="f32")', "iota"),
    "a quantized broadcast": (
        f"@0: f32[{TERA}, 32] = broadcast_to(f32(1), shape=[{TERA}, 32]) "
        f'@1: q4_0[{TERA}, 32] = quantize(@0, format="q4_0")',
        "broadcast_to",
    ),
    "doublings": (
        "@0: f32[8] = concat(f32([1, 2, 3, 4]), f32([1, 2, 3, 4]), axis=0) "
        + " ".join(f"@{i}: f32[{8 << i}] = concat(@{i - 1}, @{i - 1}, axis=0)" for i in range(1, 30)),
        "concat",
    ),
    "an outer sum": (
        '%2: i64[40000] = iota(size=40000, dtype="i64") %3: i64[40000, 1] = reshape(%2, shape=[40000, 1]) '
        "%1: i64[40000, 40000] = add(%2, %3)",
        "add",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_work_on_constants_is_summed_before_it_begins(bomb: str) -> None:
    text, op = BOMBS[bomb]
    last = text.rpartition(": ")[0].rpartition(" ")[2]
    module = module_of(text, returns=last)
    with pytest.raises(BudgetError) as e:
        check_work(module.graphs["forward"].outputs.values())
    message = str(e.value)
    assert f"= {op}(" in message and "of graph forward" in message
    assert "more than 268,435,456 (64 times the" in message and "--budget " in message
    with pytest.raises(BudgetError):
        Interpreter(module)("forward", {"x": np.zeros(2, "f4")})
    with allowing(10**18):
        check_work(module.graphs["forward"].outputs.values()) if "outer" not in bomb else None


def test_a_product_counts_by_its_operations() -> None:
    text = [
        '%0: f32[4096] = iota(size=4096, dtype="f32")',
        "%1: f32[4096, 4096] = broadcast_to(%0, shape=[4096, 4096])",
        *(f"%{i}: f32[4096, 4096] = matmul(%1, %1)" for i in range(2, 3)),
    ]
    module = module_of(*text, returns="%2")
    with pytest.raises(BudgetError, match=r"'.* matmul\(.*takes \d[\d,]* operations, more than 64 for each byte"):
        check_work(module.graphs["forward"].outputs.values())


def test_the_limit_grows_with_the_source() -> None:
    module = Module({"w": WeightEntry(Type("f32", (1 << 24,)))})  # 64 MB
    op = module.graph("forward").ops
    within = op.broadcast_to(op.weight("w"), shape=(64, 1 << 24))
    check_work([within])
    with pytest.raises(BudgetError, match="64 times the 67,108,864 bytes"):
        check_work([op.broadcast_to(op.weight("w"), shape=(65, 1 << 24))])


def test_loops_count_as_often_as_they_run() -> None:
    body = "graph body(%a: f32[2]) { %b: f32[2] = neg(%a) return a=%b }"
    loop = f"%y: f32[2] = repeat(%x, count=100000000, carries=1, shared=0, states=0) {{ {body} }}"
    with pytest.raises(BudgetError, match="runs 100,000,001 nodes in its loops, more than 4,194,304"):
        Interpreter(module_of(loop))("forward", {"x": np.zeros(2, "f4")})


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A machine with 1 MB."""
    monkeypatch.setattr(budget, "_memory", lambda: 1 << 20)
    yield 1 << 20


def squares(blocks: int) -> Module:
    """Outer products of an input, all of which are held until the last."""
    rows = "%r: f32[S, 1] = reshape(%x, shape=[S, 1])"
    outer = [f"%o{i}: f32[S, S] = mul(%x, %r)" for i in range(blocks)]
    sums = [f"%s{i}: f32[S, S] = add({f'%s{i - 1}' if i else '%x'}, %o{i})" for i in range(blocks)]
    return module_of(rows, *outer, *sums, returns=f"%s{blocks - 1}", inputs="%x: f32[S]")


@pytest.mark.usefixtures("little_memory")
def test_a_run_is_refused_at_the_sizes_that_do_not_fit() -> None:
    run = Interpreter(squares(1), Static())
    assert run("forward", {"x": np.ones(256, "f4")})["y"].shape == (256, 256)
    with pytest.raises(BudgetError, match=r"mul\(.*with S=1024 takes 4,194,304 bytes.*the machine's memory"):
        run("forward", {"x": np.ones(1024, "f4")})
    with allowing(32 << 20):
        assert run("forward", {"x": np.ones(1024, "f4")})["y"].shape == (1024, 1024)


@pytest.mark.usefixtures("little_memory")
def test_what_is_freed_does_not_count() -> None:
    text = ["%0: f32[S, S] = mul(%x, %r)", *(f"%{i}: f32[S, S] = neg(%{i - 1})" for i in range(1, 50))]
    chain = module_of("%r: f32[S, 1] = reshape(%x, shape=[S, 1])", *text, returns="%49", inputs="%x: f32[S]")
    assert Interpreter(chain)("forward", {"x": np.ones(256, "f4")})["y"].shape == (256, 256)


def test_the_limit_of_a_process_is_a_limit_of_the_memory() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (64 << 30, hard))
    try:
        assert budget.machine_memory() <= 64 << 30
        with pytest.raises(BudgetError, match="x takes 1,000,000,000,000 bytes"):
            check_held([Type("u8", (TERA,))], "x")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_a_package_that_does_not_fit_the_disk(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    out = Path(str(tmp_path)) / "p"
    module = Module({"w": WeightEntry(Type("f32", (64,)))}, source=MemoryWeights({"w": np.ones(64, "f4")}))
    graph = module.graph("forward")
    graph.set_outputs({"y": graph.ops.weight("w")})
    full = type("Full", (), {"f_bavail": 1, "f_frsize": 255})
    monkeypatch.setattr("os.statvfs", lambda _: full)
    with pytest.raises(BudgetError, match=r"p: the package takes 256 bytes, more than 255 \(what is free on the disk"):
        write_package(module, out)
    assert not out.exists()
    with allowing(1 << 20):
        write_package(module, out)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("500", 500), ("1K", 1024), ("1.5M", 3 << 19), ("10G", 10 << 30), ("2TB", 2 << 40), ("1gib", 1 << 30)],
)
def test_sizes(text: str, nbytes: int) -> None:
    assert read_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "G", "-1G", "1e9", "nan", "1X", "10 000", "١G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        read_size(text)
