"""Frequencies of rotary position embeddings, with the scalings that configs name."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from burnish.frontends.config import Config, LoadError

__all__ = ["rope_by_type", "rope_frequencies"]


def rope_frequencies(
    config: Config,
    head_dim: int,
    rotated: float = 1.0,
    of: str = "",
    theta: tuple[str, float] = ("rope_theta", 10000.0),
) -> np.ndarray:
    """inv_freq f32[R / 2], in Python floats and rounded once (arXiv:2104.09864, 2407.21783 for llama3).

    R is the share of the head that `partial_rotary_factor` says, `rotated` unless it does. Reads, as transformers 5
    does, `rope_scaling`, which takes the place of all of `rope_parameters`, or else these, of the layers of type `of`
    where each type has its own; what the section does not say stands beside it, the base as the field `theta`, with
    its default. Raises LoadError for a scaling that is not supported, or of an unknown form.
    """
    given = [key for key in ("rope_scaling", "rope_parameters") if config.get(key)]
    scaling = config.section(given[0] if given else "rope_parameters")
    scaling = scaling.section(of) if of and scaling.has(of) else scaling
    for key in (theta[0], "partial_rotary_factor"):
        config.get(key)  # beside the section, which goes before
    where, field = (scaling, ("rope_theta", None)) if scaling.has("rope_theta") else (config, theta)
    base = where.number(*field, least=1.0)
    share = (scaling if scaling.has("partial_rotary_factor") else config).number(
        "partial_rotary_factor", rotated, least=1e-6, most=1.0
    )
    head_dim = int(head_dim * share)
    frequencies = [base ** (-i / head_dim) for i in range(0, head_dim, 2)]
    kind = "rope_type" if scaling.has("rope_type") else "type"
    scaling.get("type")  # beside `rope_type`, the same in older files
    match scaling.choice(kind, ["default", "linear", "llama3"], "default"):
        case "linear":
            factor = scaling.number("factor", least=1e-6)
            frequencies = [f / factor for f in frequencies]
        case "llama3":
            context = config.integer("max_position_embeddings", 2048)
            context = scaling.integer("original_max_position_embeddings", context)
            frequencies = _llama3(frequencies, scaling, context)
    return np.array(frequencies, np.float32)


def rope_by_type(
    config: Config, head_dim: int, near: tuple[str, float], far: tuple[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The frequencies of the layers within a window and of the others, each with the field of its base, and a default.

    Where a file has no section for each, `rope_scaling` is of the others alone, as transformers 5 has it. Raises
    LoadError.
    """
    given = config.get("rope_parameters")
    by_type = isinstance(given, Mapping) and not {"sliding_attention", "full_attention"}.isdisjoint(given)
    if given and (config.has("rope_scaling") or not by_type):
        where = f"{config.where}: rope_parameters"
        raise LoadError(f"{where} must have a section for each type of layers, and no rope_scaling beside it")
    others = rope_frequencies(config, head_dim, of="full_attention", theta=far)
    if config.has("rope_scaling"):
        return rope_frequencies(Config({"rope_theta": config.number(*near, least=1.0)}), head_dim), others
    return rope_frequencies(config, head_dim, of="sliding_attention", theta=near), others


def _llama3(frequencies: list[float], scaling: Config, context: int) -> list[float]:
    """Wavelengths long beside the context of training are stretched by `factor`, short ones stay, the rest blended."""
    factor = scaling.number("factor", least=1e-6)
    low, high = (scaling.number(key, least=1e-6) for key in ("low_freq_factor", "high_freq_factor"))
    if low >= high:
        raise LoadError(f"{scaling.where}: low_freq_factor {low:g} must be less than high_freq_factor {high:g}")
    scaled = []
    for f in frequencies:
        wavelength = 2 * math.pi / f
        if wavelength > context / low:
            f = f / factor
        elif wavelength >= context / high:
            blend = (context / wavelength - low) / (high - low)
            f = (1 - blend) * f / factor + blend * f
        scaled.append(f)
    return scaled
