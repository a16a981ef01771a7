"""Paddle: every matrix of a product is [inputs, outputs], and PaddleNLP has names of its own for BERT's modules."""

from __future__ import annotations

from burnish.frontends.architecture import Layers
from burnish.frontends.stored import Container, Spelling, spelled
from burnish.ir.dims import Dim
from burnish.ir.graph import Value

#: what PaddleNLP calls the modules of transformers' paths
_NAMES: Spelling = {
    "encoder.layer": "encoder.layers",
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
    "embeddings.LayerNorm": "embeddings.layer_norm",
}
#: what it calls base models
_BASES = ("", "bert.", "llama.", "t5.")
#: tables of rows, which lie as elsewhere
_TABLES = ("embed", "shared", "relative_attention_bias")


class Paddle(Container):
    """What `paddle.save` writes (`paddle/nn/layer/common.py`: Linear's weight is [in_features, out_features])."""

    name = "paddle"
    of_files = True

    def parameter(self, op: Layers, name: str, shape: tuple[Dim, ...]) -> Value | None:
        """A parameter by torch's name and of torch's shape; square or not, a matrix of a product is turned."""
        theirs = spelled(name, _NAMES)[0].removeprefix("model.")
        value = next((v for base in _BASES if (v := op.stored(f"{base}{theirs}")) is not None), None)
        if value is None or len(shape) != 2 or value.type.rank != 2 or any(t in name for t in _TABLES):
            return value
        return op.transpose(value, perm=(1, 0))
