"""burnish inspect: what a model is made of."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from burnish.cli._options import common_options, load_module, source_argument, verify_option

_MOST_GUARDS = 6  # that the card spells out
_LABEL = 14  # columns
_TABLE = "{:20}{:>14,}{:>7.1f} %  {}"
_TOGETHER = "\N{NO-BREAK SPACE}"  # between words that stay on one line


@click.command()
@source_argument
@verify_option
@common_options
def command(source: Path, as_json: bool) -> None:
    """Say what SRC is made of.

    Its dimensions, parameters, bytes and memory, and what has a kernel on this machine.
    """
    from burnish.frontends.config import LoadError
    from burnish.runtime.inspection import describe
    from burnish.runtime.sources import kind_of, tokenizer_of

    module = load_module(source)
    facts = {"source": str(source), "format": kind_of(source)} | describe(module)
    try:
        tokenizer = tokenizer_of(source)
        facts["tokenizer"] = tokenizer.about if tokenizer is not None else None
        facts["chat_template"] = tokenizer is not None and tokenizer.chat is not None
    except LoadError as e:
        facts |= {"tokenizer": f"cannot be read: {e}", "chat_template": False}
    click.echo(json.dumps(facts) if as_json else _card(facts))


def _card(facts: Mapping[str, Any]) -> str:
    """The facts under their labels, no wider than the terminal."""
    width = min(shutil.get_terminal_size().columns, 100)
    wrap = textwrap.TextWrapper(max(width - _LABEL - 2, 20), break_on_hyphens=False, break_long_words=False).wrap
    lines = [f"{facts['source']}: {facts['architecture']} ({facts['format']})"]
    for label, text in _rows(facts):
        for piece in wrap(text) or [""]:
            lines.append(f"  {label:{_LABEL}}{piece}".rstrip())
            label = ""
    return "\n".join(lines).replace(_TOGETHER, " ")


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A label and what to say of it; the label of what goes on is empty."""
    known = facts["facts"]
    yield "task", known.get("task") or "it does not say; give --task"
    for name, found in facts["dimensions"].items():
        if len(facts["dimensions"]) > 1:
            yield name, ""
        yield from _dimensions(found)
    if facts["tied"]:
        yield "head", "shares its table with the embedding (tied)"
    cut = f", of which a text is cut to {known['longest']:,}" if "longest" in known else ""
    yield "context", (f"{known['context']:,} tokens" if "context" in known else "it does not say") + cut
    yield "tokenizer", facts["tokenizer"] or "none: it runs on ids"
    if facts["chat_template"]:
        yield "chat", "by a template of its own"
    if "pooling" in known:
        yield "pooling", f"{', '.join(known['pooling'])}; compared by {known.get('similarity', 'cosine')}"
    if "prompt_names" in known:
        default = f"; unless named, {known['default_prompt']}" if "default_prompt" in known else ""
        yield "prompts", _listed(known["prompt_names"], 8) + default
    if "eos" in known:
        yield "ends at", f"token {_listed(known['eos'])}"
    if "labels" in known:
        yield "labels", _listed(known["labels"], 8)
    if "rules" in known:
        yield "rules", _listed(known["rules"], 8)
    if "decoder_start" in known:
        yield "starts with", f"token {known['decoder_start']}"
    yield "parameters", _parameters(facts)
    yield from _bytes(facts)
    yield from _memory(facts)
    yield from _kernels(facts)
    for name, kinds in facts["ops"].items():
        counts = sorted(((n, op) for ops in kinds.values() for op, n in ops.items()), key=lambda item: -item[0])
        yield "ops" if len(facts["ops"]) == 1 else f"ops, {name}", ", ".join(f"{n}{_TOGETHER}{op}" for n, op in counts)
    if "left_out" in known:
        yield "left out", f"{_listed(known['left_out'], 8)}, no part of the text model"
    guards = list(dict.fromkeys(facts["guards"]))
    for i, guard in enumerate(guards[:_MOST_GUARDS]):
        yield "" if i else "guards", guard
    if len(guards) > _MOST_GUARDS:
        yield "", f"and {len(guards) - _MOST_GUARDS} more (--json has all)"
    if "passes" in known:
        yield "made by", ", ".join(dict.fromkeys(known["passes"]))


