"""The default pipeline on ONNX exports of Llama, by depth, beside onnxscript's own optimizer and rewriter.

    python -m benchmarks.passes [--blocks 8 16 32 64] [--json]
    python -m benchmarks.passes --checkpoint --blocks 32 128     # CPU seconds of load, and of load and optimize

Each file is exported once; then, in turns: ours, from the parsed file to the optimised graph (import, passes, and the
verifier after each of them), and onnxscript's `optimize` and `rewrite` with its default rules, from the parsed file
too. Weights are tiny. Nodes are those of the graph before and after. Other work on the machine moves both alike:
compare the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import onnxscript.optimizer
import onnxscript.rewriter

import burnish
from burnish.frontends.onnx_file import load_onnx
from burnish.passes.engine import Context
from burnish.passes.pipelines import parse_pipeline
from tests import models

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--blocks", type=int, nargs="+", default=[8, 16, 32, 64], help="depths")
parser.add_argument("--checkpoint", action="store_true", help="a Llama's checkpoint, without the peer")
parser.add_argument("--json", action="store_true", help="print JSON, one object, instead of a table")

TURNS = 3


def main() -> None:
    """Measure each depth, and print."""
    options = parser.parse_args()
    if options.checkpoint:
        rows = [measure_checkpoint(n) for n in options.blocks]
        print(json.dumps(rows) if options.json else "\n".join(map(str, rows)))
        return
    rows = [measure(n) for n in options.blocks]
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'blocks':>6} {'nodes':>14} {'visited':>8} {'import':>8} {'passes':>8}   {'onnxscript':>10} {'nodes':>14}")
    for r in rows:
        nodes, theirs = (f"{a} -> {b}" for a, b in (r["nodes"], r["onnxscript_nodes"]))
        times = f"{r['import']:7.2f}s {r['passes']:7.2f}s   {r['onnxscript']:9.2f}s"
        print(f"{r['blocks']:6} {nodes:>14} {r['visited']:8} {times} {theirs:>14}")


def measure(blocks: int) -> dict[str, Any]:
    """Medians of a few turns, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = models.exported(models.llama(num_hidden_layers=blocks), Path(folder) / "model.onnx")
        turns = [_turn(path) for _ in range(TURNS)]
    times = {k: statistics.median(t[k] for t in turns) for k in ("import", "passes", "onnxscript")}
    return {"blocks": blocks, **turns[0], **times}


def measure_checkpoint(blocks: int) -> dict[str, Any]:
    """The best of a few turns, in CPU seconds: load, load and optimize, and optimize once more to a stateful graph."""
    with tempfile.TemporaryDirectory() as folder:
        source = models.saved(models.llama(num_hidden_layers=blocks), Path(folder))
        best: tuple[float, ...] = ()
        for _ in range(TURNS):
            began = time.process_time()
            module = burnish.load(source)
            loaded = time.process_time()
            optimised = burnish.optimize(module)
            done = time.process_time()
            burnish.optimize(optimised, "stateful")
            turn = (done - began, loaded - began, time.process_time() - done)
            best = min(best, turn) if best else turn
    return dict(zip(("blocks", "load_and_optimize", "load", "stateful"), (blocks, *best), strict=True))


def _turn(path: Path) -> dict[str, Any]:
    module, importing = _timed(lambda: load_onnx(path))
    before = len(module.graphs["forward"])
    context, passing = _timed(lambda: _optimised(module))
    theirs = onnx_ir.serde.deserialize_model(onnx.load(path))
    count = len(theirs.graph)
    rewritten, peer = _timed(lambda: _onnxscript(theirs))
    return {
        "nodes": (before, len(module.graphs["forward"])),
        "visited": context.visited,
        "onnxscript_nodes": (count, len(rewritten.graph)),
        "import": importing,
        "passes": passing,
        "onnxscript": peer,
    }


def _optimised(module: Any) -> Context:
    context = Context(module)
    for pass_ in parse_pipeline("default"):
        context.run(pass_)
    return context


def _onnxscript(model: Any) -> Any:
    onnxscript.optimizer.optimize(model)
    return onnxscript.rewriter.rewrite(model)


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = run()
    return result, time.perf_counter() - started


if __name__ == "__main__":
    main()
