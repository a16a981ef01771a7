"""Encoders that are BERT with a norm before each part: Megatron's, RoBERTa's, and those of proteins."""

from __future__ import annotations

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.architecture import Layers
from burnish.frontends.architectures.roberta import Roberta
from burnish.frontends.config import Config
from burnish.frontends.rotary import rope_frequencies
from burnish.frontends.templates.encoder import Encoder
from burnish.frontends.templates.transformer import At
from burnish.ir.graph import Value


class MegatronBert(Encoder):
    """Norms before each part, and one at the end (arXiv:1909.08053)."""

    names = ("MegatronBert",)
    defaults = {"vocab_size": 29056, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    defaults |= {"intermediate_size": 4096}
    embedding_norm = False
    spelling = {"before": "ln", "encoder.after": "encoder.ln"}

    def block(self, op: Layers, x: Value, at: At) -> Value:
        with op.scope("attention"):
            x = self.residual(op, x, lambda y: self.attention(op, y, at), before="before")
        return self.residual(op, x, lambda y: self.mlp(op, y), before="before")

    def final(self, op: Layers, x: Value) -> Value:
        return self.norm(op, "encoder.after", x)


class RobertaPreLayerNorm(Roberta):
    """The same of RoBERTa, whose embeddings have a norm too (arXiv:2202.08005)."""

    names = ("RobertaPreLayerNorm",)
    spelling = {**Roberta.spelling, "bert": "roberta_prelayernorm", "encoder.after": "LayerNorm"}
    spelling |= {"attention.before": "attention.LayerNorm", "before": "intermediate.LayerNorm"}
    block, final = MegatronBert.block, MegatronBert.final


class XLMRobertaXL(Roberta):
    """The same of many languages (arXiv:2105.00572)."""

    names = ("XLMRobertaXL",)
    defaults = {"vocab_size": 250880, "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32}
    defaults |= {"intermediate_size": 10240, "type_vocab_size": 1, "max_position_embeddings": 514}
    eps = ("layer_norm_eps", 1e-5)
    embedding_norm = False
    spelling = {**Roberta.spelling, "attention.before": "attention.self_attn_layer_norm", "before": "LayerNorm"}
    spelling |= {"encoder.after": "encoder.LayerNorm"}
    block, final = MegatronBert.block, MegatronBert.final


class Esm(Roberta):
    """The same of proteins: rotated, and scaled by how many of its tokens are masked (doi:10.1126/science.ade2574)."""

    names = ("Esm",)
    defaults = {k: v for k, v in Encoder.defaults.items() if k != "vocab_size"} | {"max_position_embeddings": 1026}
    fixed = {"is_folding_model": False}
    inert = ("esmfold_config", "vocab_list")
    unused = ("contact_head.", "position_embeddings.", "rotary_embeddings.")
    embedding_norm = False
    spelling = {**Roberta.spelling, "bert": "esm", "before": "LayerNorm"}
    spelling |= {"encoder.after": "encoder.emb_layer_norm_after"}
    block, final = MegatronBert.block, MegatronBert.final

    def setup(self, c: Config) -> None:
        self.before, self.rows = c.integer("pad_token_id", least=0) + 1, c.integer("max_position_embeddings")
        self.rotary = c.choice("position_embedding_type", ("absolute", "rotary"), "absolute") == "rotary"
        base = {"rope_theta": c.number("rope_theta", 10000.0)}  # and no scaling
        self.frequencies = rope_frequencies(Config(base, c.where), self.head_dim)
        self.act = ACTIVATIONS["gelu"]  # whatever `hidden_act` says
        self.first_norm = c.flag("emb_layer_norm_before", False)
        self.mask = c.integer("mask_token_id", least=0) if c.flag("token_dropout", False) else None

    def embed(self, op: Layers, ids: Value, token_types: Value, at: At) -> Value:
        x = op.embedding("word_embeddings", ids, self.vocabulary, self.width)
        if self.mask is not None:  # of 100 tokens, 15 were chosen in training, 80 % of them masked
            assert at.count is not None
            masked = op.equal(ids, self.mask)
            number = op.reduce_sum(op.cast(masked, to="f32"), axes=(1,), keepdims=False)
            seen = op.sub(1.0, op.div(number, op.cast(op.maximum(at.count, 1), to="f32")))
            x = op.where(op.unsqueeze(masked, axes=(2,)), 0.0, x) * op.unsqueeze(op.div(0.88, seen), axes=(1, 2))
        x = x if self.rotary else x + super().place(op, at)
        return self.norm(op, "layer_norm", x) if self.first_norm else x

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        return op.rotary(x, at.positions, self.frequencies) if self.rotary else x
