"""Every compiled kernel beside what it replaces, NumPy's `evaluate` (OpenBLAS, for a product), in turn, on one thread.

    python -m benchmarks.kernels [--only attention,linear] [--json]

A program of as many nodes as make a call's own cost small; each has weights of its own, which are found in no cache,
and all have the same inputs. Times are of the processor, the best of the turns; the ratio is how many times as fast
the kernel is. One that is slower than what it replaces is printed again at the end, as is one that no example reaches;
then the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

if __name__ == "__main__":  # before NumPy is imported, which reads it
    os.environ.update(BURNISH_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np

from benchmarks.kernel_examples import Example, examples
from burnish.backends.interpreter import Interpreter
from burnish.backends.kernels import KERNELS, Kernel, find_kernel
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.kernels.linear import ACTIVATIONS
from burnish.backends.native.emit import Emitter
from burnish.ir.format import Packed
from burnish.ir.graph import Value
from burnish.ir.module import Module, WeightEntry
from burnish.ir.op import Array, Op
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
LONG = 2.0  # seconds, after which there are no more turns
COLD = 96 << 20  # bytes of operands, beyond which there are fewer nodes
ENOUGH_OF_BLAS = 0.85  # of OpenBLAS's speed, in a product of f32 matrices


def main() -> int:
    """Measure every kernel, and print."""
    options = parser.parse_args()
    only = options.only.split(",") if options.only else None
    if not options.json:
        print(f"{machine()}; one thread\n\n{HEAD}")
    lines = []
    for example in examples():
        kernel = kernel_of(example) if only is None or example.op.name in only else None
        if kernel is not None:
            lines.append(measure(kernel, example, options.turns))
            if not options.json:
                print(text(lines[-1]), flush=True)
    reached = {line["kernel"] for line in lines}
    left = [] if only else [name for name in wanted() if name not in reached]
    slower = [line for line in lines if line["ratio"] < line["bar"]]
    if options.json:
        print(json.dumps({"machine": machine(), "lines": lines, "without_example": left}, indent=1))
    else:
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


class _Done(Op):
    """Says that what it is given is needed. Nothing comes of it, and it costs nothing."""

    name = "done"

    def infer(self, *made: Type) -> Type:
        return Type("f32", (1,))


class _DoneByNumPy(Kernel):
    op = "done"

    def why_not(self, op: Op, *operands: Type | None) -> str | None:
        return None

    def __call__(self, op: Op, dtypes: Sequence[str], *operands: Any, **bodies: Any) -> tuple[Array, ...]:
        return (NOTHING,)


class _DoneByNothing(NativeKernel):
    op = "done"

    def why_not(self, op: Op, *operands: Type | None) -> str | None:
        return None

    def emit(self, emitter: Emitter, op: Op, results: Sequence[Type], *operands: Any) -> tuple[Any, ...]:
        return (emitter.empty(results[0]),)


NOTHING = np.zeros(1, np.float32)


def types_of(example: Example) -> list[Type]:
    """The types of an example's operands."""
    return [parse_type(text) for text in example.types]


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
    values, outputs = dict[str, Value](), dict[str, Value]()
    done: Value | None = None
    for i in range(count):
        given = []
        for text, type, of in zip(example.operands, types, operand_names(example), strict=True):
            name = f"{of}{i}" if of in (example.op.weight, example.op.inplace) else of
            if of == example.op.weight:
                module.weights[name], weights[name] = WeightEntry(type), operand(text, type, rng)
                given.append(graph.ops.weight(name))
                continue
            if name not in inputs:
                inputs[name] = operand(text, type, rng)
                values[name] = graph.input(name, type, Rows(0, 1) if of == example.op.inplace else None)
            given.append(values[name])
        made = graph.ops.emit(example.op, given).node.outputs
        if example.op.inplace:
            outputs[f"{example.op.inplace}{i}"] = made[0]
        else:
            done = graph.ops.emit(_Done(), [*made, *([] if done is None else [done])])
    graph.set_outputs(outputs if done is None else {"done": done})
    module.source = MemoryWeights(weights)
    return module, inputs, count


def operand_names(example: Example) -> list[str]:
    """As `infer` names them; those of a variadic operand are numbered."""
    names = [o.name for o in example.op.operands()]
    return [*names, *(f"x{i}_" for i in range(len(example.operands)))][: len(example.operands)]


def runs_of(module: Module) -> tuple[Interpreter, Interpreter]:
    """With the kernels, and as NumPy evaluates it."""
    native, plain = _DoneByNothing(), _DoneByNumPy()
    native.name = plain.name = "done"
    return Interpreter(module, kernels={**KERNELS, "done": native}), Interpreter(module, kernels={"done": plain})


def bar_of(example: Example) -> float:
    """How many times as fast a kernel has to be."""
    types = types_of(example)
    is_product = example.op.name in ("linear", "matmul") and all(t.dtype == "f32" for t in types)
    return ENOUGH_OF_BLAS if is_product and types[0].shape[-2] != 1 else 1.0


def measure(kernel: Kernel, example: Example, turns: int) -> dict[str, Any]:
    """One line: the best of some turns of each, a node."""
    module, inputs, count = program(example)
    best = [float("inf")] * 2
    runs = runs_of(module)
    ends = time.process_time() + LONG
    for turn in range(turns + 1):
        if turn > 2 and time.process_time() > ends:
            break
        for i, run in enumerate(runs):
            began = time.process_time()
            run("f", inputs)
            took = time.process_time() - began
            if turn:  # the first makes plans, and compiles
                best[i] = min(best[i], 1e6 * took / count)
    native, numpy = best
    found = {"us": native, "numpy_us": numpy, "ratio": numpy / native, "bar": bar_of(example)}
    return {"kernel": kernel.name, "node": example.title, **found}


if __name__ == "__main__":
    sys.exit(main())
