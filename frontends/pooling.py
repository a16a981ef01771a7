"""Pooling: from a vector for each token to one for a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.ir.builder import Ops
from burnish.ir.graph import Value

__all__ = ["MODES", "Pooling", "first_token"]

#: by the names of sentence-transformers, in the order in which it joins them
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@dataclass(frozen=True)
class Pooling:
    """One vector for a sentence, or several joined: by each of `modes`, over its real tokens.

    `cls` and `lasttoken` take the first and the last; `max` the largest of each number; `mean` is the sum over the
    number of tokens, `mean_sqrt_len_tokens` over its root; in `weightedmean` token i counts i + 1 times. Formulae:
    sentence-transformers' `Pooling`.
    """

    modes: Sequence[str]

    def build(self, op: Ops, hidden: Value, count: Value) -> Value:
        """hidden f32[B, S, H], count i32[B] -> f32[B, H * modes]; tokens from count[b] on are padding."""
        with op.scope("pooling"):
            found = [self._by(op, mode, hidden, count) for mode in self.modes]
            return found[0] if len(found) == 1 else op.concat(*found, axis=-1)

    def _by(self, op: Ops, mode: str, hidden: Value, count: Value) -> Value:
        if mode == "cls":
            return first_token(op, hidden)
        row = op.iota(size=hidden.shape[1])
        n = op.unsqueeze(op.maximum(count, 1), axes=(1,))
        if mode == "lasttoken":
            real = op.unsqueeze(op.equal(row, n - 1), axes=(2,))
        else:
            real = op.unsqueeze(op.less(row, n), axes=(2,))
        if mode == "max":
            return op.reduce_max(op.where(real, hidden, op.constant(-float("inf"), "f32")), axes=(1,), keepdims=False)
        if mode == "weightedmean":
            hidden = op.mul(hidden, op.reshape(op.cast(row + 1, to="f32"), shape=(1, hidden.shape[1], 1)))
        x = op.reduce_sum(op.where(real, hidden, op.constant(0.0, hidden.dtype)), axes=(1,), keepdims=False)
        if mode == "lasttoken":
            return x
        number = op.cast(n, to="f32")
        if mode == "mean_sqrt_len_tokens":
            number = op.sqrt(number)
        if mode == "weightedmean":
            number = op.mul(op.mul(number, number + 1.0), 0.5)  # 1 + 2 + … + n
        return op.div(x, number)


def first_token(op: Ops, hidden: Value) -> Value:
    """The first token of each sequence: [B, S, H] -> [B, H]"""
    return op.squeeze(op.slice(hidden, axis=1, start=0, stop=1), axes=(1,))
