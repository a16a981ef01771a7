"""Each op that a backend computes wrongly is named, and how it runs there."""

from collections.abc import Sequence
from typing import Any

import pytest

from burnish.backends.kernels import Kernel
from burnish.debug.backends import wrong_ops
from burnish.debug.bisect import bisect_pipeline
from burnish.debug.check import Checker
from burnish.ir.op import Array, Op
from burnish.ir.types import Type
from tests.decoder import decoder

pytestmark = pytest.mark.usefixtures("registries")


def wrong_kernel(by: float) -> None:
    class AddWrong(Kernel, replace=True):
        name, op = "add.wrong", "add"

        def why_not(self, op: Op, a: Type, b: Type) -> str | None:
            return None

        def __call__(self, op: Op, dtypes: Sequence[str], a: Array, b: Array) -> tuple[Any, ...]:
            return ((a + b) * a.dtype.type(by),)


def test_a_wrong_kernel_is_named() -> None:
    wrong_kernel(1.001)
    checker = Checker(decoder(), backend="numpy")
    assert [v.fault is None for v in checker("fuse-qkv")] == [True, False]
    found = bisect_pipeline(checker, "fuse-qkv")
    (op,) = found.ops
    assert (op.op, op.how, op.scope) == ("add", "kernel add.wrong", "layers[0]")
    assert found.culprits == [] and "culprit: op add, run by kernel add.wrong" in str(found)


def test_right_kernels_are_not() -> None:
    checker = Checker(decoder(), backend="numpy")
    pipeline = "fuse-qkv,stateful,quantize-weights"
    verdicts = checker(pipeline)
    assert [v.fault for v in verdicts] == [None] * len(verdicts) and verdicts[-1].backend == "numpy"
    assert wrong_ops(checker, pipeline) == []
