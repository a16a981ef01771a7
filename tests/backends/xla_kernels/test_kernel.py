"""XLA's kernels: what the plan names is what runs; a plugin brings one."""

from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import burnish
from burnish.backends.backend import Way
from burnish.backends.kernels.kernel import Kernel
from burnish.backends.xla import Xla
from burnish.backends.xla_kernels import XLA_KERNELS, InStack
from burnish.ir import Module, Type, parse
from burnish.ir.discover import load_plugin
from tests import models

Q4 = "quantize-weights{recipe=lm=q8_0;embedding=q8_0;q4_0}"
FAMILIES = ("llama", "mistral", "gemma2", "t5")
CASES = [
    ("llama", "default,stateful,xla"),
    ("llama", f"default,{Q4},stateful,xla"),
    ("llama", f"default,{Q4},stateful,set-layouts{{layout=planes}}"),
    ("mistral", "default,stateful,xla"),
    ("gemma2", "default,stateful,xla"),
    ("t5", "default,stateful,xla"),
    ("t5", "default,xla"),
]


def counted(runs: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the runs of each kernel in `runs`."""
    for name, kernel in XLA_KERNELS.items():
        call = type(kernel).__call__

        def run(self: Kernel, *args: Any, call: Any = call, name: str = name, **kw: Any) -> Any:
            runs[name] += 1
            return call(self, *args, **kw)

        monkeypatch.setattr(type(kernel), "__call__", run)


def sizes_of(module: Module, graph: str) -> dict[str, int]:
    symbols = {s for v in module.graphs[graph].inputs for s in v.type.symbols}
    return {s: {"B": 2, "S": 16, "T": 16}.get(s, 32) for s in symbols}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {f: models.saved(getattr(models, f)(), tmp_path_factory.mktemp(f)) for f in FAMILIES}


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize(("family", "pipeline"), CASES)
def test_the_plan_names_just_what_runs(
    family: str, pipeline: str, platform: str, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop's body counts once, as it is traced once."""
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    ours = Xla(burnish.optimize(burnish.load(checkpoints[family]), pipeline))
    assert "kernel" in "".join(map(ours.plan_text, ours.module.graphs))
    for graph in ours.module.graphs:
        planned = Counter(way.kernel.name for _, way in ours.ways(graph) if way.kernel is not None)
        lines = Counter(way.how for _, way in ours.ways(graph))
        assert sum(n for how, n in lines.items() if how.startswith("kernel ")) == planned.total()
        ran = Counter[str]()
        with monkeypatch.context() as patch:
            counted(ran, patch)
            ours.lower(graph, sizes_of(ours.module, graph))
        assert ran == planned


def test_a_loop_is_part_of_what_a_kernel_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same product, of the same types, in a loop, before it, and of what the loop shares with all its runs."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    module = parse("""module {
      graph forward(%x: f32[N, 8], %w: f32[8, 8], %ws: f32[3, 8, 8]) {
        %0: f32[N, 8] = linear(%x, %w) <- "before"
        %1: f32[N, 8] = repeat(%0, %w, %ws, count=3, carries=1, shared=1, states=0) {
          graph block(%x: f32[N, 8], %w: f32[8, 8], %own: f32[8, 8]) {
            %0: f32[N, 8] = linear(%x, %w) <- "shared"
            %1: f32[N, 8] = linear(%0, %own) <- "own"
            return x=%1
          }
        }
        return y=%1
      }
    }""")
    ways: dict[str, Way] = {n.origin.sources[0]: w for n, w in Xla(module).ways("forward") if n.origin.sources}
    assert {k: w.how for k, w in ways.items()} == {
        "before": "XLA",
        "shared": "XLA (in the loop)",
        "own": "kernel linear.rows (in the loop)",
    }


def test_a_type_in_a_stack_is_the_blocks_type_and_not_equal_to_it() -> None:
    plain = Type("q4_0", (4, 64), "planes")
    stacked = InStack.of(plain)
    assert isinstance(stacked, Type) and str(stacked) == str(plain) and stacked != plain
    assert isinstance(stacked.with_shape((8, 64)), InStack)


# ------------------------------------------------------------------------------------------------------------ a plugin

PLUGIN = """
import jax.numpy as jnp
from burnish.backends.xla_kernels import InStack, XlaKernel, whole

class SiluBySevens(XlaKernel):
    "It says 7, so that it shows."
    name = "silu.sevens"
    op = "silu"

    def why_not(self, op, x):
        return "x is no float" if not x.is_float else "it is not for f64" if x.dtype == "f64" else None

    def __call__(self, op, dtypes, x):
        return (jnp.full_like(x, 7),)

class ExpInStack(XlaKernel):
    "Runs on what lies in a stack alone."
    name = "exp.stack"
    op = "exp"
    in_stack = ("x",)

    def why_not(self, op, x):
        return None if isinstance(x, InStack) else "it lies in no stack"

    def __call__(self, op, dtypes, x):
        assert x.stack.shape == (2, *x.shape)
        return (jnp.exp(whole(x)) + 1,)
"""

SILU = """module {
  graph forward(%x: f32[N], %d: f64[N], %s: f32[2, N]) {
    %0: f32[N] = silu(%x) <- "a"
    %1: f64[N] = silu(%d) <- "b"
    %2: f32[N] = exp(%x) <- "c"
    %3: f32[N] = repeat(%x, %s, count=2, carries=1, shared=0, states=0) {
      graph body(%x: f32[N], %s: f32[N]) {
        %0: f32[N] = exp(%s) <- "d"
        %1: f32[N] = exp(%x) <- "e"
        %2: f32[N] = add(%0, %1) <- "sum"
        return x=%2
      }
    } <- "loop"
    return a=%0, b=%1, c=%2, d=%3
  }
}"""


def test_a_plugin_brings_a_kernel(registries: None, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    load_plugin(tmp_path / "plugin.py")
    ours = Xla(parse(SILU))
    hows = {n.origin.sources[0]: w.how for n, w in ours.ways("forward")}
    assert hows["a"] == "kernel silu.sevens" and hows["b"] == hows["c"] == "XLA"
    assert (hows["d"], hows["e"]) == ("kernel exp.stack (in the loop)", "XLA (in the loop)")
    inputs = {"x": np.zeros(3, "f4"), "d": np.zeros(3), "s": np.zeros((2, 3), "f4")}
    a, b, c, d = (ours.to_numpy(y) for y in ours("forward", inputs).values())
    assert a.tolist() == [7] * 3 and b.tolist() == [0] * 3 and c.tolist() == [1] * 3
    assert np.allclose(d, 2 + np.exp(2 + np.exp(0)))
    with pytest.raises(TypeError, match=r"XLA kernel 'silu\.sevens' is defined in .*plugin\.py and in .*another\.py"):
        (tmp_path / "another.py").write_text(PLUGIN + "# changed\n")
        load_plugin(tmp_path / "another.py")
