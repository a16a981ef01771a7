"""What rounding costs: loss, divergence and right answers of a model in several formats, on held-out text.

Variants are compared paired, on the same documents: two losses of +-0.001 each would hide what their difference shows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from burnish.frontends.config import LoadError
from burnish.ir.module import Module
from burnish.ir.ops.quantization import Quantize
from burnish.ir.signature import LOGITS, TOKENS
from burnish.passes.pipelines import quantized
from burnish.runtime.doors import executable, optimize
from burnish.runtime.executable import Executable
from burnish.runtime.finite import require_finite
from burnish.runtime.parts import Plan
from burnish.runtime.progress import Progress
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
    """A recipe for the weights (`none` leaves them), and the activations."""

    recipe: str = "none"
    activations: str = "float"

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read `recipe[/activations]`: q4_0, q4_0/int8, lm=none;q4_0/int8."""
        recipe, _, activations = text.partition("/")
        return cls(recipe, activations.lower() or "float")

    @property
    def pipeline(self) -> str:
        """The passes that make it."""
        return quantized(self.recipe)

    def __str__(self) -> str:
        return self.recipe + (f"/{self.activations}" if self.activations != "float" else "")


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
        return f"{self.mean:.5f} ± {self.error:.5f}"


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

    Documents end at `context` tokens; an answer that is cut, or that nothing stands before, does not count. Raises
    LoadError.
    """
    try:
        lines = file.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise LoadError(f"{file}: {e}") from None
    documents = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            asked = tokenizer.ask(row["text"])
            ids, spans = asked.ids, asked.spans
            answers = [(int(a), int(b), str(kind)) for a, b, kind in row.get("answers", [])]
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise LoadError(f"{file}, line {number}: {type(e).__name__}: {e}") from None
        limit = min(len(ids), context or len(ids))
        if limit < 2:
            raise LoadError(f"{file}, line {number}: {limit} tokens are too few")
        found = []
        for start, end, kind in answers:
            inside = [i for i, (a, b) in enumerate(spans[:limit]) if a < end and b > start and b > a]
            if inside and inside[0] > 0 and spans[inside[-1]][1] >= end:
                found.append((inside[0], inside[-1] + 1, kind))
        documents.append(Document(tuple(ids[:limit]), tuple(found)))
    if not documents:
        raise LoadError(f"{file}: holds no documents")
    return documents


def evaluate_variants(
    module: Module,
    documents: Sequence[Document],
    variants: Sequence[Variant],
    backend: str = "numpy",
    progress: Progress | None = None,
) -> list[Measure]:
    """Measure each variant on the documents; the first is what the others are compared with.

    All of them see a batch before the next is taken, so that no logits are kept. Raises LoadError for a model that
    does not go on from a text, or a format that none of its weights can have.
    """
    made = [_made(module, variant) for variant in variants]
    models = [executable(m, backend, v.activations, progress=progress) for m, v in zip(made, variants, strict=True)]
    if not models[0].is_generative or models[0].has_encoder:
        task = module.facts.task
        other = f"this one's task is {task}" if task else "this one does not say that it does: state its task"
        raise LoadError(f"eval measures models that go on from a text; {other}")
    samples = [_Samples() for _ in variants]
    tokens = module.main.input_for(TOKENS) if module.main is not None else None
    size = tokens.shape[0] if tokens is not None and isinstance(tokens.shape[0], int) else BATCH
    ordered = sorted(documents, key=lambda d: len(d.ids))  # hardly any padding
    for at in range(0, len(ordered), size):
        batch = ordered[at : at + size]
        for document, *rows in zip(batch, *(_logits(model, batch) for model in models), strict=True):
            reference = _log_softmax(rows[0])
            for found, row in zip(samples, rows, strict=True):
                found.add(document, row, reference)
        if progress:
            progress("documents", min(at + size, len(ordered)), len(ordered))
    return [
        Measure(
            str(variant),
            Estimate.of(found.losses),
            Estimate.of(np.subtract(found.losses, samples[0].losses).tolist()),
            Estimate.of(found.divergences),
            {kind: Estimate.of(x) for kind, x in sorted(found.right.items())},
            Plan.of(m).nbytes,
        )
        for variant, found, m in zip(variants, samples, made, strict=True)
    ]


def _made(module: Module, variant: Variant) -> Module:
    made = optimize(module, variant.pipeline)
    if variant.recipe != "none" and not any(isinstance(n.op, Quantize) for g in made.graphs.values() for n in g):
        raise LoadError(f"variant {variant}: none of the weights can be stored so")
    return made


@dataclass
class _Samples:
    """What a variant showed so far, document by document, answer by answer."""

    losses: list[float] = field(default_factory=list)
    divergences: list[float] = field(default_factory=list)
    right: dict[str, list[float]] = field(default_factory=dict)

    def add(self, document: Document, logits: np.ndarray, reference: np.ndarray) -> None:
        """Add a document: logits[tokens - 1, V] of what follows each token, and the first variant's log-softmax."""
        logp, target = _log_softmax(logits), np.asarray(document.ids[1:])
        self.losses.append(float(-np.take_along_axis(logp, target[:, None], 1).mean()))
        self.divergences.append(float((np.exp(reference) * (reference - logp)).sum(-1).mean()))
        chosen = logp.argmax(-1) == target
        for start, end, kind in document.answers:
            self.right.setdefault(kind, []).append(float(chosen[start - 1 : end - 1].all()))


def _logits(model: Executable, documents: Sequence[Document]) -> list[np.ndarray]:
    """Logits[tokens - 1, V] of what follows each token but the last, for each document. Raises NotFinite."""
    counts = np.array([len(d.ids) for d in documents], np.int32)
    ids = np.zeros((len(documents), int(counts.max())), np.int32)
    for row, d in zip(ids, documents, strict=True):
        row[: len(d.ids)] = d.ids
    logits = model.forward(ids, counts)[LOGITS.name]
    rows = [row[: n - 1] for row, n in zip(logits, counts, strict=True)]
    for row in rows:
        require_finite(row, "the logits of a document")
    return rows


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """In f64, along the last axis."""
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    x -= np.log(np.exp(x).sum(-1, keepdims=True))
    return x