def _dimensions(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of one graph."""
    stacks = found.get("layers", {})
    layers = [f"{n} in {stack}" if len(stacks) > 1 else str(n) for stack, n in stacks.items()]
    sizes = [f"{label} {n:,}" for label, n in {"width": found.get("width")}.items() if n is not None]
    sizes += [f"feed-forward {_listed(f'{n:,}' for n in found['feed_forward'])}"] if "feed_forward" in found else []
    if layers or sizes:
        yield "layers", ", ".join([*layers, *sizes])
    for e in found.get("experts", ()):
        yield "experts", f"{e['experts']}, of which a token takes {e['chosen']}"
    yield from (("attention", text) for text in _attention(found.get("attention", ())))
    for r in found.get("rope", ()):
        yield "rope", _rope(r)
    if "learned_positions" in found:
        yield "positions", f"a table of {found['learned_positions']:,}"
    for r in found.get("relative_bias", ()):
        yield "positions", f"a bias by distance, {r['buckets']} buckets"
    if "vocabulary" in found:
        yield "vocabulary", f"{found['vocabulary']:,}"
    if "scores" in found and found["scores"] != found.get("vocabulary"):
        yield "scores", f"{found['scores']:,}"
    if "embedding" in found:
        yield "embedding", f"{found['embedding']:,} numbers of a text"


def _attention(forms: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    forms = list(forms)
    for f in forms:
        text = f"{f['heads']} heads of {f['head_size']}"
        text += f" (values of {f['value_size']})" if f["value_size"] != f["head_size"] else ""
        text += f", {f['key_heads']} key heads" if f["key_heads"] != f["heads"] else ""
        text += ", to the encoder's tokens" if f["of_others"] else "" if f["causal"] else ", both ways"
        text += f", a window of {f['window']:,}" if f["window"] else ""
        yield text + (f", in {f['nodes']} of {sum(f['nodes'] for f in forms)}" if len(forms) > 1 else "")


def _rope(r: Mapping[str, Any]) -> str:
    parts = [f"theta {r['theta']:,.12g}" if "theta" in r else "frequencies of its own"]
    if "divided_by" in r:
        least, most = r["divided_by"]
        parts.append(f"frequencies divided by {least:g}" + (f" to {most:g}" if most != least else ""))
    return ", ".join([*parts, f"{r['rotated']} of each head" if "rotated" in r else ""]).rstrip(", ")


def _parameters(facts: Mapping[str, Any]) -> str:
    text = f"{_count(facts['parameters'])} in {facts['tensors']} tensors, "
    text += f"{_count(facts['parameters_without_embeddings'], exact=False)} without embeddings"
    if any(found.get("experts") for found in facts["dimensions"].values()):
        text += f", {_count(facts['parameters_of_a_token'], exact=False)} used by a token"
    return text


def _bytes(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """By type, and by part, with what share of all they are."""
    from burnish.runtime.parts import folded

    total = max(facts["bytes"], 1)
    by_type = sorted(facts["bytes_by_type"].items(), key=lambda item: -item[1])
    yield "bytes", f"{_size(facts['bytes'])} ({', '.join(f'{100 * n / total:.3g} % {k}' for k, n in by_type)})"
    for name, count, dtypes in folded(facts["bytes_by_part"]):
        size, types = count * sum(dtypes.values()), sorted(dtypes, key=dtypes.__getitem__, reverse=True)
        yield "", _TABLE.format(name, size, 100 * size / total, ", ".join(types)).replace(" ", _TOGETHER)


def _memory(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Weights and states at some lengths, and what the states are."""
    if facts["bytes_at"]:
        at = [f"{_size(n)} at {tokens:,} tokens" for tokens, n in facts["bytes_at"].items()]
        yield "memory", f"weights and one sequence: {', '.join(a.replace(' ', _TOGETHER) for a in at)}"
    if facts["cache_bytes_per_token"]:
        yield "", f"{facts['cache_bytes_per_token']:,} bytes for each token of a sequence"
    if facts["state_bytes_per_sequence"]:
        yield "", f"{facts['state_bytes_per_sequence']:,} bytes a sequence for windows and recurrences"


def _kernels(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How products run here: by which kernel, packed as they are or not."""
    from burnish.ir.format import FORMATS

    label = f"on {facts['backend']}"
    for p in facts["products"] or ():
        how = "not quantized"
        if p["kernel"]:
            how = f"{'packed, ' if p['weight'] in FORMATS else ''}kernel {p['kernel']}"
        elif p["dequantized"]:
            how = f"smaller, not faster ({p['dequantized']})"
        yield label, f"{p['count']} {p['op']} with {p['weight']}: {how}"
        label = ""


def _listed(values: Iterable[Any], most: int = 4) -> str:
    texts = [str(v) for v in values]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _count(n: int, exact: bool = True) -> str:
    """135 M (134,515,008); what is below a million is given as it is."""
    if n < 10**6:
        return f"{n:,}"
    return _scaled(n, ("", " K", " M", " B", " T")) + (f" ({n:,})" if exact else "")


def _size(n: int) -> str:
    """Bytes in three digits: 3.94 MB."""
    return _scaled(n, (" bytes", " kB", " MB", " GB", " TB"))


def _scaled(n: float, units: tuple[str, ...]) -> str:
    unit = 0
    while n >= 999.5 and unit < len(units) - 1:
        n, unit = n / 1000, unit + 1
    return (f"{n:.3g}" if unit else f"{n:.0f}") + units[unit]
