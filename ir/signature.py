"""The calling convention: what a graph's inputs and outputs are for, and the facts that those who run a model need.

An input or output has a role, or none. Its name is a label: whoever runs a graph asks for roles. In text, a role stands
behind the type: `%ids: i32[B, S] is tokens`, `%k0: f32[B, C, 2, 16] is rows(batch=0, axis=1)`. A body has no roles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.ir.dims import Sym, at_most
from burnish.ir.literal import attribute_text
from burnish.ir.types import Type

__all__ = [
    "CAPACITY",
    "COUNT",
    "EMBEDDING",
    "HIDDEN",
    "LOGITS",
    "MASK",
    "PAST",
    "POSITIONS",
    "TASKS",
    "TOKENS",
    "TOKEN_TYPES",
    "Carry",
    "Earlier",
    "Facts",
    "Length",
    "Linked",
    "Plain",
    "Ring",
    "Role",
    "Rows",
    "SignatureError",
    "State",
    "make_facts",
    "make_role",
    "why_not_input",
    "why_not_output",
]

CAPACITY = Sym("C")  # rows of a state that grows with the tokens


class SignatureError(TypeError):
    """A role or a fact that there is not, or that is not what it must be."""


@dataclass(frozen=True)
class Role:
    """What an input or output is for."""

    def __str__(self) -> str:
        fields = ", ".join(f"{f.name}={attribute_text(getattr(self, f.name))}" for f in dataclasses.fields(self))
        return f"{type(self).__name__.lower()}({fields})"


@dataclass(frozen=True)
class Plain(Role):
    """A role that its name says all of."""

    name: str

    def __str__(self) -> str:
        return self.name


#: input: ids [B, S], right-padded; S is the number of tokens of this step
TOKENS = Plain("tokens")
#: inputs: i32[B], how many of the tokens are real; i32[B], how many came in earlier steps
COUNT, PAST = Plain("count"), Plain("past")
#: inputs beside the tokens, [B, S]: 1 where a token is real; its type, 0 for all; its position, past[b] + i. A mask
#: beside `earlier` inputs tells it of their tokens too
MASK, TOKEN_TYPES, POSITIONS = Plain("mask"), Plain("token_types"), Plain("positions")
#: outputs: scores of words or labels; a vector for each token; one for each sequence
LOGITS, HIDDEN, EMBEDDING = Plain("logits"), Plain("hidden"), Plain("embedding")

_BESIDE = (MASK, TOKEN_TYPES, POSITIONS)
_INPUTS = (TOKENS, COUNT, PAST, *_BESIDE)
_OUTPUTS = (LOGITS, HIDDEN, EMBEDDING)


@dataclass(frozen=True)
class Length(Role):
    """An input, i32[B]: how many tokens a text has in all, those that are still to come of what is read among them.

    Up to `limit` tokens it makes no difference, and beyond it none either, or each length another (`each`). Where it
    makes one, states of a shorter text are of no use: all of its tokens are read again.
    """

    limit: int
    each: bool

    def regime(self, tokens: np.ndarray) -> np.ndarray:
        """A number for each length: the same for those that make no difference."""
        regimes: np.ndarray = np.clip(tokens, self.limit, None if self.each else self.limit + 1)
        return regimes


@dataclass(frozen=True)
class Linked(Role):
    """An input that is what another graph of the module has under `name`: what it returns, or what it was given."""

    graph: str
    name: str


@dataclass(frozen=True)
class Earlier(Role):
    """An input: the values of the tokens of earlier steps along `axis`, in order, as many as there are; at first none.

    Axis `batch` is that of the sequences. A caller keeps it: a further output is it with this step's values behind it.
    """

    batch: int
    axis: int

    def goes_on(self, before: Type, after: Type) -> bool:
        """Whether an output of type `after` is this input, of type `before`, with this step's values behind it."""
        differ = [i for i, (a, b) in enumerate(zip(before.shape, after.shape, strict=False)) if a != b]
        return (before.rank, before.dtype, differ) == (after.rank, after.dtype, [self.axis])


@dataclass(frozen=True)
class State(Role):
    """What a step leaves to the next: an input, and an output of its name, type and role. It begins as zeros.

    Axis `batch` is that of the sequences.
    """

    batch: int

    def stacked(self) -> State:
        """The role of several such states along a new first axis."""
        moved = {f.name: getattr(self, f.name) + 1 for f in dataclasses.fields(self) if f.name in ("batch", "axis")}
        return dataclasses.replace(self, **moved)


@dataclass(frozen=True)
class Rows(State):
    """The value of each token so far along `axis`, in order; the axis is as long as the session's capacity."""

    axis: int


@dataclass(frozen=True)
class Ring(State):
    """The values of the last tokens along `axis`, that of position p in row p modulo its length.

    The axis is as long as the session's capacity, and at most `most`.
    """

    axis: int
    most: int


@dataclass(frozen=True)
class Carry(State):
    """One value, replaced in each step."""


def make_role(name: str, fields: Mapping[str, Any]) -> Role:
    """The role of that name. Raises SignatureError."""
    for role in (*_INPUTS, *_OUTPUTS):
        if role.name == name and not fields:
            return role
    cls = next((c for c in (Length, Linked, Earlier, Rows, Ring, Carry) if c.__name__.lower() == name), None)
    if cls is None:
        raise SignatureError(f"there is no role {name!r}" if not fields else f"there is no role {name!r} with fields")
    types = {f.name: f.type for f in dataclasses.fields(cls)}
    wrong = [k for k in fields if k not in types or type(fields[k]).__name__ != types[k]]
    if wrong or set(types) != set(fields):
        wanted = ", ".join(f"{k}: {t}" for k, t in types.items())
        raise SignatureError(f"the role {name} is {name}({wanted}), not with {dict(fields)}")
    made: Role = cls(**fields)
    return made


