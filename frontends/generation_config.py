"""What a model's text begins and ends with, and how its makers advise to draw it: `generation_config.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish.frontends.config import Config, LoadError, read_object, shown
from burnish.ir.signature import Facts

__all__ = ["with_generation"]

#: settings that have a meaning only where tokens are drawn, and one that always has
_DRAWN, _ALWAYS = ("temperature", "top_k", "top_p", "min_p"), ("repetition_penalty",)
#: what a setting is where nothing is asked for
_NEUTRAL = {"top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1, "num_beams": 1}


def with_generation(facts: Facts, folder: Path | None, config: Config) -> Facts:
    """The facts with `eos`, `decoder_start`, `rules` and `sampling` as the file in `folder` has them, or else `config`.

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
    if not facts.makes_text:
        return replace(facts, rules=(), sampling=_advised(own.values) if there else ())
    return replace(facts, rules=_rules(own), sampling=(*(_advised(own.values) if there else ()), *_not_kept(own)))


def _rules(own: Config) -> tuple[str, ...]:
    """What every text of the model keeps to, as `name=value`. Raises LoadError for what is none."""
    found: dict[str, Any] = {}
    for key, kind in _RULES.items():
        if not own.has(key):
            continue
        value = own.get(key)
        if not kind(value):
            raise LoadError(f"{own.where}: {key} must be {kind.__doc__}, not {shown(value)}")
        if value not in (0, []) or key.startswith("forced"):
            found[key] = value
    return tuple(f"{key}={json.dumps(value)}" for key, value in found.items())


def _token(x: Any) -> bool:
    """a number from 0 on"""
    return type(x) is int and 0 <= x < 1 << 31


def _tokens(x: Any) -> bool:
    """a list of tokens"""
    return isinstance(x, list) and all(map(_token, x))


def _one_or_more(x: Any) -> bool:
    """a token, or a list of tokens"""
    return _token(x) or (_tokens(x) and bool(x))


def _sequences(x: Any) -> bool:
    """a list of lists of tokens, none of them empty"""
    return isinstance(x, list) and all(_tokens(s) and s for s in x)


_RULES: Mapping[str, Callable[[Any], bool]] = {
    **{"forced_bos_token_id": _token, "forced_eos_token_id": _one_or_more, "min_length": _token},
    **{"min_new_tokens": _token, "no_repeat_ngram_size": _token, "bad_words_ids": _sequences},
    **{"encoder_no_repeat_ngram_size": _token, "suppress_tokens": _tokens, "begin_suppress_tokens": _tokens},
}
#: what changes the likeliest text too and is not kept to, and the value with which it does not
_NOT_KEPT: Mapping[str, Any] = {
    **{"encoder_repetition_penalty": 1, "guidance_scale": 1, "sequence_bias": None, "watermarking_config": None},
    "exponential_decay_length_penalty": None,
}


def _not_kept(own: Config) -> tuple[str, ...]:
    """What people are told of, as a text may be another one without it: `name=value` in JSON."""
    said = {key: own.get(key) for key in _NOT_KEPT if own.has(key)}
    return tuple(f"{key}={json.dumps(value)}" for key, value in said.items() if value != _NOT_KEPT[key])


def _advised(said: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings that do something, as `temperature=0.6`. It is advice, for people: what is no number is left out."""
    names = (*_DRAWN, *_ALWAYS) if said.get("do_sample") is True else _ALWAYS
    values = {"temperature": 1.0} | {k: v for k in names if (v := said.get(k)) is not None}
    values |= {"num_beams": said.get("num_beams")}
    numbers = {k: v for k in (*names, "num_beams") if isinstance(v := values.get(k), int | float) and v is not True}
    return tuple(f"{k}={v}" for k, v in numbers.items() if math.isfinite(v) and v != _NEUTRAL.get(k))
