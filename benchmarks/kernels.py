"""Every compiled kernel beside what it replaces, NumPy's `evaluate` (a product in f32: OpenBLAS), on one thread, in turn.

    python -m benchmarks.kernels [--only attention,linear] [--json]

A program of as many nodes as make a call's own cost small, each with operands of its own: weights are found in no
cache, and activations are. The ratio is how many times as fast the kernel is, by the best of the turns. A kernel that
is slower than what it replaces is printed again at the end, as is one that no example reaches; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

for name in ("BURNISH_THREADS", "OPENBLAS_NUM_THREADS"):  # read when NumPy is imported
    os.environ[name] = "1"

import numpy as np

from benchmarks.kernel_examples import Example, examples
from burnish.backends.interpreter import Interpreter
from burnish.backends.kernels import KERNELS, Kernel, find_kernel
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.linear import ACTIVATIONS
from burnish.ir.format import Packed
from burnish.ir.graph import Value
from burnish.ir.module import Module, WeightEntry
from burnish.ir.parser import parse_type
from burnish.ir.signature import Rows
from burnish.ir.types import NUMPY, Type
from burnish.ir.weights import MemoryWeights
from burnish.runtime.measure import machine

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--only", help="ops, separated by commas (default: all)")
parser.add_argument("--turns", type=int, default=7, help="of each, of which the best counts (default: %(default)s)")
parser.add_argument("--json", action="store_true", help="print JSON, one object, instead of a table")

NODES = 24
COLD = 96 << 20  # bytes of operands, beyond which there are fewer nodes
ENOUGH_OF_BLAS = 0.85  # of OpenBLAS's speed, in a product of f32 matrices


def main() -> int:
    """Measure every kernel, and print."""
    options = parser.parse_args()
    only = options.only.split(",") if options.only else None
    lines = [
        measure(kernel, example, options.turns)
        for example in examples()
        if only is None or example.op.name in only
        for kernel in [kernel_of(example)]
        if kernel is not None
    ]
    reached = {line["kernel"] for line in lines}
    left = [] if only else [name for name in wanted() if name not in reached]
    slower = [line for line in lines if line["ratio"] < line["bar"]]
    if options.json:
        print(json.dumps({"machine": machine(), "lines": lines, "without_example": left}, indent=1))
    else:
        print(f"{machine()}; one thread\n\n{HEAD}")
        print("\n".join(text(line) for line in sorted(lines, key=lambda line: -line["ratio"])))
        if slower:
            print("\nslower than what they replace:\n" + "\n".join(map(text, slower)))
        if left:
            print(f"\nwithout an example: {', '.join(left)}")
    return int(bool(slower or left))


HEAD = f"{'kernel':24} {'us':>10} {'NumPy us':>10} {'ratio':>8}  node"


def text(line: Mapping[str, Any]) -> str:
    """A line of the table."""
    return f"{line['kernel']:24} {line['us']:10.1f} {line['numpy_us']:10.1f} {line['ratio']:8.2f}  {line['node']}"


def wanted() -> list[str]:
    """The kernels that compute something when a program runs: views do not, nor what is fixed by sizes."""
    native = [name for name, kernel in KERNELS.items() if isinstance(kernel, NativeKernel)]
    return [name for name in native if not name.endswith((".view", ".fixed"))]


def types_of(example: Example) -> list[Type]:
    """The types of an example's operands."""
    return [parse_type(text.split(" = ")[0].split(" < ")[0]) for text in example.operands]


def kernel_of(example: Example) -> Kernel | None:
    """The kernel that runs it, if one does."""
    return find_kernel(example.op, types_of(example)).kernel


def operand(text: str, type: Type, rng: np.random.Generator) -> Any:
    """An array for an operand."""
    if type.dtype == ACTIVATIONS:
        return Packed.quantize(np, rng.standard_normal(type.sizes, np.float32), ACTIVATIONS)
    if type.format is not None:
        packed = Packed.made_up(type.dtype, type.sizes, rng)
        return packed.relayout(np, type.layout) if type.layout else packed
    if type.dtype == "bool":
        return rng.random(type.sizes) < 0.5
    if " < " in text:
        return rng.integers(0, int(text.split(" < ")[1]), type.sizes).astype(NUMPY[type.dtype])
    if " = " in text:
        return np.full(type.sizes, int(text.split(" = ")[1]), NUMPY[type.dtype])
    return rng.uniform(0.1, 2, type.sizes).astype(NUMPY[type.dtype])  # good for a logarithm, and a root, too


def program(example: Example) -> tuple[Module, dict[str, Any], int]:
    """A module of some nodes like it, what it is given, and how many nodes there are."""
    module, rng, types = Module(), np.random.default_rng(0), types_of(example)
    graph = module.graph("f")
    size = sum(t.nbytes for t in types if isinstance(t.nbytes, int))
    count = max(2, min(NODES, COLD // max(size, 1)))
    inputs, weights = dict[str, Any](), dict[str, Any]()
    outputs: dict[str, Value] = {}
    for i in range(count):
        given = []
        for text, type, of in zip(example.operands, types, operand_names(example), strict=True):
            name = f"{of}{i}"
            if of == example.op.weight:
                module.weights[name], weights[name] = WeightEntry(type), operand(text, type, rng)
                given.append(graph.ops.weight(name))
            else:
                state = Rows(0, 1) if of == example.op.inplace else None
                given.append(graph.input(name, type, state))
                inputs[name] = operand(text, type, rng)
        for j, value in enumerate(graph.ops.emit(example.op, given).node.outputs):
            state_name = f"{example.op.inplace}{i}"
            outputs[state_name if example.op.inplace and j == 0 else f"y{i}.{j}"] = value
    graph.set_outputs(outputs)
    module.source = MemoryWeights(weights)
    return module, inputs, count


def operand_names(example: Example) -> list[str]:
    """As `infer` names them; those of a variadic operand are numbered."""
    names = [o.name for o in example.op.operands()]
    return [*names, *(f"x{i}_" for i in range(len(example.operands)))][: len(example.operands)]


def measure(kernel: Kernel, example: Example, turns: int) -> dict[str, Any]:
    """One line: the best of some turns of each, a node."""
    module, inputs, count = program(example)
    runs = [Interpreter(module), Interpreter(module, kernels={})]
    best = [float("inf")] * 2
    for turn in range(turns + 1):
        for i, run in enumerate(runs):
            began = time.perf_counter()
            run("f", inputs)
            took = time.perf_counter() - began
            if turn:  # the first makes plans, and compiles
                best[i] = min(best[i], took / count)
    types = types_of(example)
    products = example.op.name in ("linear", "matmul") and all(t.dtype == "f32" for t in types) and types[0].shape[-2] != 1
    return {
        "kernel": kernel.name,
        "node": example.title,
        "us": best[0] * 1e6,
        "numpy_us": best[1] * 1e6,
        "ratio": best[1] / best[0],
        "bar": ENOUGH_OF_BLAS if products else 1.0,
    }


if __name__ == "__main__":
    sys.exit(main())
