"""The compiled kernels beside NumPy's f32 product of the same shape and the bandwidth of memory, in one run.

    python benchmarks/kernels.py [--threads N] [--formats q4_0,q6_k] [--rows 1,128] [--json]

Kernel and peers take turns, so compare the ratios: other work on the machine moves all of them. The weights of one
shape are many copies, 128 MB in all, so that none is found in a cache.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, help="threads of the kernels and of the peers (default: all cores)")
parser.add_argument("--formats", help="of the weights (default: every one that a kernel reads)")
parser.add_argument("--rows", default="1,4,128,512", help="of activations, tokens (default: %(default)s)")
parser.add_argument("--json", action="store_true", help="print JSON, one object, instead of a table")

SHAPES = ((896, 896), (4864, 896), (896, 4864), (4096, 4096), (8192, 4096))  # outputs, inputs
COLD = 128 << 20  # bytes of weights that are gone through before one comes up again
TURNS = 5
TURN = 0.04  # seconds
PAUSE = 0.05  # seconds before a turn: OpenBLAS's threads spin for a while after a product, and would hold a core
BANDWIDTH_BYTES = 1 << 28


def main() -> None:
    """Measure every kernel of `linear` that this CPU has, and print."""
    options = parser.parse_args()
    if options.threads:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when NumPy is imported
            os.environ[name] = str(options.threads)
    from burnish.backends.kernels import layouts_for, linear, threads
    from burnish.ir.format import FORMATS

    count = options.threads or threads.cores()
    linear.cores = lambda: count
    lines = [
        measure(format, layout, shape, tokens, count)
        for format, layout in layouts_for("linear").items()
        if not options.formats or format in options.formats.split(",")
        for shape in SHAPES
        if shape[1] % FORMATS[format].group == 0
        for tokens in map(int, options.rows.split(","))
    ]
    if options.json:
        print(json.dumps({"threads": count, "lines": lines}, indent=1))
        return
    print(f"{count} threads; memory: a plain sum; f32: NumPy's product of the same shape; x: how many times as fast")
    print(f"{'weights':>16} {'shape':>12} {'rows':>5} {'us':>8} {'GB/s':>6} {'of memory':>9} {'GOP/s':>6} {'x f32':>6}")
    for line in lines:
        memory = f"{line['gb_s']:6.1f} {line['of_memory']:9.0%}" if line["rows"] <= 4 else " " * 16
        print(
            f"{line['weights']:>16} {line['shape']:>12} {line['rows']:5} {line['us']:8.0f} {memory} "
            f"{line['gop_s']:6.0f} {line['x_f32']:6.1f}"
        )


def measure(format: str, layout: str, shape: tuple[int, int], tokens: int, threads: int) -> dict[str, Any]:
    """One line: the kernel for `format` on weights of `shape` and `tokens` rows of activations."""
    import numpy as np

    from burnish.backends.kernels import find_kernel
    from burnish.ir.format import Packed
    from burnish.ir.op import find_op
    from burnish.ir.types import Type

    outputs, inputs = shape
    rng = np.random.default_rng(0)
    packed = Packed.made_up(format, shape, rng)
    plain = packed.dequantize(np)
    weights = [packed.relayout(np, layout) for _ in range(copies(packed.nbytes))]
    peers = [plain.copy() for _ in range(copies(plain.nbytes))]
    x = rng.standard_normal((tokens, inputs), np.float32)
    quantized = Packed.quantize(np, x, "int8_32")
    op = find_op("linear")(to="f32")
    kernel, why_not = find_kernel(op, [Type("int8_32", quantized.shape), Type(format, shape, layout)])
    assert kernel is not None, why_not

    seconds, f32, memory = take_turns(
        lambda i: kernel(op, ["f32"], quantized, weights[i % len(weights)]),
        lambda i: x @ peers[i % len(peers)].T,
        memory_read(threads),
    )
    work = 2 * tokens * outputs * inputs
    return {
        "kernel": kernel.name,
        "weights": f"{format}.{layout}",
        "shape": f"{outputs}x{inputs}",
        "rows": tokens,
        "us": seconds * 1e6,
        "gb_s": packed.nbytes / seconds / 1e9,
        "memory_gb_s": BANDWIDTH_BYTES / memory / 1e9,
        "of_memory": packed.nbytes / seconds / (BANDWIDTH_BYTES / memory),
        "gop_s": work / seconds / 1e9,
        "f32_gop_s": work / f32 / 1e9,
        "x_f32": f32 / seconds,
    }


def copies(nbytes: int) -> int:
    """How many copies of an array of `nbytes` no cache holds."""
    return COLD // nbytes + 2


def memory_read(threads: int) -> Callable[[int], None]:
    """A function that reads BANDWIDTH_BYTES, each thread its share."""
    import numpy as np

    from burnish.backends.kernels.threads import run_on_threads

    shares = np.array_split(np.ones(BANDWIDTH_BYTES // 8, np.int64), threads)

    def read(_: int) -> None:
        left = iter(shares)  # one iterator for all threads: each share is taken once

        def task() -> None:
            for share in left:
                share.sum()

        run_on_threads(task, threads)

    return read


def take_turns(*functions: Callable[[int], object]) -> list[float]:
    """The median seconds of a call of each of `functions`, which take turns, and are called with 0, 1, 2, …"""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(TURNS):
        for function, seconds in zip(functions, times, strict=True):
            time.sleep(PAUSE)
            function(0)
            end = time.perf_counter() + TURN
            for i in itertools.count(1):
                start = time.perf_counter()
                function(i)
                seconds.append(time.perf_counter() - start)
                if start > end:
                    break
    return [statistics.median(seconds) for seconds in times]


if __name__ == "__main__":
    main()
