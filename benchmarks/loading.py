"""Loading and optimising deep checkpoints, by depth and number of experts: CPU seconds and memory.

    python -m benchmarks.loading [--layers 80] [--experts 0 64 128] [--json]

The checkpoint is a header and a hole: no weight is written, and none read. Each measurement is a process of its own;
memory is the most that it held, and how much more that is than what it held when all that it uses was imported.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import burnish

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--layers", type=int, default=80, help="depth")
parser.add_argument("--experts", type=int, nargs="+", default=[0, 64, 128], help="experts of a layer; 0: dense")
parser.add_argument("--json", action="store_true", help="print JSON, one object, instead of a table")
parser.add_argument("--measure", type=Path, nargs=2, help=argparse.SUPPRESS)

SIZES = {"vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 768, "num_attention_heads": 32}
SIZES |= {"num_key_value_heads": 4, "head_dim": 128}


def main() -> None:
    """Measure each, and print."""
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    rows = []
    for experts in options.experts:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as small:
            write_checkpoint(Path(small), 1, 2)
            tensors = write_checkpoint(Path(folder), options.layers, experts)
            command = [sys.executable, "-m", "benchmarks.loading", "--measure", folder, small]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            rows.append({"layers": options.layers, "experts": experts, "tensors": tensors, **found})
    print(json.dumps(rows) if options.json else "\n".join(map(str, rows)))


def write_checkpoint(folder: Path, layers: int, experts: int = 0) -> int:
    """A Mixtral or, without experts, a Llama: how many tensors it has."""
    from tests import models  # which holds torch, and so is none of what is measured

    name = "MixtralForCausalLM" if experts else "LlamaForCausalLM"
    more = {"num_local_experts": experts} if experts else {}
    return models.header_alone(name, folder, **SIZES, num_hidden_layers=layers, **more)


def measure(folder: Path, small: Path) -> dict[str, Any]:
    """CPU seconds of load and of load and optimize, megabytes, nodes, and bytes read of weights."""
    burnish.optimize(burnish.load(small))  # imports
    before, began = _most_memory(), time.process_time()
    module = burnish.load(folder)
    loaded = time.process_time()
    optimised = burnish.optimize(module)
    done = time.process_time()
    return {
        "load": round(loaded - began, 3),
        "load_and_optimize": round(done - began, 3),
        "megabytes": _most_memory(),
        "megabytes_more": _most_memory() - before,
        "nodes": [sum(len(g) for g in m.every_graph) for m in (module, optimised)],
        "bytes_read": getattr(module.source, "source", module.source).bytes_read,
    }


def _most_memory() -> int:
    """Of this program: `ru_maxrss` would begin with what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10


if __name__ == "__main__":
    main()
