"""Results that are no numbers end a run: no text, label or vector is made of them."""

from __future__ import annotations

import numpy as np

__all__ = ["NotFinite", "require_finite"]


class NotFinite(ArithmeticError):
    """What a model computes is not a number, or is infinite."""


def require_finite(x: np.ndarray, what: str) -> None:
    """Raise NotFinite for NaN and plus infinity, and where all of the last axis is minus infinity: a word ruled out."""
    if x.size and not np.isfinite(x.max(axis=-1)).all():  # the maximum of what holds NaN is NaN
        bad = int((~np.isfinite(x)).sum())
        raise NotFinite(
            f"{what}: {bad} of {x.size} are NaN or infinite, so nothing follows from them. `burnish debug check` tells "
            "whether a pass did that; where none did, the model's weights or its config.json are damaged"
        )
