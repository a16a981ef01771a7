"""Rotary position embeddings: the frequencies that a config names, and how they change with the length of a text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from burnish.frontends.config import Config, LoadError

if TYPE_CHECKING:
    from burnish.frontends.architecture import Layers
    from burnish.ir.graph import Value

__all__ = ["Rotation", "original_context", "rope_frequencies", "rope_section"]

KINDS = ("default", "linear", "dynamic", "yarn", "longrope", "su", "llama3")


@dataclass(frozen=True)
class Rotation:
    """How heads are rotated: pair j by position * inv_freq[j], f32[R / 2], cos and sin being multiplied by `scale`.

    Texts of more than `limit` tokens, where there is a limit, are rotated by `beyond`, f32[R / 2], or, without such, as
    if the base grew with them.
    """

    inv_freq: np.ndarray
    scale: float = 1.0
    limit: int = 0
    beyond: np.ndarray | None = None
    growth: float = 1.0

    def frequencies(self, op: Layers) -> Value:
        """f32[R / 2] or, by the length of each text, f32[B, R / 2]"""
        usual = op.constant(self.inv_freq)
        if not self.limit:
            return usual
        tokens = op.unsqueeze(op.text_length(self.limit, each=self.beyond is None), axes=(1,))
        if self.beyond is not None:
            return op.where(op.less_or_equal(tokens, self.limit), usual, op.constant(self.beyond))
        longer = op.cast(op.maximum(tokens, self.limit), to="f32") * (1 / self.limit)
        powers = op.constant(self._powers.astype(np.float32))
        return usual * op.exp(op.log(longer * self.growth - (self.growth - 1)) * powers)

    def grown(self, by: float) -> np.ndarray:
        """The frequencies of a base that has grown so that the last of them becomes 1 / `by` of what it is."""
        grown: np.ndarray = (self.inv_freq * by**self._powers).astype(np.float32)
        return grown

    @property
    def _powers(self) -> np.ndarray:
        return np.arange(len(self.inv_freq)) / -(len(self.inv_freq) - 1)


def rope_frequencies(
    config: Config,
    head_dim: int,
    rotated: float | None = None,
    of: str = "",
    theta: tuple[str, float] = ("rope_theta", 10000.0),
) -> Rotation:
    """The rotation that a config says, in Python floats and rounded once (arXiv:2104.09864).

    R is the share of the head that `partial_rotary_factor` says, `rotated` unless it does, and the whole head in a
    family that does not read that field (None). Reads, as transformers 5 does, `rope_scaling`, which takes the place of
    all of `rope_parameters`, or else these, of the layers of type `of` where each type has its own; what the section
    does not say stands beside it, the base as the field `theta`, with its default. Raises LoadError for a scaling that
    is not supported, or of an unknown form.
    """
    every = rope_section(config)
    own = every.section(of) if of and every.has(of) else every
    for key in (theta[0], "partial_rotary_factor"):
        config.get(key)  # beside the section, which goes before
    where, field = (own, ("rope_theta", None)) if own.has("rope_theta") else (config, theta)
    base = where.number(*field, least=1.0)
    where = own if own.has("partial_rotary_factor") else config
    share = where.number("partial_rotary_factor", 1.0 if rotated is None else rotated, least=1e-6, most=1.0)
    if rotated is None and share != 1:
        raise LoadError(f"{where.where}: partial_rotary_factor is {share:g}, but here heads are rotated as a whole")
    kind = own.choice("rope_type" if own.has("rope_type") else "type", KINDS, "default")
    own.get("type")  # beside `rope_type`, the same in older files
    size = int(head_dim * share)
    plain = [base ** (-i / size) for i in range(0, size, 2)]
    match kind:
        case "linear":
            factor = own.number("factor", least=1e-6)
            return Rotation(_rounded(f / factor for f in plain))
        case "dynamic":
            if len(plain) < 2:
                raise LoadError(f"{own.where}: dynamic frequencies of {size} channels of a head are not defined")
            limit = config.integer("max_position_embeddings", 2048)
            return Rotation(_rounded(plain), limit=limit, growth=own.number("factor", least=1.0))
        case "yarn":
            if base == 1:
                raise LoadError(f"{own.where}: yarn stretches no frequencies of a base of 1")
            context, whole = original_context(config, of), every.flag("truncate", True)  # of all types of layers
            return _yarn(plain, base, own, _factor(config, own, context), context, whole)
        case "longrope" | "su":
            context = original_context(config, of)
            return _longrope(plain, own, _factor(config, own, context), context)
        case "llama3":
            return Rotation(_rounded(_llama3(plain, own, original_context(config, of))))
    return Rotation(_rounded(plain))


def _rounded(frequencies: Iterable[float]) -> np.ndarray:
    return np.array(list(frequencies), np.float32)


def rope_section(config: Config) -> Config:
    """What a config says of rotations: of all layers, or a section for each type of them."""
    given = [key for key in ("rope_scaling", "rope_parameters") if config.get(key)]
    return config.section(given[0] if given else "rope_parameters")


def original_context(config: Config, of: str = "") -> int:
    """The number of tokens that a model was trained with before it was extended, for the layers of that type.

    Beside a section for all layers it goes before what is in the section.
    """
    every, key = rope_section(config), "original_max_position_embeddings"
    own = every.section(of) if of and every.has(of) else every
    beside = config.has(key) and own is every
    own.get(key)
    return (config if beside else own).integer(key, config.integer("max_position_embeddings", 2048), least=2)


def _factor(config: Config, own: Config, context: int) -> float:
    """How much longer texts are made."""
    return own.number("factor", config.integer("max_position_embeddings", 2048) / context, least=1e-6)


def _llama3(frequencies: Sequence[float], own: Config, context: int) -> list[float]:
    """Wavelengths long beside the context of training are stretched by `factor`, short ones stay, the rest blended.

    arXiv:2407.21783
    """
    factor = own.number("factor", least=1e-6)
    low, high = (own.number(key, least=1e-6) for key in ("low_freq_factor", "high_freq_factor"))
    if low >= high:
        raise LoadError(f"{own.where}: low_freq_factor {low:g} must be less than high_freq_factor {high:g}")
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


def _yarn(
    plain: Sequence[float], base: float, own: Config, factor: float, context: int, in_whole_pairs: bool
) -> Rotation:
    """Pairs that turn often within the context of training stay, those that turn rarely are stretched by `factor`.

    arXiv:2309.00071
    """
    pairs = len(plain)
    low, high = (
        pairs * math.log(context / (turns * 2 * math.pi)) / math.log(base)
        for turns in (own.number("beta_fast", 32.0, least=1e-6), own.number("beta_slow", 1.0, least=1e-6))
    )
    if in_whole_pairs:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * pairs - 1)
    span = high - low or 0.001
    ramp = [min(max((i - low) / span, 0.0), 1.0) for i in range(pairs)]

    def attention(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1

    one, of_all = own.number("mscale", 0.0), own.number("mscale_all_dim", 0.0)
    usual = attention(one) / attention(of_all) if one and of_all else attention(1)
    stretched = (f / factor * r + f * (1 - r) for f, r in zip(plain, ramp, strict=True))
    return Rotation(_rounded(stretched), own.number("attention_factor", usual))


def _longrope(plain: Sequence[float], own: Config, factor: float, context: int) -> Rotation:
    """Each pair is stretched by a number of its own, in texts longer than those of training by another one.

    arXiv:2402.13753
    """
    usual = math.sqrt(1 + math.log(factor) / math.log(context)) if factor > 1 else 1.0
    short, long = (
        _rounded(f / by for f, by in zip(plain, own.numbers(key, len(plain), least=1e-6), strict=True))
        for key in ("short_factor", "long_factor")
    )
    return Rotation(short, own.number("attention_factor", usual), context, long)
