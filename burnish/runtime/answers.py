"""What the numbers of a model that makes no text say: labels, words, a span of a text, a vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.ir.signature import EMBEDDING, HIDDEN, LOGITS, Facts, Role
from burnish.runtime.finite import require_finite

__all__ = ["Answer", "Asked", "answer_of"]

MOST_WORDS = 5
LONGEST_ANSWER = 30  # tokens


@dataclass(frozen=True)
class Asked:
    """A text, or a pair of texts, as tokens: ids, the text and the span of characters that each token stands for.

    `parts` says of which text, 0 or 1; None for special tokens. Without a tokenizer only ids are known.
    """

    ids: Sequence[int]
    types: Sequence[int] | None = None
    texts: Sequence[str] = ()
    spans: Sequence[tuple[int, int]] = ()
    parts: Sequence[int | None] = ()
    #: the token that stands for a word that is asked for
    mask: int | None = None
    #: the word of a token
    word: Callable[[int], str] = str

    def piece(self, first: int, last: int) -> str:
        """The characters of tokens first … last; their ids, where there is no text."""
        if not self.texts:
            return " ".join(map(str, self.ids[first : last + 1]))
        return self.texts[self.parts[first] or 0][self.spans[first][0] : self.spans[last][1]]


@dataclass(frozen=True)
class Answer:
    """For machines, and in lines for people."""

    values: Mapping[str, Any]
    lines: Sequence[str]


def answer_of(facts: Facts, roles: Mapping[str, Role], outputs: Mapping[str, np.ndarray], asked: Asked) -> Answer:
    """What the outputs of one sequence, by name and without the axis of the batch, say for the model's task.

    Raises NotFinite where they are no numbers.
    """
    for name, x in outputs.items():
        if x.dtype.kind == "f" and roles.get(name) in (LOGITS, EMBEDDING, HIDDEN):
            require_finite(x, name)
    scores = [outputs[name] for name, role in roles.items() if role == LOGITS and name in outputs]
    match facts.task:
        case "text-classification" if scores and scores[0].ndim == 1:
            return _labels(scores[0], facts.labels)
        case "token-classification" if scores:
            return _labels_of_tokens(scores[0], facts.labels, asked)
        case "question-answering" if len(scores) == 2:
            return _span(scores[0], scores[1], asked)
        case "fill-mask" if scores and asked.mask is not None and asked.mask in asked.ids:
            return _words(scores[0], asked)
    return _numbers(roles, outputs, asked)


def _labels(scores: np.ndarray, labels: Sequence[str]) -> Answer:
    order = np.argsort(-scores, kind="stable")
    found: dict[str, float] = {}
    for i in order:
        found.setdefault(labels[i], float(scores[i]))  # of two labels of one name, the higher score
    return Answer({"labels": found}, [f"{label}: {score:.4f}" for label, score in found.items()])


def _labels_of_tokens(scores: np.ndarray, labels: Sequence[str], asked: Asked) -> Answer:
    found = []
    for i, row in enumerate(scores):
        if asked.parts and asked.parts[i] is None:
            continue  # a special token
        best = int(np.argmax(row))
        found.append({"token": asked.piece(i, i), "label": labels[best], "score": float(row[best])})
    return Answer({"labels": found}, [f"{f['token']}: {f['label']} {f['score']:.4f}" for f in found])


def _span(start: np.ndarray, end: np.ndarray, asked: Asked) -> Answer:
    """The span of the second text (of the only one, where there is one) with the highest sum of both scores."""
    last = max((p for p in asked.parts if p is not None), default=None)
    inside = np.array([last is None or p == last for p in asked.parts or [None] * len(start)])
    total = start[:, None] + end[None, :]
    length = np.arange(len(start))[None, :] - np.arange(len(start))[:, None]
    allowed = inside[:, None] & inside[None, :] & (length >= 0) & (length < LONGEST_ANSWER)
    first, until = np.unravel_index(int(np.argmax(np.where(allowed, total, -np.inf))), total.shape)
    text, score = asked.piece(int(first), int(until)), float(total[first, until])
    values = {"answer": text, "score": score, "first_token": int(first), "last_token": int(until)}
    return Answer(values, [f"{text}: {score:.4f}"])


def _words(scores: np.ndarray, asked: Asked) -> Answer:
    found, lines = [], []
    for i in (i for i, token in enumerate(asked.ids) if token == asked.mask):
        best = np.argsort(-scores[i], kind="stable")[:MOST_WORDS]
        words = {asked.word(t): float(scores[i][t]) for t in map(int, best)}
        found.append(words)
        lines.append(", ".join(f"{word} {score:.4f}" for word, score in words.items()))
    return Answer({"masks": found}, lines)


def _numbers(roles: Mapping[str, Role], outputs: Mapping[str, np.ndarray], asked: Asked) -> Answer:
    """A sentence's embedding, or what else there is: the first numbers of each token."""
    named = {role: name for name, role in roles.items()}
    name = next((named[r] for r in (EMBEDDING, LOGITS, HIDDEN) if r in named), next(iter(outputs)))
    row = outputs[name]
    if row.ndim == 1:
        return Answer({name: row.tolist()}, [" ".join(f"{x:.6f}" for x in row)])
    lines = [
        f"{token}: " + " ".join(f"{x:.6f}" for x in vector[:8]) + (" …" if len(vector) > 8 else "")
        for token, vector in zip(asked.ids, row, strict=False)
    ]
    return Answer({name: row.tolist()}, lines)
