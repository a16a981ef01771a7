"""DeBERTa, in all versions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from burnish.frontends.family import ACTIVATIONS, At, Config, Encoder, Layers, LoadError, Value, first_token, shown
from burnish.frontends.stored import Spelling, interleaved
from burnish.ir.ops.linear import Linear


class Deberta(Encoder):
    """BERT whose words attend to distances, and distances to words, beside words to words (arXiv:2006.03654)."""

    names: ClassVar[tuple[str, ...]] = ("Deberta",)
    defaults = {**Encoder.defaults, "vocab_size": 50265, "type_vocab_size": 0}
    fixed: ClassVar[Mapping[str, Any]] = {"talking_head": False}
    inert = ("cls_dropout", "conv_dropout", "padding_idx", "pooler_dropout")
    unused: tuple[str, ...] = ("mask_predictions.", "lm_predictions.", "embeddings.position_embeddings.")
    eps = ("layer_norm_eps", 1e-7)
    paths = {**Encoder.paths, "q": "self.query_proj", "k": "self.key_proj", "v": "self.value_proj"}
    biased: Sequence[str] = ("o", "up", "down")
    #: the projections of distances as keys and as queries
    of_distances: ClassVar[Mapping[str, str]] = {"k": "self.pos_proj", "q": "self.pos_q_proj"}

    def setup(self, c: Config) -> None:
        given = c.get("pos_att_type") or []
        self.kinds = [k.strip() for k in given.lower().split("|")] if isinstance(given, str) else given
        if not isinstance(self.kinds, list) or any(k not in ("c2p", "p2c") for k in self.kinds):
            raise LoadError(f"{c.where}: pos_att_type {shown(given)} is not supported; supported are c2p and p2c")
        self.relative, self.legacy = c.flag("relative_attention", False), c.flag("legacy", True)
        self.scale = (self.head_dim * (1 + len(self.kinds))) ** -0.5
        most = c.integer("max_relative_positions", -1, least=-(1 << 20), most=1 << 20)
        self.most = most if most > 0 else c.integer("max_position_embeddings", 512, most=1 << 20)
        self.buckets = 0
        self.pooler_width = c.integer("pooler_hidden_size", self.width)
        self.pooler_act = ACTIVATIONS[c.choice("pooler_hidden_act", ACTIVATIONS, "gelu")]
        names = {"bert": "deberta", "bert.pooler": "pooler", "encoder.layer.0.conv": "encoder.conv"}
        if not self.legacy:
            names |= dict.fromkeys(("cls.predictions", "cls.predictions.transform"), "lm_predictions.lm_head")
        for i in range(self.layers):  # of all blocks
            names[f"encoder.layer.{i}.attention.distances"] = "encoder.rel_embeddings"
            names[f"encoder.layer.{i}.attention.norm"] = "encoder.LayerNorm"
        self.spelling = {**names, **self.joint()}

    def joint(self) -> Spelling:
        """The spelling of what is stored together."""
        return interleaved("attention.self.in_proj", self.outputs("q", "k", "v", under="attention"), self.heads)

    def tied(self) -> Sequence[Sequence[str]]:
        usual = super().tied()
        always = ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
        return usual if self.legacy else [usual[0], always]

    def place(self, op: Layers, at: At) -> Value | None:
        return super().place(op, at) if self.config.flag("position_biased_input", True) else None

    def qkv(self, op: Layers, x: Value, to: Value) -> Sequence[Value]:
        q, k, v = super().qkv(op, x, to)
        q_bias, v_bias = (op.cast(op.parameter(f"self.{n}_bias", q.shape[2]), to="f32") for n in "qv")
        return q + q_bias, k, v + v_bias

    def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
        return super().attend(op, q, k, v, replace(at, bias=self.by_distance(op, q, k) if self.relative else None))

    def by_distance(self, op: Layers, q: Value, k: Value) -> Value | None:
        """Scores of words for distances (c2p), and of distances for words (p2c), [B, heads, S, S]."""
        rows, table = _rows(self.buckets, self.most), self.distances(op)
        place, most = op.iota(size=q.shape[1]), len(rows) // 2
        far = op.maximum(op.minimum(op.unsqueeze(place, axes=(1,)) - place, most), -most)
        row = op.gather(op.constant(rows), far + most, axis=0)  # of query i and key j
        found = []
        if "c2p" in self.kinds:
            found.append(self.looked_up(op, q, self.project_distances(op, "k", table), row))
        if "p2c" in self.kinds:
            scores = self.looked_up(op, k, self.project_distances(op, "q", table), op.transpose(row, perm=(1, 0)))
            found.append(op.transpose(scores, perm=(0, 1, 3, 2)))
        return sum(found[1:], found[0]) * self.scale if found else None

    def distances(self, op: Layers) -> Value:
        """A row for each distance, or bucket of distances, [rows, H]."""
        return op.cast(op.parameter("distances.weight", 2 * (self.buckets or self.most), self.width), to="f32")

    def project_distances(self, op: Layers, name: str, table: Value) -> Value:
        """Keys (`k`) or queries (`q`) of distances, [rows, heads * head_dim]."""
        return op.linear(self.of_distances[name], table, self.sizes["q"], bias=name == "q")

    def looked_up(self, op: Layers, x: Value, table: Value, row: Value) -> Value:
        """Of the products of each token i of x[B, S, heads, D] with all rows, those of `row`[i, j]: [B, heads, S, S]"""
        rows, tokens = table.shape[0], x.shape[1]
        table = op.transpose(op.reshape(table, shape=(rows, self.heads, self.head_dim)), perm=(1, 2, 0))
        y = op.matmul(op.transpose(x, perm=(0, 2, 1, 3)), table)
        flat = row + op.unsqueeze(op.iota(size=tokens) * rows, axes=(1,))
        return op.gather(op.reshape(y, shape=(*y.shape[:2], tokens * rows)), flat, axis=2)

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        return self.pooler_act(op, op.linear("bert.pooler.dense", first_token(op, x), self.pooler_width, bias=True))


class DebertaV2(Deberta):
    """Far distances in buckets, their projections shared with words', a convolution at first (arXiv:2111.09543)."""

    names = ("DebertaV2",)
    keys = {"head_dim": "attention_head_size"}
    defaults = {"vocab_size": 128100, "hidden_size": 1536, "num_hidden_layers": 24, "num_attention_heads": 24}
    defaults |= {"intermediate_size": 6144, "type_vocab_size": 0}
    unused = (*Deberta.unused, "encoder.LayerNorm.")
    biased = Encoder.biased
    of_distances = {"k": "self.pos_key_proj", "q": "self.pos_query_proj"}
    qkv = Encoder.qkv

    def setup(self, c: Config) -> None:
        super().setup(c)
        self.shares = c.flag("share_att_key", False)
        self.norms = [n.strip() for n in c.text("norm_rel_ebd", "none").lower().split("|")]
        self.buckets = max(0, c.integer("position_buckets", -1, least=-(1 << 20), most=1 << 20))
        if self.buckets and (self.buckets % 2 or self.most <= self.buckets // 2 + 1):
            what = f"position_buckets {self.buckets} for max_relative_positions {self.most}"
            raise LoadError(f"{c.where}: {what} is not supported")
        self.kernel = c.integer("conv_kernel_size", 0, least=0, most=255)
        self.conv_act = ACTIVATIONS[c.choice("conv_act", ACTIVATIONS, "tanh")]
        if c.integer("conv_groups", 1) > 1 or (self.kernel and self.kernel % 2 == 0):
            raise LoadError(f"{c.where}: an even conv_kernel_size, and several conv_groups, are not supported")

    def joint(self) -> Spelling:
        return {}

    def distances(self, op: Layers) -> Value:
        table = super().distances(op)
        return self.norm(op, "norm", table) if "layer_norm" in self.norms else table

    def project_distances(self, op: Layers, name: str, table: Value) -> Value:
        if self.shares:
            return self.project(op, name, table)
        return op.linear(self.of_distances[name], table, self.sizes["q"], bias=True)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        y = super().block(op, x, at)
        return self.convolved(op, x, y, at) if self.kernel and at.layer == 0 else y

    def convolved(self, op: Layers, x: Value, y: Value, at: At) -> Value:
        """The first block's result y with a convolution of its input x beside it."""
        near = op.concat(*self.neighbours(op, x, at, self.kernel // 2), axis=-1)
        with op.scope("conv"):
            w = op.transpose(op.parameter("conv.weight", self.width, self.width, self.kernel), perm=(0, 2, 1))
            w = op.reshape(w, shape=(self.width, self.kernel * self.width))
            found = self.conv_act(op, op.emit(Linear(), [near, w, op.parameter("conv.bias", self.width)]))
            return self.norm(op, "LayerNorm", y + found)


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
    reach = buckets or most
    return np.clip(far + reach, 0, 2 * reach - 1).astype("i4")
