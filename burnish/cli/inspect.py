"""burnish inspect: what a model is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from burnish.cli import json_option, load_module, plugin_option, source_argument, verify_option


@click.command()
@source_argument
@verify_option
@plugin_option
@json_option
def command(source: Path, as_json: bool) -> None:
    """Say what SRC is made of: tensors, bytes by part and type, ops by kind, the bytes of states."""
    from burnish.runtime.inspection import describe
    from burnish.runtime.sources import kind_of

    facts = {"source": str(source), "format": kind_of(source)} | describe(load_module(source))
    click.echo(json.dumps(facts) if as_json else _text(facts))


def _value(v: Any) -> str:
    return ", ".join(map(str, v)) if isinstance(v, tuple) else str(v)


def _text(facts: dict[str, Any]) -> str:
    lines = [f"{facts['source']}: {facts['format']}, {facts['architecture']}"]
    lines += [f"  {k} = {_value(v)}" for k, v in facts["facts"].items()]
    lines.append(
        f"{facts['tensors']} tensors, {facts['parameters']:,} parameters, {facts['parameters_per_tensor']:,} on average"
    )
    total = sum(facts["bytes_by_type"].values())
    lines.append(f"{total:,} bytes: " + ", ".join(f"{k} {n:,}" for k, n in facts["bytes_by_type"].items()))
    for part, types in facts["bytes_by_part"].items():
        lines.append(f"  {part:24} " + ", ".join(f"{k} {n:,}" for k, n in types.items()))
    if facts["cache_bytes_per_token"]:
        lines.append(f"cache: {facts['cache_bytes_per_token']:,} bytes a token and sequence")
    if facts["state_bytes_per_sequence"]:
        lines.append(f"windows and recurrences: {facts['state_bytes_per_sequence']:,} bytes a sequence")
    for graph, inputs in facts["graphs"].items():
        lines.append(f"graph {graph}({inputs})")
        for kind, ops in facts["ops"][graph].items():
            lines.append(f"  {kind:8} " + ", ".join(f"{n} {op}" for op, n in ops.items()))
    lines += [f"guard: {g}" for g in facts["guards"]]
    return "\n".join(lines)
