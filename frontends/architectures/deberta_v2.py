"""DeBERTa 2 and 3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.architecture import Layers
from burnish.frontends.config import Config, LoadError, shown
from burnish.frontends.pooling import first_token
from burnish.frontends.templates.encoder import Encoder
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value
from burnish.ir.ops.linear import Linear


class DebertaV2(Encoder):
    """BERT whose words attend to distances, and distances to words, beside words (arXiv:2006.03654, 2111.09543)."""

    names = ("DebertaV2",)
    keys = {"head_dim": "attention_head_size"}
    defaults = {"vocab_size": 128100, "hidden_size": 1536, "num_hidden_layers": 24, "num_attention_heads": 24}
    defaults |= {"intermediate_size": 6144, "type_vocab_size": 0}
    eps = ("layer_norm_eps", 1e-7)
    paths = {**Encoder.paths, "q": "self.query_proj", "k": "self.key_proj", "v": "self.value_proj"}
    inert = ("cls_dropout", "pooler_dropout", "conv_dropout")
    unused = ("mask_predictions.", "lm_predictions.", "embeddings.position_embeddings.", "encoder.LayerNorm.")

    def setup(self, c: Config) -> None:
        kinds = c.get("pos_att_type") or []
        self.kinds = [k.strip() for k in kinds.lower().split("|")] if isinstance(kinds, str) else list(kinds)
        if not {*self.kinds} <= {"c2p", "p2c"}:
            raise LoadError(f"{c.where}: pos_att_type {shown(kinds)} is not supported; supported are c2p and p2c")
        self.relative, self.shares = c.flag("relative_attention", False), c.flag("share_att_key", False)
        self.scale = (self.head_dim * (1 + len(self.kinds))) ** -0.5
        most = c.integer("max_relative_positions", -1, least=-(1 << 20), most=1 << 20)
        most = most if most > 0 else c.integer("max_position_embeddings", 512, most=1 << 20)
        buckets = max(0, c.integer("position_buckets", -1, least=-(1 << 20), most=1 << 20))
        if buckets and (buckets % 2 or most <= buckets // 2 + 1):
            raise LoadError(f"{c.where}: position_buckets {buckets} for max_relative_positions {most} is not supported")
        self.reach, self.rows = buckets or most, _rows(buckets, most)
        self.norms = [n.strip() for n in c.text("norm_rel_ebd", "none").lower().split("|")]
        self.pooler_act = ACTIVATIONS[c.choice("pooler_hidden_act", ACTIVATIONS, "gelu")]
        self.pooler_width = c.integer("pooler_hidden_size", self.width)
        self.kernel = c.integer("conv_kernel_size", 0, least=0)
        self.conv_act = ACTIVATIONS[c.choice("conv_act", ACTIVATIONS, "tanh")]
        if self.kernel and (self.kernel % 2 == 0 or c.integer("conv_groups", 1) > 1):
            raise LoadError(f"{c.where}: an even conv_kernel_size, and several conv_groups, are not supported")
        self.legacy = c.flag("legacy", True)
        names = {"bert": "deberta", "bert.pooler": "pooler", "encoder.layer.0.conv": "encoder.conv"}
        if not self.legacy:
            names |= dict.fromkeys(("cls.predictions", "cls.predictions.transform"), "lm_predictions.lm_head")
        for i in range(self.layers):
            names[f"encoder.layer.{i}.attention.distances"] = "encoder.rel_embeddings"
            names[f"encoder.layer.{i}.attention.norm"] = "encoder.LayerNorm"
        self.spelling = names

    def tied(self) -> Sequence[Sequence[str]]:
        usual = super().tied()
        always = ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
        return usual if self.legacy else [usual[0], always]

    def place(self, op: Layers, at: At) -> Value | None:
        return super().place(op, at) if self.config.flag("position_biased_input", True) else None

    def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
        return super().attend(op, q, k, v, replace(at, bias=self.by_distance(op, q, k) if self.relative else None))

    def by_distance(self, op: Layers, q: Value, k: Value) -> Value | None:
        """Scores of words for distances (c2p), and of distances for words (p2c), [B, heads, S, S]."""
        table = op.cast(op.parameter("distances.weight", 2 * self.reach, self.width), to="f32")
        table = self.norm(op, "norm", table) if "layer_norm" in self.norms else table
        at = op.iota(size=q.shape[1])
        far = op.maximum(op.minimum(op.unsqueeze(at, axes=(1,)) - at, len(self.rows) // 2), -(len(self.rows) // 2))
        row = op.gather(op.constant(self.rows), far + len(self.rows) // 2, axis=0)  # of query i and key j
        bias = None
        if "c2p" in self.kinds:
            bias = self.looked_up(op, q, self.distances(op, "k", "pos_key_proj", table), row)
        if "p2c" in self.kinds:
            row = op.transpose(row, perm=(1, 0))  # of query j and key i
            found = self.looked_up(op, k, self.distances(op, "q", "pos_query_proj", table), row)
            found = op.transpose(found, perm=(0, 1, 3, 2))
            bias = found if bias is None else bias + found
        return None if bias is None else bias * self.scale

    def distances(self, op: Layers, shared: str, own: str, table: Value) -> Value:
        """The keys or queries of distances, [heads, head_dim, rows]."""
        inner = self.heads * self.head_dim
        x = self.project(op, shared, table) if self.shares else op.linear(f"self.{own}", table, inner, bias=True)
        return op.transpose(op.reshape(x, shape=(2 * self.reach, self.heads, self.head_dim)), perm=(1, 2, 0))

    def looked_up(self, op: Layers, x: Value, table: Value, row: Value) -> Value:
        """Of the products of each token i with all rows, those of `row`[i, j]: [B, heads, S, S]"""
        tokens, rows = row.shape[0], 2 * self.reach
        y = op.matmul(op.transpose(x, perm=(0, 2, 1, 3)), table)
        flat = row + op.unsqueeze(op.iota(size=tokens) * rows, axes=(1,))
        return op.gather(op.reshape(y, shape=(*y.shape[:2], tokens * rows)), flat, axis=2)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        y = super().block(op, x, at)
        return self.convolved(op, x, y, at) if self.kernel and at.layer == 0 else y

    def convolved(self, op: Layers, x: Value, y: Value, at: At) -> Value:
        """The first block's result with a convolution of its input beside it."""
        assert at.count is not None
        batch, tokens, side = x.shape[0], x.shape[1], self.kernel // 2
        real = op.less(op.iota(size=tokens), op.unsqueeze(at.count, axes=(1,)))
        x = op.where(op.unsqueeze(real, axes=(2,)), x, 0.0)
        edge = op.broadcast_to(op.constant(0.0), shape=(batch, side, self.width))
        x = op.concat(edge, x, edge, axis=1)
        near = op.concat(*(op.slice(x, axis=1, start=i, stop=tokens + i) for i in range(self.kernel)), axis=-1)
        with op.scope("conv"):
            w = op.transpose(op.parameter("conv.weight", self.width, self.width, self.kernel), perm=(0, 2, 1))
            w = op.reshape(w, shape=(self.width, self.kernel * self.width))
            found = self.conv_act(op, op.emit(Linear(), [near, w, op.parameter("conv.bias", self.width)]))
            return self.norm(op, "LayerNorm", y + found)

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        return self.pooler_act(op, op.linear("bert.pooler.dense", first_token(op, x), self.pooler_width, bias=True))


def _rows(buckets: int, most: int) -> np.ndarray:
    """The row of the table for each distance from -most to most, i32; farther ones have those of the ends.

    Half of the buckets are exact distances, the others grow with the logarithm; each step rounds to f32, as the
    original does (`make_log_bucket_position`).
    """
    far, half, f32 = np.arange(-most, most + 1), buckets // 2, np.float32
    if buckets:
        ratio = np.log(np.maximum(np.abs(far), half) / half, dtype="f8").astype(f32)
        steps = (ratio / f32(math.log(f32((most - 1) / half)))) * f32(half - 1)
        far = np.where(np.abs(far) <= half, far, np.sign(far) * (np.ceil(steps) + half))
    span = buckets or most
    return np.clip(far + span, 0, 2 * span - 1).astype("i4")
