"""Errors in units in the last place of f32."""

from __future__ import annotations

import numpy as np

__all__ = ["SMALLEST_NORMAL", "ulps"]

SMALLEST_NORMAL = 2.0**-126


def ulps(got: np.ndarray, exact: np.ndarray) -> float:
    """The largest error of f32 against float64, in units in the last place of what is exact, or of the smallest normal
    number; infinite where one is NaN, or infinite once rounded, and the other is not.
    """
    assert got.dtype == np.float32 and exact.dtype == np.float64 and got.shape == exact.shape
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        finite = np.isfinite(rounded)
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        if not np.all(same | (finite & np.isfinite(got))):
            return float("inf")
        unit = np.spacing(np.maximum(np.abs(rounded[finite]), np.float32(SMALLEST_NORMAL))).astype(np.float64)
        return float(np.max(np.abs(got[finite].astype(np.float64) - exact[finite]) / unit, initial=0.0))
