"""Where things come from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Origin", "block_of"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something comes from: the module path it belongs to, the sources it stands for, the rules that made it."""

    scope: str = ""
    sources: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    @classmethod
    def union(cls, origins: Iterable[Origin], rule: str = "") -> Origin:
        """Of something made by `rule` out of things with these origins: the innermost scope that holds them all."""
        origins = list(origins)
        scopes = [o.scope.split(".") for o in origins]
        shared = 0
        while scopes and all(len(s) > shared and s[shared] == scopes[0][shared] for s in scopes):
            shared += 1
        rules = dict.fromkeys(r for o in origins for r in o.rules)
        return cls(
            ".".join(scopes[0][:shared]) if scopes else "",
            tuple(dict.fromkeys(s for o in origins for s in o.sources)),
            tuple(dict.fromkeys([*rules, rule])) if rule else tuple(rules),
        )


def block_of(scope: str) -> str:
    """The number of the repeated block that a scope lies in: the first component that is a number, or ''."""
    m = re.search(r"(?:^|\.)(\d+)(?:\.|$)", scope)
    return m[1] if m else ""
