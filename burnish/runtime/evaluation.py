"""What rounding costs: loss, divergence and right answers of a model in several formats, on held-out text.

Variants are compared paired, on the same documents: two losses of +-0.001 each would hide what their difference shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish.frontends.architecture import LoadError
from burnish.ir.graph import Module
from burnish.runtime.doors import executable, optimize
from burnish.runtime.parts import bytes_by_part, parts_of
from burnish.runtime.tokenizer import Tokenizer

__all__ = ["Document", "Estimate", "Measure", "Variant", "evaluate_variants", "read_documents"]

BATCH = 16  # documents at once


@dataclass(frozen=True)
class Document:
    """Token ids, and where in them answers stand: (first, last + 1, kind)."""

    ids: tuple[int, ...]
    answers: tuple[tuple[int, int, str], ...] = ()


@dataclass(frozen=True)
class Variant:
    """A format for the blocks' weights (`none` leaves them), one for the head and the table, and the activations."""

    weights: str = "none"
    activations: str = "float"
    head: str = "none"

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read `format[+head][/activations]`: q4_0, q4_0/int8, q4_0+head/int8."""
        weights, _, activations = text.partition("/")
        weights, plus, _ = weights.partition("+")
        return cls(weights, activations or "float", weights if plus else "none")

    @property
    def pipeline(self) -> str:
        """The passes that make it."""
        if self.weights == "none":
            return "default"
        return f"default,quantize-weights{{format={self.weights},lm={self.head},embedding={self.head}}}"

    def __str__(self) -> str:
        head = "+head" if self.head != "none" else ""
        return f"{self.weights}{head}" + (f"/{self.activations}" if self.activations != "float" else "")


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, x: Sequence[float]) -> Estimate:
        """From independent samples."""
        a = np.asarray(x, np.float64)
        return cls(float(a.mean()), float(a.std(ddof=1) / len(a) ** 0.5) if len(a) > 1 else float("nan"))

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.error:.4f}"


@dataclass(frozen=True)
class Measure:
    """What one variant showed: nats a token, against the first variant where two are compared."""

    variant: str
    loss: Estimate
    loss_difference: Estimate
    divergence: Estimate  # Kullback-Leibler, from the first variant
    right: dict[str, Estimate]  # by kind of answer: the share that is right in every token
    bytes: int  # of all weights that run time reads

    def as_json(self) -> dict[str, Any]:
        """For machines."""

        def pair(e: Estimate) -> list[float]:
            return [e.mean, e.error]

        return {
            "variant": self.variant,
            "loss": pair(self.loss),
            "loss_difference": pair(self.loss_difference),
            "kl": pair(self.divergence),
            "right": {k: pair(e) for k, e in self.right.items()},
            "bytes": self.bytes,
        }


def read_documents(file: Path, tokenizer: Tokenizer, context: int | None) -> list[Document]:
    """Lines of JSON: {"text": …, "answers": [[start, end, kind], …]}, the answers as spans of characters.

    Documents end at `context` tokens; an answer that is cut does not count. Raises LoadError.
    """
    documents = []
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise LoadError(f"{file}: {e}") from None
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            ids, spans = tokenizer.encode_with_spans(row["text"])
            answers = [(int(a), int(b), str(kind)) for a, b, kind in row.get("answers", [])]
        except (ValueError, KeyError, TypeError) as e:
            raise LoadError(f"{file}, line {number}: {e!r}") from None
        limit = min(len(ids), context or len(ids))
        found = []
        for start, end, kind in answers:
            inside = [i for i, (a, b) in enumerate(spans[:limit]) if a < end and b > start and b > a]
            if inside and spans[inside[-1]][1] >= end:
                found.append((inside[0], inside[-1] + 1, kind))
        documents.append(Document(tuple(ids[:limit]), tuple(found)))
    return documents


def evaluate_variants(
    module: Module,
    documents: Sequence[Document],
    variants: Sequence[Variant],
    backend: str = "numpy",
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Measure]:
    """Measure each variant on the documents; the first is what the others are compared with."""
    order = sorted(range(len(documents)), key=lambda i: len(documents[i].ids))
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    reference: list[np.ndarray] = []
    base: list[float] = []
    measures = []
    for variant in variants:
        made = optimize(module, variant.pipeline)
        model = executable(made, backend, variant.activations)
        losses: list[float] = []
        divergences: list[float] = []
        right: dict[str, list[float]] = {}
        for k, batch in enumerate(batches):
            for document, logp in _log_probabilities(model, [documents[i] for i in batch]):
                if len(reference) < len(documents):
                    reference.append(logp.astype(np.float32))
                first = reference[len(losses)].astype(np.float64)
                target = np.asarray(document.ids[1:])
                losses.append(float(-np.take_along_axis(logp, target[:, None], 1).mean()))
                divergences.append(float((np.exp(first) * (first - logp)).sum(-1).mean()))
                chosen = logp.argmax(-1) == target
                for start, end, kind in document.answers:
                    right.setdefault(kind, []).append(float(chosen[start - 1 : end - 1].all()))
            if progress:
                progress(str(variant), k + 1, len(batches))
        base = base or losses
        measures.append(
            Measure(
                str(variant),
                Estimate.of(losses),
                Estimate.of(np.subtract(losses, base).tolist()),
                Estimate.of(divergences),
                {kind: Estimate.of(x) for kind, x in sorted(right.items())},
                sum(n for sizes in bytes_by_part(parts_of(made)).values() for n in sizes.values()),
            )
        )
    return measures


def _log_probabilities(model: Any, documents: Sequence[Document]) -> list[tuple[Document, np.ndarray]]:
    """f64 log-probabilities [tokens - 1, V] of what follows each token."""
    counts = np.array([len(d.ids) for d in documents], np.int32)
    ids = np.zeros((len(documents), int(counts.max())), np.int32)
    for row, d in zip(ids, documents, strict=True):
        row[: len(d.ids)] = d.ids
    logits = model.forward(ids, counts)["logits"]
    out = []
    for row, d in zip(logits, documents, strict=True):
        x = row[: len(d.ids) - 1].astype(np.float64)
        x -= x.max(-1, keepdims=True)
        out.append((d, x - np.log(np.exp(x).sum(-1, keepdims=True))))
    return out
