"""How long XLA takes to compile a decode step, and the step to run, by depth: rolled, unrolled, and plain JAX.

    python benchmarks/xla_compile.py [--blocks 4 16 64] [--format q4_0] [--context 1024] [--json]

A Llama of random weights, one sequence, caches of `context` rows, half full. "plain JAX" is a decode step written by
hand as one usually does, one block after the other, weights in f32; so are ours unless a format is given. Compile
times include tracing. Other work on the machine moves all of them alike: compare the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import burnish
from burnish.backends.xla import Xla
from burnish.frontends.architecture import build_module, parameters
from burnish.frontends.architectures.llama import Llama
from burnish.frontends.config import Config
from burnish.ir.module import Module
from burnish.ir.weights import MemoryWeights
from burnish.passes.pipelines import quantized

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--blocks", type=int, nargs="+", default=[4, 16, 64], help="depths")
parser.add_argument("--format", default="", help="quantize our weights: q4_0, q8_0, int8 (default: f32)")
parser.add_argument("--context", type=int, default=1024, help="rows of a cache")
parser.add_argument("--json", action="store_true", help="print JSON, one object, instead of a table")

HIDDEN, INNER, HEADS, GROUPS, VOCABULARY = 256, 512, 8, 4, 4096
SIZE = HIDDEN // HEADS
STEPS = 20
PIPELINES = {"rolled": "stateful,xla", "unrolled": "stateful,set-layouts{layout=planes}"}


def main() -> None:
    """Measure every depth, and print."""
    options = parser.parse_args()
    lines = []
    for blocks in options.blocks:
        module = model(blocks, options.format)
        for way, pipeline in PIPELINES.items():
            lines.append({"blocks": blocks, "way": way, **ours(burnish.optimize(module, pipeline), options.context)})
        lines.append({"blocks": blocks, "way": "plain JAX", **plain(module, blocks, options.context)})
    if options.json:
        print(json.dumps({"format": options.format or "f32", "context": options.context, "lines": lines}, indent=1))
        return
    print(f"{'blocks':>6}  {'way':<9}  {'operations':>10}  {'compile s':>9}  {'step ms':>8}  {'temporaries MB':>14}")
    for r in lines:
        times = f"{r['compile_s']:>9.2f}  {r['step_ms']:>8.2f}"
        print(f"{r['blocks']:>6}  {r['way']:<9}  {r['operations']:>10}  {times}  {r['temporaries'] / 1e6:>14.2f}")


def model(blocks: int, format: str) -> Module:
    """A Llama of that depth, optimized."""
    config = Config(
        {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": HEADS, "vocab_size": VOCABULARY}
        | {"num_key_value_heads": GROUPS, "num_hidden_layers": blocks}
    )
    rng = np.random.default_rng(0)
    types = parameters(Llama, config)
    arrays = {name: rng.standard_normal(t.sizes, dtype="f4") / t.sizes[-1] ** 0.5 for name, t in types.items()}
    module = build_module(Llama.names[0], config, types, MemoryWeights(arrays))
    return burnish.optimize(module, quantized(format or "none"))


def ours(module: Module, context: int) -> dict[str, Any]:
    """Our own step."""
    xla = Xla(module)
    sizes = {"B": 1, "S": 1, "C": context}
    weights = xla.weights("forward")
    inputs = {"ids": jnp.ones((1, 1), "int32"), "past": jnp.full(1, context // 2, "int32")}
    inputs["count"] = jnp.ones(1, "int32")
    graph = module.graphs["forward"]
    states = {v.name: xla.zeros(v.type.bind(sizes)) for v in graph.inputs if v.name in graph.outputs}

    def step(compiled: Any, states: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        results = compiled(states, inputs, weights)
        return results.pop("logits"), results

    return measured(lambda: xla.lower("forward", sizes), step, states)


def plain(module: Module, blocks: int, context: int) -> dict[str, Any]:
    """The step as one writes it in JAX."""
    assert module.source is not None
    weights = {name: jnp.asarray(module.source.read(name)) for name in module.weights}
    states = [(jnp.zeros((1, context, GROUPS, SIZE)), jnp.zeros((1, context, GROUPS, SIZE))) for _ in range(blocks)]
    arguments = (jnp.ones((1, 1), "int32"), jnp.int32(context // 2), weights)
    jitted = jax.jit(plain_step, donate_argnums=0)
    return measured(lambda: jitted.lower(states, *arguments), lambda f, s: f(s, *arguments), states)


def plain_step(states: Any, ids: Any, past: Any, w: Any) -> tuple[Any, Any]:
    """One token through a Llama."""
    x, new = w["model.embed_tokens.weight"][ids], []
    for i, (keys, values) in enumerate(states):
        layer = {k.removeprefix(f"model.layers.{i}."): v for k, v in w.items() if k.startswith(f"model.layers.{i}.")}
        y = plain_norm(x, layer["input_layernorm.weight"])
        q, k, v = (
            (y @ layer[f"self_attn.{name}_proj.weight"].T).reshape(1, 1, heads, SIZE)
            for name, heads in (("q", HEADS), ("k", GROUPS), ("v", GROUPS))
        )
        keys = jax.lax.dynamic_update_slice(keys, plain_rope(k, past), (0, past, 0, 0))
        values = jax.lax.dynamic_update_slice(values, v, (0, past, 0, 0))
        new.append((keys, values))
        q = plain_rope(q, past).reshape(1, GROUPS, HEADS // GROUPS, SIZE)
        scores = jnp.einsum("bghd,btgd->bght", q, keys) * SIZE**-0.5
        scores = jnp.where(jnp.arange(keys.shape[1]) <= past, scores, -jnp.inf)
        y = jnp.einsum("bght,btgd->bghd", jax.nn.softmax(scores), values).reshape(1, 1, HIDDEN)
        x = x + y @ layer["self_attn.o_proj.weight"].T
        y = plain_norm(x, layer["post_attention_layernorm.weight"])
        gate, up = (y @ layer[f"mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        x = x + (jax.nn.silu(gate) * up) @ layer["mlp.down_proj.weight"].T
    return plain_norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T, new


def plain_norm(x: Any, w: Any) -> Any:
    """RMS norm."""
    return w * x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def plain_rope(x: Any, at: Any) -> Any:
    """Rotary positions."""
    angles = at * 10000.0 ** (-jnp.arange(0, SIZE, 2) / SIZE)
    left, right = jnp.split(x, 2, axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


def measured(lower: Callable[[], Any], step: Callable[..., tuple[Any, Any]], states: Any) -> dict[str, Any]:
    """Trace, compile, and run a step some times; the states are handed on."""
    began = time.perf_counter()
    lowered = lower()
    compiled = lowered.compile()
    took = time.perf_counter() - began
    times = []
    for _ in range(STEPS):
        at = time.perf_counter()
        logits, states = step(compiled, states)
        jax.block_until_ready((logits, states))
        times.append(time.perf_counter() - at)
    return {
        "operations": lowered.as_text().count("stablehlo."),
        "compile_s": round(took, 3),
        "step_ms": round(statistics.median(times) * 1e3, 3),
        "temporaries": compiled.memory_analysis().temp_size_in_bytes,
    }


if __name__ == "__main__":
    main()
