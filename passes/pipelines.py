"""Pipelines: passes in order, each with the reason for its place, and their text form."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from burnish.ir.module import Module
from burnish.ir.origin import block_of
from burnish.passes.engine import PASSES, Context, Controller, Observer, Pass, PassError

__all__ = ["PIPELINES", "Expect", "PipelineError", "parse_pass", "parse_pipeline", "quantized", "run_passes"]


class PipelineError(ValueError):
    """A pipeline that cannot be read: an unknown pass or option."""


class Expect(Pass):
    """Changes nothing; an error unless the module has `per_block` nodes of `op` in each block, and `plus` more."""

    op: str
    per_block: int = 0
    plus: int = 0

    def run(self, module: Module, ctx: Context) -> None:
        found = [n for g in module.every_graph for n in g if n.op.name == self.op]
        blocks = {(g.name, b) for g in module.graphs.values() for n in g if (b := block_of(n.origin.scope))}
        wanted = self.per_block * len(blocks) + self.plus
        if len(found) < wanted:
            raise PassError(f"{self}: found {len(found)} of {wanted} {self.op} in {len(blocks)} blocks")


Entries = tuple[tuple[str, str], ...]

# Each entry, a pass or a pipeline, says why it stands where it does, where its place matters.
PIPELINES: dict[str, Entries] = {
    # What every import gets: the same for all targets.
    "default": (
        ("recover", "quantize-weights stands behind it: a recipe's names are those of the products as they are found"),
        ("fuse", "joins products whose weights are stored alike"),
    ),
    # The ops that an import is made of.
    "recover": (
        ("canonicalize", ""),
        ("simplify-memory", "recovery and fusion look through no views"),
        ("recover-gather", ""),
        ("recover-views", "before masks, whose guards it makes cheap"),
        ("recover-norm", ""),
        ("recover-activation", ""),
        ("recover-rope", ""),
        ("recover-attention", "before masks: they are found at an attention"),
        ("recover-mask", ""),
        ("simplify-memory", "the transposes that recovery put around rope and attention cancel"),
        ("recover-positions", "once views have merged, and masks, which count tokens too, are gone"),
        ("fuse-linear", ""),
    ),
    # Ops joined.
    "fuse": (
        ("fuse-qkv", ""),
        ("fuse-gate-up", ""),
        ("simplify-memory", "rows of one stored tensor that are joined again"),
        ("fuse-fma", "after all that recovers an op from its parts: an fma hides the addition"),
        ("canonicalize", "what the fusions left over"),
    ),
    # Prefill and decode with caches.
    "stateful": (
        ("from-start", "a session keeps what came before: the plain forward is what it makes stateful"),
        ("insert-state", ""),
        ("last-row", ""),
    ),
}


def parse_pipeline(text: str, named: Mapping[str, Entries] = PIPELINES) -> list[Pass]:
    """Read `name,pass{option=value,…},…`, names of pipelines (`named`) or of passes. Raises PipelineError."""
    passes: list[Pass] = []
    for entry in _entries(text):
        if entry in named:
            passes += [q for p, _ in named[entry] for q in parse_pipeline(p, named)]
        else:
            passes.append(parse_pass(entry, named))
    return passes


def _entries(text: str) -> list[str]:
    """What stands between the commas outside of braces. Raises PipelineError for text that is no such list."""
    entries = [e.strip() for e in re.findall(r"(?:[^,{}]|\{[^{}]*\})+", text)]
    if re.sub(r"\s", "", ",".join(entries)) != re.sub(r"\s", "", text) or (text.strip() and not all(entries)):
        raise PipelineError(f"cannot read the pipeline {text!r}; its form is pass{{option=value,…}},pass,…")
    return entries if text.strip() else []


def quantized(recipe: str) -> str:
    """The default pipeline, with weights quantized by a recipe before products are joined."""
    return "default" if recipe.lower() == "none" else f"recover,quantize-weights{{recipe={recipe}}},fuse"


def run_passes(
    module: Module,
    pipeline: str | Sequence[Pass],
    controller: Controller | None = None,
    observers: Sequence[Observer] = (),
) -> Context:
    """Run the passes of a pipeline over a module, which they change. Raises PipelineError, PassError."""
    passes = parse_pipeline(pipeline) if isinstance(pipeline, str) else pipeline
    context = Context(module, observers=observers)
    context.controller = controller or context.controller
    for pass_ in passes:
        context.run(pass_)
    return context


def parse_pass(text: str, others: Iterable[str] = PIPELINES) -> Pass:
    """Read `pass{option=value,…}`. Raises PipelineError, with the nearest names, those of `others` among them."""
    m = re.fullmatch(r"\s*([\w-]+)(?:\{(.*)\})?\s*", text)
    if m is None:
        raise PipelineError(f"cannot read the pass {text!r}; its form is name{{option=value}}")
    cls = PASSES.find(m[1], PipelineError, others)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    options: dict[str, Any] = {}
    for item in filter(None, (m[2] or "").split(",")):
        key, eq, value = item.partition("=")
        key = key.strip()
        if key not in fields or not eq:
            raise PipelineError(f"{m[1]} has no option {item!r}; it has {', '.join(fields) or 'none'}")
        if key in options:
            raise PipelineError(f"{m[1]} is given {key} twice")
        options[key] = _convert(m[1], key, value.strip(), str(fields[key].type))
    missing = [k for k, f in fields.items() if f.default is dataclasses.MISSING and k not in options]
    if missing:
        raise PipelineError(f"{m[1]} needs {', '.join(missing)}")
    try:
        return cls(**options)
    except ValueError as e:
        raise PipelineError(f"{m[1]}: {e}") from None


def _convert(pass_name: str, key: str, value: str, type_name: str) -> Any:
    try:
        match type_name:
            case "bool":
                return {"true": True, "false": False}[value]
            case "int":
                return int(value)
            case "float":
                return float(value)
    except (ValueError, KeyError):
        raise PipelineError(f"{pass_name}: {key} must be of type {type_name}, not {value!r}") from None
    return value
