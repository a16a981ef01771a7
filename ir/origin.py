"""Where things come from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Block", "Origin", "block_of", "dotted", "ranges"]

_INDEX = r"\[(0|[1-9]\d{0,8})\](?=\.|$)"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something comes from: the scope it belongs to, the sources it stands for, the rules that made it.

    A scope is a module path in which each block says that it is one, `model.layers[3].self_attn`; see `block_of`.
    """

    scope: str = ""
    sources: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    @classmethod
    def union(cls, origins: Iterable[Origin], rule: str = "") -> Origin:
        """Of something made by `rule` out of things with these origins: the innermost scope that holds them all.

        What two blocks of a stack hold together belongs to the stack.
        """
        origins = list(origins)
        scopes = [o.scope.replace("[", ".[").split(".") for o in origins]  # an index is a step of its own
        shared = 0
        while scopes and all(len(s) > shared and s[shared] == scopes[0][shared] for s in scopes):
            shared += 1
        rules = dict.fromkeys(r for o in origins for r in o.rules)
        return cls(
            ".".join(scopes[0][:shared]).replace(".[", "[") if scopes else "",
            tuple(dict.fromkeys(s for o in origins for s in o.sources)),
            tuple(dict.fromkeys([*rules, rule])) if rule else tuple(rules),
        )


@dataclass(frozen=True, slots=True)
class Block:
    """One of a stack of blocks: the module path that they have in common, and its place among them."""

    stack: str
    index: int

    def own_name(self, name: str) -> str:
        """What the block itself calls a thing that has this name in the model: the name without the way to the block.

        Where a file spells the way otherwise, it ends behind the block's index.
        """
        way = re.escape(dotted(f"{self.stack}[{self.index}]"))
        found = re.match(rf"(?:.*\.)?{way}\.", name) or re.match(rf"(?:.*?\.)?{self.index}\.", name)
        return name[found.end() :] if found else name


def block_of(scope: str) -> Block | None:
    """The repeated block that a scope lies in, the outermost where blocks hold blocks; None outside of all."""
    m = re.match(rf"(.*?){_INDEX}", scope, re.ASCII)
    return Block(m[1], int(m[2])) if m else None


def dotted(scope: str) -> str:
    """The scope as parameters' names have it: `model.layers.3.self_attn`."""
    return re.sub(_INDEX, r".\1", scope, flags=re.ASCII).removeprefix(".")


def ranges(numbers: Iterable[str]) -> str:
    """Numbers as people list them, each as it is written: `0..2, 5, 07`."""
    runs: list[list[str]] = []
    for text in numbers:
        if runs and int(text) == int(runs[-1][-1]) + 1:
            runs[-1][1:] = [text]
        else:
            runs.append([text])
    return ", ".join("..".join(run) for run in runs)
