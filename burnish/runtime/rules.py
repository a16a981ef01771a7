"""Rules that a model's text keeps to, which belong to the model: what it begins with, and what it never says.

A rule is a fact of the module, as `name=value` with a value in JSON (`min_length=56`), by the names of transformers'
`GenerationConfig` and with its formulae (`generation/logits_process.py`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import numpy as np

from burnish.runtime.finite import NotFinite
from burnish.runtime.sampling import Sampler

__all__ = ["Ruled"]


class Ruled:
    """A sampler that chooses among the tokens that the rules leave: others have -inf as their logits.

    For one text: the model was asked with `asked`, `before` tokens come before it (an encoder reads what is asked, and
    its decoder begins with a token of its own), and it has at most `limit` of its own.
    """

    def __init__(
        self,
        rules: Sequence[str],
        ends: Collection[int],
        asked: Sequence[int],
        before: int,
        limit: int,
        sampler: Sampler,
    ) -> None:
        self.rules = {name: json.loads(value) for name, _, value in (rule.partition("=") for rule in rules)}
        self.ends, self.asked, self.before, self.limit, self.sampler = list(ends), list(asked), before, limit, sampler

    def __call__(self, logits: np.ndarray, ids: Sequence[int] = ()) -> int:
        """The token that the sampler chooses."""
        return self.sampler(self.allowed(logits, list(ids)), ids)

    def allowed(self, logits: np.ndarray, ids: list[int]) -> np.ndarray:
        """The logits, -inf for what the rules forbid."""
        at, rules = len(ids) - self.before, self.rules
        forced = rules.get("forced_bos_token_id") if len(ids) == 1 else None
        if at == self.limit - 1:
            forced = rules.get("forced_eos_token_id", forced)
        if forced is not None:
            many = forced if isinstance(forced, list) else [forced]
            return self._without(logits, [i for i in range(len(logits)) if i not in many])
        never = list(rules.get("suppress_tokens", ()))
        if at == (self.before == 1 and "forced_bos_token_id" in rules):
            never += rules.get("begin_suppress_tokens", ())
        if len(ids) < rules.get("min_length", 0) or at < rules.get("min_new_tokens", 0):
            never += self.ends
        for *before, last in rules.get("bad_words_ids", ()):
            if not before:
                never += [last] if last not in self.ends else []
            elif len(before) < len(ids) and ids[-len(before) :] == before:
                never.append(last)
        for name, said in (("no_repeat_ngram_size", ids), ("encoder_no_repeat_ngram_size", self.asked)):
            if 0 < (n := rules.get(name, 0)) <= len(ids) + 1:
                latest = ids[len(ids) - n + 1 :]
                never += [said[i + n - 1] for i in range(len(said) - n + 1) if said[i : i + n - 1] == latest]
        return self._without(logits, never) if never else logits

    def _without(self, logits: np.ndarray, never: list[int]) -> np.ndarray:
        left = logits.astype(np.float32)
        left[[i for i in never if i < len(left)]] = -np.inf
        if not (left > -np.inf).any():
            raise NotFinite(f"the model's rules leave no token to choose: {self.rules}")
        return left
