"""Which layers see a window and which see all."""

from __future__ import annotations

from collections.abc import Callable

from burnish.frontends.config import Config

__all__ = ["FULL", "SLIDING", "layer_types"]

SLIDING, FULL = "sliding_attention", "full_attention"


def layer_types(c: Config, sliding: Callable[[int], bool]) -> list[str]:
    """`layer_types` of the config, one for each layer; where it has none, `sliding` says which layers have a window."""
    c.get("sliding_window")  # without such layers it means nothing
    layers = c.integer("num_hidden_layers", most=1024)
    return c.choices("layer_types", (SLIDING, FULL), [SLIDING if sliding(i) else FULL for i in range(layers)])
