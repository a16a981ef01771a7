"""What decoders, encoders and encoder-decoders share: attention, the MLP and norms, as small steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from burnish.frontends.activations import ACTIVATIONS
from burnish.frontends.architecture import Architecture, Layers
from burnish.frontends.config import Config
from burnish.ir.dims import Dim
from burnish.ir.graph import Value

__all__ = ["ATTENTION", "FULL", "MLP", "SLIDING", "At", "Step", "Transformer", "windows"]

Step = Callable[[Value], Value]
#: the projections of attention and MLP, by short names
ATTENTION, MLP = ("q", "k", "v", "o"), ("gate", "up", "down")
SLIDING, FULL = "sliding_attention", "full_attention"
_BIASED = {"attention_bias": ATTENTION, "mlp_bias": MLP}


@dataclass(frozen=True)
class At:
    """Where a step is: the number of its block, and what all blocks of the stack read."""

    layer: int
    #: i32[B, S]
    positions: Value
    #: tokens see those before them alone
    causal: bool
    #: how many tokens are real, i32[B]; a causal stack needs none, for padding is behind all that is real
    count: Value | None = None
    #: added to the scores of its self-attention
    bias: Value | None = None
    #: what an encoder made, f32[B, T, H], and how many of its tokens are real
    encoded: Value | None = None
    encoded_count: Value | None = None


class Transformer(Architecture):
    """The steps that are put together by the templates. What a family does otherwise, it overrides.

    A build keeps nothing on the model but what its config says: what differs from block to block is in `at`.
    """

    #: the paths of the projections of attention and MLP under the scope of each
    paths: ClassVar[Mapping[str, str]] = {}
    #: the names of the config's fields for the epsilon of norms ("": none) and for the activation, and their defaults
    eps: ClassVar[tuple[str, float]] = ("layer_norm_eps", 1e-12)
    activation: ClassVar[tuple[str, str]] = ("hidden_act", "gelu")
    #: the projections that have a bias
    biased: Sequence[str] = ATTENTION + MLP
    #: the fields of the config that say whether further ones have, `attention_bias` and `mlp_bias`, and their defaults
    bias_fields: ClassVar[Mapping[str, bool]] = {}
    #: whether layer norms have a bias
    norm_bias: bool = True
    #: for each layer, how many tokens a token sees: itself and those before it or, not causal, on each side; 0 for all
    windows: Sequence[int] = ()
    #: what scores are bounded by, softly; 0 for no bound
    softcap: float = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.read(self.config)

    def read(self, c: Config) -> None:
        """Read what the config says; a family's own fields in `setup`."""
        self.width, self.layers = c.integer("hidden_size"), c.integer("num_hidden_layers", most=1024)
        self.vocabulary = c.integer("vocab_size")
        self.epsilon = c.number(*self.eps)
        self.heads = c.integer("num_attention_heads")
        self.groups = c.integer("num_key_value_heads", self.heads)
        per_head = None if c.has("head_dim") else c.quotient("hidden_size", "num_attention_heads")
        self.head_dim = c.integer("head_dim", per_head, most=4096)
        self.scale = float(self.head_dim**-0.5)  # of scores
        self.act = ACTIVATIONS[c.choice(self.activation[0], ACTIVATIONS, self.activation[1])]
        further = (n for field, default in self.bias_fields.items() if c.flag(field, default) for n in _BIASED[field])
        self.biased = (*type(self).biased, *further)
        self.setup(c)

    def setup(self, c: Config) -> None:
        """Read further fields of the config."""

    def facts(self) -> dict[str, Any]:
        return {"context": self.config.integer("max_position_embeddings", 2048)}

    # ------------------------------------------------------------------------------------------------------- attention

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many outputs the projections of attention and MLP have, by their short names."""
        inner, keys, wide = self.heads * self.head_dim, self.groups * self.head_dim, self.intermediate
        return {"q": inner, "k": keys, "v": keys, "o": self.width, "gate": wide, "up": wide, "down": self.width}

    def outputs(self, *names: str, under: str = "") -> dict[str, int]:
        """The same by their paths, for row maps; `under` is the scope that they lie in."""
        return {f"{under}.{self.paths[n]}".lstrip("."): self.sizes[n] for n in names}

    @property
    def intermediate(self) -> int:
        """The inner width of the MLP."""
        return self.config.integer("intermediate_size")

    def project(self, op: Layers, name: str, x: Value) -> Value:
        """The projection of that short name: `q`, `k`, `v`, `o`, `gate`, `up`, `down`."""
        return op.linear(self.paths[name], x, self.sizes[name], name in self.biased)

    def qkv(self, op: Layers, x: Value, to: Value) -> Sequence[Value]:
        """Queries of x, keys and values of `to`, [B, S, heads * head_dim]."""
        return self.project(op, "q", x), self.project(op, "k", to), self.project(op, "v", to)

    def each_head(self, op: Layers, name: str, x: Value) -> Value:
        """What is done to each head's queries (`q`) and keys (`k`), [B, S, heads, head_dim], before the rotation."""
        return x

    def rotate(self, op: Layers, x: Value, at: At) -> Value:
        """Positions put into queries and keys."""
        return x

    def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At, **operands: Value) -> Value:
        """Self-attention of heads [B, S, heads, head_dim]; `operands` are further ones, by their names."""
        window = self.windows[at.layer] if self.windows else 0
        how = {"causal": at.causal, "scale": self.scale, "window": window, "softcap": self.softcap}
        return op.attention(q, k, v, None, at.count, at.bias, **operands, **how)

    def attention(self, op: Layers, x: Value, at: At) -> Value:
        """x attends to itself; its projections lie in the current scope."""
        q, k, v = (self.split(op, y) for y in self.qkv(op, x, x))
        q, k = (self.rotate(op, self.each_head(op, n, y), at) for n, y in (("q", q), ("k", k)))
        return self.project(op, "o", self.joined(op, self.attend(op, q, k, v, at)))

    def cross_attention(self, op: Layers, x: Value, at: At) -> Value:
        """x attends to what an encoder made."""
        assert at.encoded is not None
        q, k, v = (self.split(op, y) for y in self.qkv(op, x, at.encoded))
        return self.project(op, "o", self.joined(op, op.attention(q, k, v, None, at.encoded_count, scale=self.scale)))

    def split(self, op: Layers, x: Value) -> Value:
        """[B, S, heads * head_dim] -> [B, S, heads, head_dim]"""
        width = x.shape[2]
        assert isinstance(width, int)
        return op.reshape(x, shape=(*x.shape[:2], width // self.head_dim, self.head_dim))

    def joined(self, op: Layers, x: Value) -> Value:
        """[B, S, heads, head_dim] -> [B, S, heads * head_dim]"""
        return op.reshape(x, shape=(*x.shape[:2], self.heads * self.head_dim))

    def relative_bias(self, op: Layers, name: str, length: Dim, bidirectional: bool) -> Value:
        """A bias by distance, added to the scores of `length` tokens among themselves, from the table of that name."""
        c = self.config
        how = {"query": length, "key": length, "bidirectional": bidirectional}
        far = c.integer("relative_attention_max_distance", 128, most=1 << 16)
        buckets = c.integer("relative_attention_num_buckets", 32)
        return op.relative_bias(name, buckets, self.heads, max_distance=far, **how)

    def residual(self, op: Layers, x: Value, step: Step, before: str = "", after: str = "") -> Value:
        """x + after(step(before(x))), with a norm where one is named"""
        y = step(self.norm(op, before, x) if before else x)
        return x + (self.norm(op, after, y) if after else y)

    # ---------------------------------------------------------------------------------------------------- MLP and norms

    def gated_mlp(self, op: Layers, x: Value) -> Value:
        """down(act(gate(x)) * up(x))"""
        return self.project(op, "down", self.act(op, self.project(op, "gate", x)) * self.project(op, "up", x))

    def plain_mlp(self, op: Layers, x: Value) -> Value:
        """down(act(up(x)))"""
        return self.project(op, "down", self.act(op, self.project(op, "up", x)))

    def rms_norm(self, op: Layers, name: str, x: Value) -> Value:
        """x / rms(x) * w"""
        return op.rms_norm(name, x, self.epsilon)

    def layer_norm(self, op: Layers, name: str, x: Value) -> Value:
        """(x - mean) / deviation * w + b, the latter with `norm_bias` alone"""
        return op.layer_norm(name, x, self.epsilon, self.norm_bias)

    mlp = plain_mlp
    norm = layer_norm


def windows(c: Config, sliding: Callable[[int], bool]) -> list[int]:
    """The window of each layer: `sliding_window` where `layer_types` or, without such a field, `sliding` says so."""
    c.get("sliding_window")  # without such layers it means nothing
    layers = c.integer("num_hidden_layers", most=1024)
    given = c.has("layer_types")
    usual = [SLIDING if not given and sliding(i) else FULL for i in range(layers)]
    kinds = c.choices("layer_types", (SLIDING, FULL), usual)
    return [c.integer("sliding_window") if kind == SLIDING else 0 for kind in kinds]
