"""What is put on the hidden states of a base model, one class for each task; any base model will do that has its steps.

A `config.json` names base and head together: `Bert` and `ForMaskedLM`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from burnish.frontends.config import Config, LoadError, shown
from burnish.ir.graph import Value
from burnish.ir.registry import Registry
from burnish.ir.signature import HIDDEN, LOGITS, Plain

if TYPE_CHECKING:
    from burnish.frontends.architecture import Architecture, Layers

__all__ = ["HEADS", "Head", "Hidden", "labels_of"]

Outputs = tuple[dict[str, Value], dict[str, Plain]]


class Head:
    """Base of all heads, registered by being defined, under what `names` says: how the name of a class ends."""

    names: ClassVar[tuple[str, ...]] = ()
    #: what a model with this head is for: see `burnish.ir.signature.TASKS`
    task: ClassVar[str]
    #: the step of the base model that the head rests on
    step: ClassVar[str] = ""
    #: whether tensors beside the base model's are left alone: they are of some head
    beside: ClassVar[bool] = False
    #: the graphs of the base model that it needs, itself on the last; () for all that the base says
    graphs: ClassVar[tuple[str, ...]] = ("forward",)

    def __init_subclass__(cls, replace: bool = False) -> None:
        for name in cls.__dict__.get("names", ()):
            HEADS.add(name, cls, replace)

    def why_not(self, base: type[Architecture]) -> str | None:
        """None, or why the head does not go on such a base model."""
        missing = self.step and not hasattr(base, self.step)
        return f"{base.__name__} has no {self.step}, for a head of {self.names[0]}" if missing else None

    def facts(self, model: Architecture) -> Mapping[str, Any]:
        """What is known of the model by its head, its labels."""
        return {}

    def unused(self, model: Architecture) -> tuple[str, ...]:
        """Fragments of the names of tensors that belong to other heads."""
        return ()

    def outputs(self, op: Layers, model: Any, x: Value) -> Outputs:
        """The outputs of the graph and their roles, from the hidden states [B, S, H]; `model` has `step`."""
        raise NotImplementedError


HEADS: Registry[type[Head]] = Registry("head")


class Hidden(Head):
    """The base model alone."""

    names: ClassVar[tuple[str, ...]] = ("Model",)
    task = "feature-extraction"
    beside = True

    def why_not(self, base: type[Architecture]) -> str | None:
        several = f"{base.__name__} has an encoder and a decoder: a head of {self.names[0]} goes on one graph"
        return several if len(base.graphs) > 1 else None

    def unused(self, model: Architecture) -> tuple[str, ...]:
        return ("pooler.",)

    def outputs(self, op: Layers, model: Any, x: Value) -> Outputs:
        return {HIDDEN.name: x}, {HIDDEN.name: HIDDEN}


class EncoderAlone(Hidden):
    """The encoder of an encoder-decoder."""

    names = ("EncoderModel",)
    beside = False
    graphs = ("encoder",)

    def why_not(self, base: type[Architecture]) -> str | None:
        return None if "encoder" in base.graphs else f"{base.__name__} has no encoder that stands alone"

    def facts(self, model: Any) -> Mapping[str, Any]:
        decoder = model.as_decoder()
        for key in model.decoder_keys:  # say nothing of the encoder
            decoder.config.get(key)
        return {}

    def unused(self, model: Architecture) -> tuple[str, ...]:
        return ("decoder.", "lm_head.")


class CausalLM(Head):
    """What word may follow: `logits` of the base model, [B, S, V]."""

    names: ClassVar[tuple[str, ...]] = ("ForCausalLM", "LMHeadModel")
    task = "text-generation"
    graphs = ()

    def why_not(self, base: type[Architecture]) -> str | None:
        if HEADS[base.head] is type(self):
            return None
        return f"{base.__name__} goes with {base.head}: a head of {self.names[0]} does not go on it"

    def outputs(self, op: Layers, model: Any, x: Value) -> Outputs:
        return _logits(model.logits(op, x))


class ConditionalGeneration(CausalLM):
    """The same, of a decoder that answers an encoder's text."""

    names = ("ForConditionalGeneration", "MTModel")
    task = "text2text-generation"


class MaskedLM(Head):
    """What word each token might be: `words` of the base model, [B, S, V]."""

    names = ("ForMaskedLM", "ForPreTraining")
    task = "fill-mask"
    step = "words"

    def unused(self, model: Architecture) -> tuple[str, ...]:
        return ("pooler.", "cls.seq_relationship.")

    def outputs(self, op: Layers, model: Any, x: Value) -> Outputs:
        return _logits(model.words(op, x))


class ReplacedTokens(Head):
    """How sure a discriminator is of each token that it is not the writer's: `replaced` of the base model, [B, S]."""

    names = ("ForReplacedTokens",)
    task = "feature-extraction"
    step = "replaced"

    def unused(self, model: Architecture) -> tuple[str, ...]:
        return ("generator_",)

    def outputs(self, op: Layers, model: Any, x: Value) -> Outputs:
        return _logits(model.replaced(op, x))


