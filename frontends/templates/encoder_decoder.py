"""The template of encoder-decoders."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar, Self

from burnish.frontends.architecture import B, Layers, S, T
from burnish.frontends.config import Keys
from burnish.frontends.templates.transformer import At, Step, Transformer
from burnish.ir.graph import Value
from burnish.ir.signature import COUNT, HIDDEN, TOKENS, Linked, Role
from burnish.ir.types import Type

__all__ = ["EncoderDecoder"]


class EncoderDecoder(Transformer):
    """A decoder whose blocks attend to what an encoder made of another text.

    Both are a `stack`: `embed`, `block` after `block`, `final`. A stack with `at.encoded` is a decoder's.
    """

    head = "ForConditionalGeneration"
    graphs = ("encoder", "decoder")
    inert: ClassVar[tuple[str, ...]] = ("is_encoder_decoder",)
    #: where the blocks of a stack lie
    blocks: ClassVar[str] = "layers"
    #: `keys` and `defaults` that are others for the decoder
    decoder_keys: Keys = {}
    decoder_defaults: ClassVar[Mapping[str, Any]] = {}

    def facts(self) -> dict[str, Any]:
        start = "decoder_start_token_id" if self.config.has("decoder_start_token_id") else "bos_token_id"
        return {"decoder_start": self.config.integer(start, 0, least=0)}

    def inputs(self, graph: str) -> Mapping[str, tuple[Type, Role]]:
        if graph == "forward":
            return super().inputs(graph)
        if graph == "encoder":
            return {"ids": (Type("i32", (B, T)), TOKENS), COUNT.name: (Type("i32", (B,)), COUNT)}
        return {
            "ids": (Type("i32", (B, S)), TOKENS),
            "encoder_hidden": (Type("f32", (B, T, self.width)), Linked("encoder", HIDDEN.name)),
            "encoder_count": (Type("i32", (B,)), Linked("encoder", COUNT.name)),
        }

    def forward(self, op: Layers, ids: Value, count: Value) -> Value:
        """The decoder reads the encoder's text again, one token later: what heads of labels rest on.

        Where a family has no token that begins every text, the last one of the text is the first.
        """
        first = op.slice(ids, axis=1, start=0, stop=1) * 0 + self.facts()["decoder_start"]
        if self.defaults.get("decoder_start_token_id", 0) is None:
            first = op.last_row(ids, count)
        later = op.concat(first, op.slice(ids, axis=1, start=0, stop=S - 1), axis=1)
        return self.decoder(op, later, self.encoder(op, ids, count), count)

    def encoder(self, op: Layers, ids: Value, count: Value) -> Value:
        with op.scope("encoder"):
            return self.stack(op, ids, At(0, op.positions(ids), causal=False, count=count))

    def decoder(self, op: Layers, ids: Value, encoder_hidden: Value, encoder_count: Value) -> Value:
        at = At(0, op.positions(ids), causal=True, encoded=encoder_hidden, encoded_count=encoder_count)
        with op.scope("decoder"):
            return self.as_decoder().stack(op, ids, at)

    def as_decoder(self) -> Self:
        """The model with what the config says of the decoder's blocks."""
        model = copy(self)
        keys, defaults = {**self.keys, **self.decoder_keys}, {**self.defaults, **self.decoder_defaults}
        model.config = self.config.of_family(keys, defaults)
        model.read(model.config)
        return model

    def stack(self, op: Layers, ids: Value, at: At) -> Value:
        """The hidden states of a stack, [B, S, H]."""
        x = self.embed(op, ids, at)
        at = replace(at, bias=self.bias(op, x, at))
        for layer in range(self.layers):
            with op.block(self.blocks, layer):
                x = self.block(op, x, replace(at, layer=layer))
        return self.final(op, x)

    def embed(self, op: Layers, ids: Value, at: At) -> Value:
        """Rows of the table of tokens."""
        return op.embedding("embed_tokens", ids, self.vocabulary, self.width)

    def block(self, op: Layers, x: Value, at: At) -> Value:
        """Self-attention, attention to the encoder's states where there are such, the MLP."""
        x = self.part(op, x, at, "self_attn", lambda y: self.attention(op, y, at))
        if at.encoded is not None:
            x = self.part(op, x, at, "encoder_attn", lambda y: self.cross_attention(op, y, at))
        return self.part(op, x, at, "mlp", lambda y: self.mlp(op, y))

    def part(self, op: Layers, x: Value, at: At, name: str, step: Step) -> Value:
        """A part of a block under its name: a norm, and a sum."""
        raise NotImplementedError

    def final(self, op: Layers, x: Value) -> Value:
        """What follows the last block."""
        return x

    # ----------------------------------------------------------------------------------------------- what heads rest on

    def pooled(self, op: Layers, x: Value, count: Value) -> Value:
        """The last real token, which ends the text."""
        x = op.squeeze(op.last_row(x, count), axes=(1,))
        return op.tanh(op.linear("classification_head.dense", x, self.width, bias=True))

    def score(self, op: Layers, x: Value, labels: int) -> Value:
        """A score for each label."""
        return op.linear("classification_head.out_proj", x, labels, bias=True)

    def span(self, op: Layers, x: Value) -> Value:
        """Two scores for each token: as the first of an answer, and as the last."""
        return op.linear("qa_outputs", x, 2, bias=True)
