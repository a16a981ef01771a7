"""What the numbers of a model that makes no text say: labels, entities, words, a span of a text, a similarity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

import numpy as np

from burnish.ir.signature import EMBEDDING, HIDDEN, LOGITS, Facts, Role
from burnish.runtime.finite import require_finite

__all__ = ["GROUPS", "SCORES", "Answer", "Asked", "Outputs", "Wanted", "answer_of"]

#: how logits become scores of labels
SCORES = ("softmax", "sigmoid", "raw")
#: what has one label: each token; each, and neighbours of one label are joined; a word, by its first token, by the
#: token with the highest score, by the mean of its tokens
GROUPS = ("none", "simple", "first", "max", "average")
MOST_WORDS = 5
LONGEST_ANSWER = 15  # tokens

Outputs = Mapping[str, np.ndarray]  # of one sequence, by name and without the axis of the batch


def _ids(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


@dataclass(frozen=True)
class Asked:
    """A text, or a pair of texts, as tokens: ids, the text and the span of characters that each token stands for.

    `parts` says of which text, 0 or 1; None for special tokens. `words` numbers the words of each text. Without a
    tokenizer only ids are known.
    """

    ids: Sequence[int]
    types: Sequence[int] | None = None
    texts: Sequence[str] = ()
    spans: Sequence[tuple[int, int]] = ()
    parts: Sequence[int | None] = ()
    words: Sequence[int | None] = ()
    #: the token that stands for a word that is asked for
    mask: int | None = None
    #: the text of tokens, special ones included
    text_of: Callable[[Sequence[int]], str] = _ids

    def place(self, first: int, last: int) -> dict[str, Any]:
        """The text of tokens first … last, and where it is: in characters, or in tokens where there is no text."""
        if not self.texts:
            return {"text": self.text_of(self.ids[first : last + 1]), "first_token": first, "last_token": last}
        start, end = self.spans[first][0], self.spans[last][1]
        return {"text": self.texts[self.parts[first] or 0][start:end], "start": start, "end": end}

    def whole_words(self, first: int, last: int) -> tuple[int, int]:
        """The first and the last token of the words that tokens first … last lie in."""
        if not self.words:
            return first, last
        for_first, for_last = ((self.parts[i], self.words[i]) for i in (first, last))
        key = list(zip(self.parts, self.words, strict=True))
        until = len(key) - 1 - key[::-1].index(for_last) if for_last[1] is not None else last
        return (key.index(for_first) if for_first[1] is not None else first), until


#: what of `Wanted` the answers of a task go by
_USES: Mapping[str, Sequence[str]] = {
    "text-classification": ("best", "scores"),
    "token-classification": ("group",),
    "question-answering": ("best", "unanswerable"),
    "fill-mask": ("best",),
}


@dataclass(frozen=True)
class Wanted:
    """What is asked for beside the texts."""

    #: how many words for each mask (5 unless given), labels (all), answers (1)
    best: int | None = None
    #: one of SCORES; as the model says, unless given
    scores: str = ""
    #: one of GROUPS, for labels of tokens
    group: str = "simple"
    #: a text may hold no answer
    unanswerable: bool = False

    def check(self, task: str) -> None:
        """Raise ValueError for what answers of a task do not go by."""
        used = _USES.get(task, ())
        for field in fields(self):
            if field.name not in used and getattr(self, field.name) != field.default:
                raise ValueError(f"{field.name} is not for a model of {task or 'no task that it says'}")

    def __post_init__(self) -> None:
        """Raises ValueError for what there is not."""
        for name, value, known in (("scores", self.scores, ("", *SCORES)), ("group", self.group, GROUPS)):
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(filter(None, known))}, not {value!r}")
        if self.best is not None and self.best < 1:
            raise ValueError(f"best is a number from 1 on, not {self.best}")


@dataclass(frozen=True)
class Answer:
    """For machines, and in lines for people."""

    values: Mapping[str, Any]
    lines: Sequence[str]


def answer_of(
    facts: Facts, roles: Mapping[str, Role], read: Sequence[tuple[Outputs, Asked]], wanted: Wanted | None = None
) -> Answer:
    """What a model says of a text, for its task, from what it made of the sequences that the text was read as.

    One sequence, as a rule; windows of a long text that is searched for an answer; two texts that are compared.
    Formulae: transformers' pipelines, and sentence-transformers for rerankers and similarities. Raises NotFinite where
    outputs are no numbers.
    """
    wanted = wanted or Wanted()
    for outputs, _ in read:
        for name, x in outputs.items():
            if x.dtype.kind == "f" and roles.get(name) in (LOGITS, EMBEDDING, HIDDEN):
                require_finite(x, name)
    (outputs, asked), *_ = read
    scores = [name for name, role in roles.items() if role == LOGITS and name in outputs]
    first = outputs[scores[0]] if scores else np.empty(0)
    match facts.task:
        case "text-classification" if scores and first.ndim == 1:
            return _labels(first, facts, wanted)
        case "token-classification" if scores:
            return _entities(_softmax(first), _labels_of(facts, first.shape[-1]), asked, wanted)
        case "question-answering" if len(scores) == 2:
            return _span([(o[scores[0]], o[scores[1]], a) for o, a in read], wanted)
        case "fill-mask" if scores and asked.mask is not None and asked.mask in asked.ids:
            return _words(first, asked, wanted)
    if len(read) == 2 and (vector := next((n for n, role in roles.items() if role == EMBEDDING), None)):
        value = SIMILARITIES[facts.similarity or "cosine"](*(o[vector].astype(np.float64) for o, _ in read))
        return Answer({"similarity": float(value)}, [f"{value:.4f}"])
    return _numbers(roles, outputs, asked)


def _labels(logits: np.ndarray, facts: Facts, wanted: Wanted) -> Answer:
    how = wanted.scores or facts.scores or ("sigmoid" if len(logits) == 1 else "softmax")
    scores = logits if how == "raw" else _sigmoid(logits) if how == "sigmoid" else _softmax(logits)
    labels = _labels_of(facts, len(scores))
    found: dict[str, float] = {}
    for i in np.argsort(-scores, kind="stable"):
        found.setdefault(labels[i], float(scores[i]))  # of two labels of one name, the higher score
    found = dict(list(found.items())[: wanted.best])
    alone = {"score": float(scores[0])} if len(scores) == 1 else {}
    lines = [f"{label}: {score:.4f}" for label, score in found.items()]
    if alone and labels[0] in ("", "LABEL_0"):
        lines = [f"{scores[0]:.4f}"]
    return Answer({"labels": found, **alone}, lines)


def _labels_of(facts: Facts, number: int) -> Sequence[str]:
    """The names of labels; numbers, where the model has not as many: an ONNX file names none."""
    return facts.labels if len(facts.labels) == number else [f"LABEL_{i}" for i in range(number)]


def _entities(p: np.ndarray, labels: Sequence[str], asked: Asked, wanted: Wanted) -> Answer:
    """Tokens, or words, of one label, joined where they are neighbours; but what has label O.

    A label that begins with B- begins anew; one that begins with I- goes on.
    """
    tokens = [i for i in range(len(p)) if not asked.parts or asked.parts[i] is not None]
    words = [[i] for i in tokens]
    if asked.words and wanted.group not in ("none", "simple"):
        words = [list(w) for _, w in groupby(tokens, lambda i: (asked.parts[i], asked.words[i]))]
    groups: list[tuple[str, list[float], int, int]] = []  # label, scores, first and last token
    for word in words:
        of_max = word[int(p[word].max(-1).argmax())]
        row = {"average": p[word].mean(0), "max": p[of_max]}.get(wanted.group, p[word[0]])
        label, score = labels[int(row.argmax())], float(row.max())
        goes_on = groups and not label.startswith("B-") and _kind(label) == _kind(groups[-1][0])
        if wanted.group != "none" and goes_on:
            before, scores, first, _ = groups[-1]
            groups[-1] = before, [*scores, score], first, word[-1]
        else:
            groups.append((label, [score], word[0], word[-1]))
    found = [
        {"label": label if wanted.group == "none" else label.split("-", 1)[-1], "score": float(np.mean(scores))}
        | asked.place(first, last)
        for label, scores, first, last in groups
    ]
    found = [f for f in found if f["label"] != "O"]
    lines = [f"{f['text']}: {f['label']} {f['score']:.4f}{_at(f)}" for f in found]
    return Answer({"entities": found}, lines or ["(no entities)"])


def _kind(label: str) -> str:
    return label[2:] if label[:2] in ("B-", "I-") else label


def _at(found: Mapping[str, Any]) -> str:
    """Where it is, as Python slices a text."""
    return f" [{found['start']}:{found['end']}]" if "start" in found else ""


def _span(windows: Sequence[tuple[np.ndarray, np.ndarray, Asked]], wanted: Wanted) -> Answer:
    """The likeliest spans of the second text (of the only one, where there is one), widened to whole words.

    A first special token stands for no answer. Of spans with the same text, in whichever window, scores are added.
    """
    most = wanted.best or 1
    found: dict[str, dict[str, Any]] = {}
    none = 1.0
    for start, end, asked in windows:
        last = max((p for p in asked.parts if p is not None), default=None)
        inside = np.array([last is None or p == last for p in asked.parts or [None] * len(start)])
        first_is_none = bool(asked.parts) and asked.parts[0] is None
        p, q = (_softmax(np.where(inside | (np.arange(len(x)) == 0) * first_is_none, x, -1e4)) for x in (start, end))
        if first_is_none:
            none = min(none, float(p[0] * q[0]))
            p[0] = q[0] = 0
        scores = np.tril(np.triu(np.outer(p, q)), LONGEST_ANSWER - 1)
        for at in np.argsort(-scores, axis=None, kind="stable")[: 2 * most + 10]:
            first, until = (int(i) for i in np.unravel_index(at, scores.shape))
            if not (inside[first] and inside[until]):
                continue
            place = asked.place(*asked.whole_words(first, until))
            answer = found.setdefault(place["text"].lower(), {"answer": place.pop("text"), "score": 0.0, **place})
            answer["score"] += float(scores[first, until])
    answers = list(found.values())
    if wanted.unanswerable or not answers:
        answers.append({"answer": "", "score": none, "start": 0, "end": 0})
    answers = sorted(answers, key=lambda a: -float(a["score"]))[:most]
    lines = [f"{a['answer'] or '(no answer)'}: {a['score']:.4f}{_at(a) if a['answer'] else ''}" for a in answers]
    return Answer(answers[0] | ({"answers": answers} if most > 1 else {}), lines)


def _words(scores: np.ndarray, asked: Asked, wanted: Wanted) -> Answer:
    masks = [i for i, token in enumerate(asked.ids) if token == asked.mask]
    inside = [i for i in range(len(asked.ids)) if not asked.parts or asked.parts[i] is not None]
    found, lines = [], []
    for i in masks:
        p = _softmax(scores[i])
        rows: list[dict[str, Any]] = []
        for token in map(int, np.argsort(-p, kind="stable")[: wanted.best or MOST_WORDS]):
            filled = [token if j == i else asked.ids[j] for j in inside]
            row = {"word": asked.text_of([token]), "score": float(p[token]), "token": token}
            rows.append(row | {"text": asked.text_of(filled)})
        lines += [f"{r['word'].strip()}: {r['score']:.4f}  {r['text']}" for r in rows]
        found.append(rows)
    return Answer({"masks": found}, lines)


def _numbers(roles: Mapping[str, Role], outputs: Outputs, asked: Asked) -> Answer:
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


#: of two vectors f64[H], the larger the nearer; by sentence-transformers' names
SIMILARITIES: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "cosine": lambda a, b: float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)),
    "dot": lambda a, b: float(a @ b),
    "euclidean": lambda a, b: -float(np.linalg.norm(a - b)),
    "manhattan": lambda a, b: -float(np.abs(a - b).sum()),
}


def _softmax(x: np.ndarray) -> np.ndarray:
    p = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return np.asarray(p / p.sum(-1, keepdims=True))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x.astype(np.float64))))
