"""relayout.tiles: the bytes that NumPy makes, for every format, on every instruction set that is here."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.backends.interpreter import Interpreter
from burnish.backends.kernels import KERNELS
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.native.cpu import InstructionSet
from burnish.ir import parse
from burnish.ir.format import FORMATS, Packed
from burnish.ir.op import find_op
from burnish.ir.types import Type
from tests.backends.kernels.guarded import BOTH, ENDS, call_kernel
from tests.backends.kernels.test_tiles import anything, formats_in_tiles

KERNEL = KERNELS["relayout.tiles"]
assert isinstance(KERNEL, NativeKernel)

pytestmark = pytest.mark.skipif(not BOTH, reason="this CPU has no instruction set that kernels are written for")
every_set = pytest.mark.parametrize("isa", BOTH, ids=lambda s: s.name)
#: each is compiled once, which takes seconds
every_format = pytest.mark.parametrize(
    "format", [n if n in ("q4_0", "int8") else pytest.param(n, marks=pytest.mark.slow) for n in formats_in_tiles()]
)
layouts = pytest.mark.parametrize("layout", ["tiles8", "tiles16"])


@every_set
@layouts
@every_format
@settings(max_examples=12, deadline=None)
@given(
    lead=st.sampled_from([(), (1,), (3,)]), rows=st.integers(0, 40), groups=st.integers(1, 3), end=st.sampled_from(ENDS)
)
def test_it_gives_the_bytes_of_numpy(
    isa: InstructionSet, layout: str, format: str, lead: tuple[int, ...], rows: int, groups: int, end: bool
) -> None:
    x = anything(format, *lead, rows, groups * (FORMATS[format].group or 320))
    (mine,), expected = (
        call_kernel(KERNEL, find_op("relayout")(layout=layout), x, isa=isa, at_end=end),
        x.relayout(np, layout),
    )
    assert (mine.format, mine.layout, mine.shape) == (expected.format, expected.layout, expected.shape)
    assert mine.planes.keys() == expected.planes.keys()
    for name, plane in expected.planes.items():
        assert mine.planes[name].shape == plane.shape
        assert mine.planes[name].tobytes() == plane.tobytes()


@pytest.mark.parametrize(
    ("layout", "type", "reason"),
    [
        ("planes", Type("q4_0", (8, 64)), "the layout is planes, not tiles8 or tiles16"),
        ("", Type("q4_0", (8, 64), "tiles8"), "the layout is that of files"),
        ("tiles8", Type("q4_0", (8, 64), "planes"), "x is q4_0.planes[8, 64], which does not lie as files do"),
    ],
)
def test_a_refusal_has_a_reason(layout: str, type: Type, reason: str) -> None:
    assert reason in str(KERNEL.why_not(find_op("relayout")(layout=layout), type))


WEIGHTS = """module {{
  weights {{ @w: q4_0[40, 64] }}
  graph forward(%x: f32[B, 64]) {{
    %0: q4_0.{layout}[40, 64] = relayout(@w, layout="{layout}") <- "w"
    %1: int8_32[B, 64] = quantize(%x, format="int8_32") <- "x"
    %2: f32[B, 40] = linear(%1, %0) <- "y"
    return y=%2
  }}
}}"""


def test_weights_are_laid_out_by_it_before_run_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And lie at multiples of 64 bytes."""
    module, w = parse(WEIGHTS.format(layout=BOTH[0].layout)), anything("q4_0", 40, 64)
    module.source = type("Source", (), {"read": lambda self, name: w})()
    expected = w.relayout(np, BOTH[0].layout).planes
    monkeypatch.setattr(Packed, "relayout", None)
    backend = Interpreter(module)
    backend("forward", {"x": np.ones((1, 64), np.float32)})
    (held,) = backend.static.arrays.values()
    for name, plane in expected.items():
        assert held.planes[name].tobytes() == plane.tobytes()
        assert held.planes[name].ctypes.data % 64 == 0