def why_not_input(role: Role, type: Type, tokens: Type | None) -> str | None:
    """None, or why an input of this type, beside these tokens, cannot have the role."""
    if role == TOKENS:
        return None if type.rank == 2 and type.is_integer else "tokens are integers [B, S]"
    if isinstance(role, Length) and role.limit < 1:
        return "its limit is no number of tokens"
    if role in (COUNT, PAST) or isinstance(role, Length):
        good = type.rank == 1 and type.dtype == "i32" and (tokens is None or type.shape == tokens.shape[:1])
        return None if good else f"{role} is i32[B], a number for each sequence"
    if role == MASK and tokens is not None and type.rank == 2 and type.shape[0] == tokens.shape[0]:
        return None if at_most(tokens.shape[1], type.shape[1]) else f"{role} is of all tokens, [B, S or more]"
    if role in _BESIDE:
        return None if tokens is not None and type.shape == tokens.shape else f"{role} lies beside the tokens, [B, S]"
    if isinstance(role, State | Earlier):
        axes = [role.batch] + ([role.axis] if isinstance(role, Rows | Ring | Earlier) else [])
        good = len(set(axes)) == len(axes) and all(0 <= a < type.rank for a in axes)
        if isinstance(role, Earlier) and any(isinstance(d, Sym) for i, d in enumerate(type.shape) if i not in axes):
            return "its further sizes are numbers"
        if isinstance(role, Ring) and role.most < 1:
            return "it holds no tokens"
        return None if good else f"it has no axes {axes} of its own"
    return None if isinstance(role, Linked) else "that is a role of outputs"


def why_not_output(role: Role, type: Type) -> str | None:
    """None, or why an output of this type cannot have the role; a state's is held to its input elsewhere."""
    if isinstance(role, State):
        return None
    if role not in _OUTPUTS:
        return "that is a role of inputs"
    return None if type.is_float else f"{role} are floats"


# --------------------------------------------------------------------------------------------------------------- facts

#: what a model is for, by the names of Hugging Face's pipelines; the first two make text
TASKS = (
    "text-generation",
    "text2text-generation",
    "feature-extraction",
    "fill-mask",
    "text-classification",
    "token-classification",
    "question-answering",
)


@dataclass(frozen=True)
class Facts:
    """What is known of a model beside its graphs. A module's text begins with those that differ from the defaults."""

    #: the class that a config.json names
    architecture: str = ""
    #: one of TASKS; "" where the source does not say
    task: str = ""
    #: the number of tokens that it was made for
    context: int | None = None
    #: the tokens that end a text
    eos: tuple[int, ...] = ()
    #: how its makers advise to draw tokens: temperature=0.6, top_p=0.95; nothing that runs it goes by that
    sampling: tuple[str, ...] = ()
    #: what its text keeps to, in JSON: min_length=56, bad_words_ids=[[7]]; see `burnish.runtime.rules`
    rules: tuple[str, ...] = ()
    #: the token that a decoder begins with
    decoder_start: int | None = None
    #: the names of the classes that its logits score
    labels: tuple[str, ...] = ()
    #: how its logits become scores of labels: softmax, sigmoid, raw; "": softmax, or sigmoid of one alone
    scores: str = ""
    #: how near two of its embeddings are: dot, euclidean, manhattan; "": cosine
    similarity: str = ""
    #: how the vectors of its tokens become a text's: mean, cls, …; several where they are joined
    pooling: tuple[str, ...] = ()
    #: the number of tokens that a text is cut to, those that a tokenizer adds included
    longest: int | None = None
    #: texts that may be put before a text, by their names, and the name of the one that is unless another is asked for
    prompt_names: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    default_prompt: str = ""
    #: parts of its source that are no part of it: a model that sees, of which this is the text model
    left_out: tuple[str, ...] = ()
    #: the passes that have changed it, in order
    passes: tuple[str, ...] = ()

    @property
    def makes_text(self) -> bool:
        """Whether the model goes on from a text, or answers one."""
        return self.task in TASKS[:2]

    def given(self) -> dict[str, Any]:
        """Those that differ from the defaults, in order."""
        return {f.name: v for f in dataclasses.fields(self) if (v := getattr(self, f.name)) != f.default}


#: facts that are one of several words
_CHOICES = {
    "task": ("", *TASKS),
    "scores": ("", "softmax", "sigmoid", "raw"),
    "similarity": ("", "cosine", "dot", "euclidean", "manhattan"),
}


def make_facts(values: Mapping[str, Any]) -> Facts:
    """Facts by name. Raises SignatureError for one that there is not, or that is of another type."""
    kinds = {f.name: str(f.type) for f in dataclasses.fields(Facts)}
    for name, value in values.items():
        match kinds.get(name):
            case None:
                raise SignatureError(f"there is no fact {name!r}; there are {', '.join(kinds)}")
            case "str":
                good = isinstance(value, str) and value in _CHOICES.get(name, (value,))
            case "int | None":
                good = value is None or (type(value) is int and value >= 0)
                good = good and (name != "decoder_start" or value is None or value < 1 << 31)  # tokens are i32
            case kind:
                of: type = int if kind == "tuple[int, ...]" else str
                good = isinstance(value, tuple) and all(type(v) is of for v in value)
        if not good:
            wanted = f"one of {', '.join(_CHOICES[name][1:])}" if name in _CHOICES else kinds[name]
            raise SignatureError(f"the fact {name} is {wanted}, not {value!r}")
    return Facts(**values)