class SequenceClassification(Head):
    """Scores of the labels of a whole sequence, [B, labels]: `pooled` and `score` of the base model."""

    names: ClassVar[tuple[str, ...]] = ("ForSequenceClassification",)
    task = "text-classification"
    step = "pooled"

    def facts(self, model: Architecture) -> Mapping[str, Any]:
        labels = labels_of(model.config)
        return {"labels": labels, "scores": _scores_of(model.config, len(labels))}

    def unused(self, model: Architecture) -> tuple[str, ...]:
        return ("cls.", "lm_head.")

    def outputs(self, op: Layers, model: Any, x: Value) -> Outputs:
        pooled = model.pooled(op, x, op.token_count())
        return _logits(model.score(op, pooled, len(labels_of(model.config))))


class MultipleChoice(SequenceClassification):
    """How well the second text goes with the first, [B, 1]: of several, the one with the highest score is chosen."""

    names = ("ForMultipleChoice",)

    def facts(self, model: Architecture) -> Mapping[str, Any]:
        return {"labels": ("fits",), "scores": "raw"}

    def outputs(self, op: Layers, model: Any, x: Value) -> Outputs:
        return _logits(model.score(op, model.pooled(op, x, op.token_count()), 1))


class NextSentence(Head):
    """Whether the second text goes on from the first, [B, 2]: `follows` of the base model."""

    names = ("ForNextSentencePrediction",)
    task = "text-classification"
    step = "follows"

    def facts(self, model: Architecture) -> Mapping[str, Any]:
        return {"labels": ("follows", "random")}

    def unused(self, model: Architecture) -> tuple[str, ...]:
        return ("cls.predictions.",)

    def outputs(self, op: Layers, model: Any, x: Value) -> Outputs:
        return _logits(model.follows(op, x, op.token_count()))


class TokenClassification(Head):
    """Scores of the labels of each token, [B, S, labels]: `score_tokens` of the base model."""

    names = ("ForTokenClassification",)
    task = "token-classification"
    step = "score_tokens"

    def facts(self, model: Architecture) -> Mapping[str, Any]:
        return {"labels": labels_of(model.config)}

    def unused(self, model: Architecture) -> tuple[str, ...]:
        return ("cls.", "pooler.", "lm_head.")

    def outputs(self, op: Layers, model: Any, x: Value) -> Outputs:
        return _logits(model.score_tokens(op, x, len(labels_of(model.config))))


class QuestionAnswering(Head):
    """Scores of each token as the first and the last of the answer, [B, S] both: `span` of the base model."""

    names = ("ForQuestionAnswering",)
    task = "question-answering"
    step = "span"

    def unused(self, model: Architecture) -> tuple[str, ...]:
        return ("cls.", "pooler.", "lm_head.")

    def outputs(self, op: Layers, model: Any, x: Value) -> Outputs:
        start, end = op.split(model.span(op, x), axis=-1, sizes=(1, 1))
        found = {"start_logits": op.squeeze(start, axes=(2,)), "end_logits": op.squeeze(end, axes=(2,))}
        return found, dict.fromkeys(found, LOGITS)


def labels_of(config: Config) -> tuple[str, ...]:
    """The names of the classes that a model tells apart: of `id2label`, or `num_labels` of them. Raises LoadError."""
    if not config.has("id2label"):
        return tuple(f"LABEL_{i}" for i in range(config.integer("num_labels", 2, most=1 << 16)))
    given = config.get("id2label")
    good = isinstance(given, Mapping) and given and all(isinstance(v, str) for v in given.values())
    if not good or {str(k) for k in given} != {str(i) for i in range(len(given))}:
        raise LoadError(f"{config.where}: id2label must be an object from 0, 1, … to names, not {shown(given)}")
    return tuple(v for _, v in sorted((int(k), v) for k, v in given.items()))


def _scores_of(config: Config, labels: int) -> str:
    """What is done to the logits of labels, as transformers' pipeline does it: see `burnish.ir.signature.Facts.scores`.

    Of one label, what sentence-transformers keeps in the config for a reranker goes first. Raises LoadError.
    """
    kinds = {"": "", "single_label_classification": "", "multi_label_classification": "sigmoid", "regression": "raw"}
    kind = config.choice("problem_type", kinds, "")
    kept = config.get("sentence_transformers")
    activation = kept.get("activation_fn") if isinstance(kept, Mapping) else None
    activation = activation or config.get("sbert_ce_default_activation_function")
    if labels != 1 or kind or activation is None:
        return kinds[kind]
    ends = {"linear.Identity": "raw", "activation.Sigmoid": "sigmoid"}
    found = next((how for end, how in ends.items() if activation == f"torch.nn.modules.{end}"), None)
    if found is None:
        raise LoadError(f"{config.where}: scores by {shown(activation)} are not supported; supported are {list(ends)}")
    return "" if found == "sigmoid" else found


def _logits(x: Value) -> Outputs:
    return {LOGITS.name: x}, {LOGITS.name: LOGITS}
