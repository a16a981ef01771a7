"""The guard is one: whatever strays outside of an array ends the process."""

import subprocess
import sys

import numpy as np
import pytest

from burnish.backends.native.cpu import instruction_sets
from tests.backends.kernels.guarded import ENDS, guarded

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="this CPU runs no native code")


@pytest.mark.parametrize("at_end", ENDS)
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (4096,)], ids=str)
def test_a_guarded_array_is_the_same_one(shape: tuple[int, ...], at_end: bool) -> None:
    x = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    for view in (x, x.T, x[..., ::2]):
        made = guarded(view, at_end)
        assert made.shape == view.shape
        assert np.array_equal(made, view)
        assert not made.size or made.strides == view.strides


@pytest.mark.parametrize("at_end", ENDS)
@pytest.mark.parametrize(
    "access", ["ctypes.string_at", "(lambda at, n: ctypes.memset(at, 0, n))"], ids=["read", "write"]
)
def test_one_byte_outside_ends_the_process(access: str, at_end: bool) -> None:
    code = f"""import ctypes, sys, numpy as np
from tests.backends.kernels.guarded import guarded
x = guarded(np.zeros(7, "u1"), {at_end})
({access})(x.ctypes.data, 7)
print("inside", flush=True)
({access})(x.ctypes.data + ({7 if at_end else -1}), 1)
print("outside")"""
    ran = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (ran.stdout, ran.returncode) == ("inside\n", -11)


def test_a_kernel_that_reads_too_far_ends_the_process() -> None:
    code = """import numpy as np
from burnish.backends.kernels.kernel import NativeKernel
from burnish.ir.op import find_op
from tests.backends.kernels.guarded import call_kernel

class Copy(NativeKernel):
    def why_not(self, op, x):
        return None

    def emit(self, emitter, op, results, x):
        made = emitter.empty(results[0])
        more = LENGTH
        emitter.call("copy", "copy", x, made, 4, more, 4, 4, 0, items=1, writes=[made])
        return (made,)

print(call_kernel(Copy(), find_op("neg")(), np.arange(5, dtype="f4"))[0].tolist())"""
    codes = [code.replace("LENGTH", str(n)) for n in (5, 6)]
    runs = [subprocess.run([sys.executable, "-c", c], check=False, capture_output=True, text=True) for c in codes]
    assert [(r.stdout, r.returncode) for r in runs] == [("[0.0, 1.0, 2.0, 3.0, 4.0]\n", 0), ("", -11)]
