"""What a model's text begins and ends with, and how its makers advise to draw it: `generation_config.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish.frontends.config import Config, read_object
from burnish.ir.signature import Facts

__all__ = ["with_generation"]

#: settings that have a meaning only where tokens are drawn, and one that always has
_DRAWN, _ALWAYS = ("temperature", "top_k", "top_p", "min_p"), ("repetition_penalty",)
#: what a setting is where nothing is asked for
_NEUTRAL = {"top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}


def with_generation(facts: Facts, folder: Path | None, config: Config) -> Facts:
    """The facts with `eos`, `decoder_start` and `sampling` as the file in `folder` has them, or else `config`.

    The file goes before `config.json`, key by key. Raises LoadError.
    """
    file = folder / "generation_config.json" if folder is not None else None
    there = file is not None and file.exists()
    own = Config(read_object(file), str(file)) if there and file is not None else config
    chosen = own if own.has("eos_token_id") else config
    ids = chosen.get("eos_token_id")
    if ids is not None:
        many = ids if isinstance(ids, list) else [ids]
        each = (Config({"eos_token_id": i}, chosen.where) for i in many)
        facts = replace(facts, eos=tuple(c.integer("eos_token_id", least=0) for c in each))
    if facts.decoder_start is not None and own.has("decoder_start_token_id"):
        facts = replace(facts, decoder_start=own.integer("decoder_start_token_id", least=0))
    return replace(facts, sampling=_advised(own.values) if there else ())


def _advised(said: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings that do something, as `temperature=0.6`. It is advice, for people: what is no number is left out."""
    names = (*_DRAWN, *_ALWAYS) if said.get("do_sample") is True else _ALWAYS
    values = {"temperature": 1.0} | {k: v for k in names if (v := said.get(k)) is not None}
    numbers = {k: v for k in names if isinstance(v := values.get(k), int | float) and not isinstance(v, bool)}
    return tuple(f"{k}={v}" for k, v in numbers.items() if math.isfinite(v) and v != _NEUTRAL.get(k))
