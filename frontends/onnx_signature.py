"""What the inputs and outputs of an ONNX file are for: by the names that exporters give, else by their types.

The names are those of transformers' arguments and results, which its exporters keep, and of optimum and
onnxruntime-genai. What a model gives back longer by the step's tokens is what its caller keeps: `past_key_values.0.key`
and `present.0.key`, or whatever they are called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from burnish.ir.dims import Dim, Sym, at_most
from burnish.ir.graph import Graph, Value
from burnish.ir.ops.shape import Concat
from burnish.ir.signature import (
    EMBEDDING,
    HIDDEN,
    LOGITS,
    MASK,
    POSITIONS,
    TOKEN_TYPES,
    TOKENS,
    Earlier,
    Role,
)
from burnish.ir.types import Type

__all__ = ["INPUTS", "axis_of_rows", "earlier_of", "is_past", "role_of_input", "roles_of_outputs"]

#: what exporters call the tokens, and what lies beside them, [B, S]
INPUTS = {
    "input_ids": TOKENS,
    "attention_mask": MASK,
    "token_type_ids": TOKEN_TYPES,
    "position_ids": POSITIONS,
}
_OUTPUTS = {
    LOGITS.name: LOGITS,
    "last_hidden_state": HIDDEN,
    "hidden_states": HIDDEN,
    "token_embeddings": HIDDEN,
    "sentence_embedding": EMBEDDING,
}
_OTHER = ("pooler_output", "start_logits", "end_logits")  # have no role of ours, whatever their types are


def role_of_input(name: str, shape: Sequence[Dim], tokens: Sequence[Dim]) -> Role | None:
    """What an input of this name and shape is for, beside tokens of that shape."""
    role = INPUTS.get(name)
    if role is None or len(tokens) != 2 or len(shape) != 2 or shape[0] != tokens[0]:
        return None
    fits = at_most(tokens[1], shape[1]) if role == MASK else shape[1] == tokens[1]
    return role if fits else None


def roles_of_outputs(graph: Graph, outputs: Mapping[str, Value]) -> dict[str, Role]:
    """What the outputs are for: by name, then by type; each role once.

    Logits score the rows of the largest table that tokens are looked up in, whose columns are the model's width.
    """
    roles: dict[str, Role] = {}
    for name, value in outputs.items():
        named = _OUTPUTS.get(name)
        if named is not None and value.type.is_float and named not in roles.values():
            roles[name] = named
    tokens = graph.input_for(TOKENS)
    tables = [n["x"].type.sizes for n in graph if n.op.name == "gather" and n["x"].is_weight]
    vocabulary, width = max(((t[0], t[-1]) for t in tables if len(t) == 2), default=(None, None))
    for name, value in outputs.items():
        role = _by_type(value.type, tokens.shape if tokens is not None else (), vocabulary, width)
        if role and value.type.is_float and name not in roles and name not in _OTHER and role not in roles.values():
            roles[name] = role
    return roles


def _by_type(type: Type, tokens: tuple[Dim, ...], vocabulary: int | None, width: int | None) -> Role | None:
    if type.rank < 2 or not tokens or type.shape[:1] != tokens[:1]:
        return None
    if type.shape[-1] == vocabulary:
        return LOGITS
    if type.rank == 3 and type.shape[:2] == tokens:
        return HIDDEN
    return EMBEDDING if type.rank == 2 and type.shape[1] == width else None


def earlier_of(graph: Graph, outputs: Mapping[str, Value]) -> dict[Value, Earlier]:
    """The inputs that hold what came before: an output is each of them with the step's rows behind it.

    That is one of the same type but for one axis, P + S long where the input's is P, if it is called by what came
    before (`past…`), or is the input joined with something.
    """
    tokens = graph.input_for(TOKENS)
    if tokens is None:
        return {}
    batch, length = tokens.shape
    found: dict[Value, Earlier] = {}
    free = list(outputs.values())
    for v in graph.inputs:
        axis = axis_of_rows(v.shape, batch)
        if v.role is not None or not v.type.is_float or axis is None:
            continue
        grown = [d + length if i == axis else d for i, d in enumerate(v.shape)]
        same = [o for o in free if o.dtype == v.dtype and list(o.shape) == grown]
        joined = [o for o in same if o.node is not None and isinstance(o.op, Concat) and v in o.node.operands]
        if joined or (same and is_past(v.name)):
            free.remove((joined or same)[0])
            found[v] = Earlier(batch=list(v.shape).index(batch), axis=axis)
    return found


def is_past(name: str) -> bool:
    """Whether an input is called as what came before is: `past_key_values.0.key`, `past_0`, `past_key_self_0`."""
    return re.search("past(?!_length|_len)", name) is not None


def axis_of_rows(shape: Sequence[Dim], batch: Dim) -> int | None:
    """The one axis that is a symbol of its own, where the other sizes are numbers and that of the sequences."""
    own = [i for i, d in enumerate(shape) if isinstance(d, Sym) and d != batch]
    dim = shape[own[0]] if len(own) == 1 and len(shape) >= 3 and batch in shape else None
    return own[0] if isinstance(dim, Sym) and dim.is_plain else None
