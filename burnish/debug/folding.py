"""What many applications have in common, told once: layers that change alike, refusals for one reason."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from burnish.ir.origin import block_of, dotted, ranges
from burnish.passes.engine import Application, Remark

__all__ = ["alike", "fold_changes", "fold_layers", "fold_remarks", "places"]

_LAYER = re.compile(r"[-+] [%@](?P<stack>\d+\.)?(?P<index>\d+)\.\d+[:,]")  # of the first result of a statement
_REFERENCE = re.compile(r'[%@](?:"(?:[^"\\]|\\.)*"|[\w./:-]*\w)')


def fold_changes(changes: Iterable[tuple[Application, str]]) -> list[tuple[Application, str]]:
    """The first of the applications that change their places alike, and what it changes and where the others are."""
    found: dict[object, tuple[Application, str, list[Application]]] = {}
    for application, text in changes:
        key = (application.pass_name, application.rule, alike(text, application.scope))
        if key in found:
            found[key][2].append(application)
        else:
            found[key] = (application, text, [])
    return [(first, _told(text, first, others)) for first, text, others in found.values()]


def _told(text: str, first: Application, others: Sequence[Application]) -> str:
    if not others:
        return fold_layers(text)
    what = "place" if block_of(first.scope) is None else "layer"
    return f"{fold_layers(text)}\n  and the same in {_other(others, what)}: {places(others)}"


def fold_layers(change: str) -> str:
    """A change to several layers at once, such as one to the signature: those that it changes alike are told once."""
    told: list[tuple[list[str], list[str]]] = []  # lines, and the layers that they are about
    known: dict[object, list[str]] = {}
    for layer, group in itertools.groupby(change.splitlines(), _layer_of):
        lines = list(group)
        key = layer and len(lines) > 1 and (layer[0], alike("\n".join(lines)))
        if key in known:
            known[key].append(layer[1] if layer else "")
            continue
        told.append((lines, [layer[1]] if layer else []))
        if key:
            known[key] = told[-1][1]
    return "\n".join(line for lines, layers in told for line in [*lines, *_and_others(layers[1:])])


def _layer_of(line: str) -> tuple[str, str] | None:
    found = _LAYER.match(line)
    return None if found is None else (found["stack"] or "", found["index"])


def _and_others(layers: Sequence[str]) -> list[str]:
    return [f"  and the same in {_other(layers, 'layer')}: {ranges(layers)}"] if layers else []


def _other(what: Sequence[object], name: str) -> str:
    return f"{len(what)} other {name}{'s' if len(what) > 1 else ''}"


def alike(text: str, scope: str = "") -> str:
    """The text of a change at `scope` without what tells its layer from others: names of values, the layer's index."""
    names: dict[str, str] = {}
    text = _REFERENCE.sub(lambda m: names.setdefault(m[0], f"{m[0][0]}{len(names)}"), text)
    if (block := block_of(scope)) is None:
        return text
    way = f"{block.stack}[{block.index}]"
    return text.replace(way, f"{block.stack}[*]").replace(f"{dotted(way)}.", f"{dotted(block.stack)}.*.")


def fold_remarks(remarks: Iterable[Remark]) -> tuple[list[str], list[str]]:
    """What was applied, rule by rule in the order in which they were; and what was not, by reason, the most first."""
    applied: dict[tuple[str, str], list[Application]] = {}
    refused: dict[tuple[str, str, str], list[Application]] = {}
    for remark in remarks:
        a = remark.application
        if remark.reason is None:
            applied.setdefault((a.pass_name, a.rule), []).append(a)
        else:
            refused.setdefault((a.pass_name, a.rule, remark.reason), []).append(a)
    most_first = sorted(refused.items(), key=lambda item: -len(item[1]))
    return (
        [_counted(found) for found in applied.values()],
        [f"{_counted(found)}\n{'':13}{reason}" for (*_, reason), found in most_first],
    )


def _counted(found: Sequence[Application]) -> str:
    """One by its id, several by their number."""
    which = found[0].id if len(found) == 1 else f"{len(found):>11}×"
    return f"{which} {found[0].pass_name}/{found[0].rule} at {places(found)}"


def places(applications: Iterable[Application]) -> str:
    """Where they were made, layers of a stack together: `model.layers[1..3].mlp, lm_head`."""
    found: dict[tuple[str, str], set[int]] = {}
    for a in applications:
        scope = a.scope or a.graph
        block = block_of(scope)
        way = scope if block is None else f"{block.stack}[{block.index}]"
        indices = found.setdefault((way if block is None else block.stack, scope[len(way) :]), set())
        indices |= set() if block is None else {block.index}
    named = (
        f"{stack}[{ranges(map(str, sorted(indices)))}]{rest}" if indices else stack
        for (stack, rest), indices in found.items()
    )
    return ", ".join(named)
