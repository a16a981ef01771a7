"""How fast the bundled model runs beside transformers, and where the time goes.

    python benchmarks/generation.py [--prompt-tokens 128] [--new-tokens 64] [--repeat 5] [--json]

Prefill and decode of one sequence, tokens a second (medians), and the ratio to transformers' eager f32 in the same
run; needs torch and transformers. The shares are of an interpreter with a probe, whose own cost is printed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers

import burnish
from burnish.runtime.profile import TimeShare

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--prompt-tokens", type=int, default=128)
parser.add_argument("--new-tokens", type=int, default=64)
parser.add_argument("--repeat", type=int, default=5, help="runs after one to warm up")
parser.add_argument("--json", action="store_true", help="print JSON, one object, instead of a table")

TINY = Path(__file__).parents[1] / "examples/tiny-lm"
WAYS = {
    "numpy f32": ("default", "numpy"),
    "numpy q4_0 W4A8": ("recover,quantize-weights{recipe=q4_0},fuse", "numpy"),
    "xla f32": ("default", "xla"),
    "xla q4_0 W4A16": ("recover,quantize-weights{recipe=q4_0},fuse", "xla"),
}


def ours(executable: Any, prompt: int, new: int, shares: dict[str, TimeShare] | None = None) -> tuple[float, float]:
    """Seconds of a prefill and of `new` decode steps."""
    probes: dict[str, Any] = shares or {}
    state = executable.start(1, prompt + new)
    began = time.perf_counter()
    executable.prefill(np.ones((1, prompt), np.int32), state, probe=probes.get("prefill"))
    middle = time.perf_counter()
    for _ in range(new):
        executable.decode(np.ones(1, np.int32), state, probe=probes.get("decode"))
    return middle - began, time.perf_counter() - middle


def theirs(model: Any, prompt: int, new: int) -> tuple[float, float]:
    """The same in transformers, with its cache."""
    with torch.no_grad():
        began = time.perf_counter()
        cache = model(torch.ones((1, prompt), dtype=torch.long), use_cache=True).past_key_values
        middle = time.perf_counter()
        for _ in range(new):
            cache = model(torch.ones((1, 1), dtype=torch.long), past_key_values=cache, use_cache=True).past_key_values
        return middle - began, time.perf_counter() - middle


def main() -> None:
    """Measure all ways in turn, run by run, so that what else the machine does falls on all alike."""
    a = parser.parse_args()
    model = transformers.AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    runs: dict[str, Callable[[], tuple[float, float]]] = {
        "transformers f32": lambda: theirs(model, a.prompt_tokens, a.new_tokens)
    }
    executables = {}
    for way, (pipeline, backend) in WAYS.items():
        executables[way] = burnish.executable(burnish.optimize(burnish.load(TINY), pipeline), backend)
        runs[way] = partial(ours, executables[way], a.prompt_tokens, a.new_tokens)
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in runs}
    for repetition in range(a.repeat + 1):
        for way, run in runs.items():
            took = run()
            if repetition:
                seconds[way].append(took)
    rates = {
        way: (a.prompt_tokens / median(s[0] for s in both), a.new_tokens / median(s[1] for s in both))
        for way, both in seconds.items()
    }
    base = rates["transformers f32"]
    shares = {}
    for way in ("numpy f32", "numpy q4_0 W4A8"):
        shares[way] = {"prefill": TimeShare(), "decode": TimeShare()}
        ours(executables[way], a.prompt_tokens, a.new_tokens, shares[way])
    if a.json:
        ratios = {w: [x / y for x, y in zip(r, base, strict=True)] for w, r in rates.items()}
        probed = {w: {p: s.as_json() for p, s in x.items()} for w, x in shares.items()}
        print(json.dumps({"tokens_per_s": rates, "ratio_to_transformers": ratios, "shares": probed}))
        return
    print(f"{'':20}{'prefill/s':>12}{'ratio':>8}{'decode/s':>12}{'ratio':>8}")
    for way, (prefill, decode) in rates.items():
        print(f"{way:20}{prefill:12.0f}{prefill / base[0]:8.2f}{decode:12.0f}{decode / base[1]:8.2f}")
    for way, phases in shares.items():
        for phase, share in phases.items():
            print(f"\n{way}, {phase}:\n{share.text()}")


if __name__ == "__main__":
    main()
