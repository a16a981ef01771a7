"""What a model's makers advise on how to draw its tokens: `generation_config.json`."""

from __future__ import annotations

import math
from pathlib import Path

from burnish.frontends.config import read_object

__all__ = ["advised_sampling"]

#: settings that have a meaning only where tokens are drawn, and one that always has
_DRAWN, _ALWAYS = ("temperature", "top_k", "top_p", "min_p"), ("repetition_penalty",)
#: what a setting is where nothing is asked for
_NEUTRAL = {"top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}


def advised_sampling(folder: Path) -> tuple[str, ...]:
    """The settings that do something, as `temperature=0.6`; none where the file is not there.

    It is advice, for people: what is no number is left out. Raises LoadError for a file that cannot be read.
    """
    file = folder / "generation_config.json"
    if not file.exists():
        return ()
    said = read_object(file)
    names = (*_DRAWN, *_ALWAYS) if said.get("do_sample") is True else _ALWAYS
    values = {"temperature": 1.0} | {k: v for k in names if (v := said.get(k)) is not None}
    numbers = {k: v for k in names if isinstance(v := values.get(k), int | float) and not isinstance(v, bool)}
    return tuple(f"{k}={v}" for k, v in numbers.items() if math.isfinite(v) and v != _NEUTRAL.get(k))
