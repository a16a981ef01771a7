"""Texts in, what a model says of them out, in batches: the door for whoever has texts and not token ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from burnish.backends.binding import BindError
from burnish.ir.signature import COUNT, EMBEDDING, MASK, TOKEN_TYPES, TOKENS, Facts
from burnish.runtime.answers import Answer, Asked, Outputs, Wanted, answer_of
from burnish.runtime.sampling import Sampler, greedy
from burnish.runtime.stop_strings import until
from burnish.runtime.tokenizer import prompted

if TYPE_CHECKING:
    from burnish.ir.graph import Graph
    from burnish.runtime.executable import Executable
    from burnish.runtime.tokenizer import Tokenizer

__all__ = ["Text", "TextModel", "in_language"]

R = TypeVar("R")
Read = tuple[Outputs, Asked]
Text = str | tuple[str, str]  # a text, or two: a question and what is searched, a query and a document

#: how a long text is read that is searched for an answer, in tokens: a window, and what two of them share
WINDOW, SHARED = 384, 128
_SORTED = 16  # batches of texts that are sorted by their lengths


class TextModel:
    """A model and its tokenizer: `model(texts)`, `embed`, `generate`; each takes a text or a list of texts.

    `wanted` says what is asked for of labels, words and answers. Texts past the model's context are refused, or cut
    with `cut`.
    """

    def __init__(self, model: Executable, tokenizer: Tokenizer | None, wanted: Wanted | None = None, cut: bool = False):
        self.model, self.tokenizer, self.wanted, self.cut = model, tokenizer, wanted or Wanted(), cut

    @overload
    def __call__(self, texts: str | tuple[str, str], batch: int = ...) -> dict[str, Any]: ...
    @overload
    def __call__(self, texts: list[str] | list[tuple[str, str]], batch: int = ...) -> list[dict[str, Any]]: ...

    def __call__(
        self, texts: Text | list[str] | list[tuple[str, str]], batch: int = 16
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """What the model says of each text, or pair of texts, as `burnish run --json` prints it; `text` for what it
        writes.

        Raises ValueError for a text that cannot be read: empty, or longer than the model's context.
        """
        many: list[Any] = texts if isinstance(texts, list) else [texts]
        if self.model.is_generative:
            answers = [{"text": text} for text in self.generate(many, batch=batch)]
        else:
            answers = [dict(a.values) for a in self.answers([self.ask(t) for t in many], batch)]
        return answers if isinstance(texts, list) else answers[0]

    def embed(self, texts: str | list[str], batch: int = 16, prompt_name: str | None = None) -> np.ndarray:
        """The embeddings of texts, f32[texts, H], or of one, f32[H], behind the model's default prompt or that one."""
        if (name := self._embedding) is None:
            raise BindError("the model has no embedding of a text: its folder says nothing of sentence-transformers")
        many = texts if isinstance(texts, list) else [texts]
        asked = [self.ask(t, [prompt_name] if prompt_name else ()) for t in many]
        found = np.stack(list(self._each(asked, batch, lambda read: read[0][0][name])))
        return found if isinstance(texts, list) else np.asarray(found[0])

    @overload
    def generate(
        self, texts: str, limit: int = ..., sampler: Sampler = ..., stops: Sequence[str] = ..., batch: int = ...
    ) -> str: ...
    @overload
    def generate(
        self, texts: list[str], limit: int = ..., sampler: Sampler = ..., stops: Sequence[str] = ..., batch: int = ...
    ) -> list[str]: ...

    def generate(
        self,
        texts: str | list[str],
        limit: int = 128,
        sampler: Sampler = greedy,
        stops: Sequence[str] = (),
        batch: int = 16,
    ) -> str | list[str]:
        """What the model writes behind each text, or in answer to it: at most `limit` tokens, ending before a stop.

        Each text is drawn as if it were alone: by a sampler of its own, a copy of the one that is given.
        """
        many = texts if isinstance(texts, list) else [texts]
        asked = [self.ask(t)[0] for t in many]
        written = [self.written(ids, stops) for ids in self.write(asked, limit, sampler, batch)]
        return written if isinstance(texts, list) else written[0]

    # ----------------------------------------------------------------------------------------------- texts to sequences

    def ask(self, text: Text, prompt_names: Sequence[str] = ()) -> list[Asked]:
        """The sequences that a text is read as: one, but for a pair that is searched or compared.

        `prompt_names` are of the text, and of the second one. Raises ValueError.
        """
        facts = self.model.module.facts
        if self.tokenizer is None:
            raise BindError("there is no tokenizer beside the model")
        texts: tuple[str, ...] = (text,) if isinstance(text, str) else text
        if not all(isinstance(t, str) and t.strip() for t in texts):
            raise ValueError("the prompt is empty" if len(texts) == 1 else "one of the two texts is empty")
        names: list[str | None] = [*prompt_names, *prompt_names[-1:]]
        texts = tuple(prompted(facts, t, n) for t, n in zip(texts, names or [None, None], strict=False))
        longest = facts.longest if facts.longest is not None else self.model.context if self.cut else None
        if facts.task == "question-answering" and len(texts) == 1:
            raise ValueError("a question alone has no answer: give the text that is searched as the second of a pair")
        if len(texts) == 1:
            return self.checked([self._with_mask(self.tokenizer.ask(texts[0], None, longest))])
        if self.model.is_generative:
            raise ValueError("the model goes on from one text, and not from a pair")
        if facts.task == "question-answering":
            window = min(WINDOW, self.model.context or WINDOW)
            return self.checked(self.tokenizer.windows(texts[0], texts[1], window, min(window // 2, SHARED)))
        if self._embedding is not None:
            return self.checked([self.tokenizer.ask(t, None, longest) for t in texts])
        return self.checked([self._with_mask(self.tokenizer.ask(texts[0], texts[1], longest))])

    def _with_mask(self, asked: Asked) -> Asked:
        """The same, with a mask where the model is one that fills masks. Raises ValueError."""
        if self.model.module.facts.task == "fill-mask" and asked.mask is not None and asked.mask not in asked.ids:
            raise ValueError(f"the text has no {asked.text_of([asked.mask])}, the word that is asked for")
        return asked

    def checked(self, asked: list[Asked]) -> list[Asked]:
        """The same, if the model can read them. Raises ValueError."""
        rows = self.model.vocabulary
        for one in asked:
            if not one.ids:
                raise ValueError("the prompt is empty")
            if bad := [i for i in one.ids if i < 0 or (rows is not None and i >= rows)]:
                raise ValueError(f"token {bad[0]} is not in the vocabulary of {rows}")
            self.room(one.ids)
        return asked

    def room(self, ids: Sequence[int], wanted: int = 1) -> int:
        """How many new tokens the context leaves room for, at most `wanted`. Raises ValueError where it leaves none."""
        model, context = self.model, self.model.context
        if context is None:
            return wanted
        room = context - (0 if model.has_encoder else len(ids))  # an encoder has the same for itself
        if len(ids) > context or room < model.is_generative:
            least = " and needs room for a new one" if model.is_generative and not model.has_encoder else ""
            raise ValueError(f"the prompt has {len(ids)} tokens{least}; the model's context is {context}")
        return min(wanted, room)

    # --------------------------------------------------------------------------------------------- sequences to answers

    def answers(self, asked: Iterable[list[Asked]], batch: int = 16) -> Iterator[Answer]:
        """What the model says of each text, in their order. Raises NotFinite where results are no numbers."""
        graph = self.model.module.main
        facts, roles = self.model.module.facts, graph.roles if graph is not None else {}
        return self._each(asked, batch, lambda read: answer_of(facts, roles, read, self.wanted))

    def _each(self, asked: Iterable[list[Asked]], batch: int, use: Callable[[list[Read]], R]) -> Iterator[R]:
        """`use` of what the model made of the sequences of each text, in their order; like lengths run together."""
        texts, rows = iter(asked), self._rows(batch)
        while many := list(islice(texts, rows * _SORTED if rows > 1 else 1)):
            found: list[dict[int, Read]] = [{} for _ in many]
            made: dict[int, R] = {}
            flat = [(text, n, one) for text, sequences in enumerate(many) for n, one in enumerate(sequences)]
            flat.sort(key=lambda entry: len(entry[2].ids))
            for at in range(0, len(flat), rows):
                some = flat[at : at + rows]
                for (text, n, one), outputs in zip(some, self._forward([e[2] for e in some]), strict=True):
                    found[text][n] = outputs, one
                    if len(found[text]) == len(many[text]):
                        made[text] = use([found[text].pop(i) for i in range(len(many[text]))])
            yield from (made[text] for text in range(len(many)))

    def _rows(self, batch: int) -> int:
        """How many sequences can run together: where the graph cannot tell padding, one."""
        graph = self.model.module.main
        tokens = graph.input_for(TOKENS) if graph is not None else None
        if graph is None or tokens is None:
            raise BindError("the model has no graph that reads tokens")
        if isinstance(tokens.type.shape[0], int):
            return tokens.type.shape[0]
        return batch if _tells_padding(graph) else 1

    def _forward(self, asked: Sequence[Asked]) -> list[Outputs]:
        """The outputs of each sequence, without those of padding."""
        graph = self.model.module.main
        assert graph is not None
        tokens, types = graph.input_for(TOKENS), graph.input_for(TOKEN_TYPES)
        assert tokens is not None
        rows, length = (d if isinstance(d, int) else 0 for d in tokens.type.shape)
        counts = [len(a.ids) for a in asked] + [1] * (rows - len(asked))
        longest = length or max(counts)
        if not length and _tells_padding(graph):  # a target that compiles for each length rounds up
            longest = max(longest, min(self.model.plain.length(longest), self.model.context or 1 << 30))
        ids, beside = (np.zeros((len(counts), longest), np.int32) for _ in range(2))
        for b, one in enumerate(asked):
            ids[b, : counts[b]] = one.ids
            beside[b, : counts[b]] = one.types or 0
        more: dict[str, Any] = {types.name: beside} if types is not None else {}
        outputs = self.model.forward(ids, np.array(counts, np.int32), **more)
        by_token = {name for name, v in graph.outputs.items() if v.type.shape[1:2] == tokens.type.shape[1:]}
        return [
            {name: x[b, : counts[b]] if name in by_token else x[b] for name, x in outputs.items()}
            for b in range(len(asked))
        ]

    @property
    def _embedding(self) -> str | None:
        """The output that is one vector for a text."""
        graph = self.model.module.main
        return next((n for n, role in graph.roles.items() if role == EMBEDDING), None) if graph is not None else None

    # ----------------------------------------------------------------------------------------------- sequences to texts

    def write(
        self, asked: Iterable[Asked], limit: int, sampler: Sampler = greedy, batch: int = 16
    ) -> Iterator[list[int]]:
        """The new tokens behind each sequence, in their order: at most `limit`, and no more than the context holds."""
        prompts = iter(asked)
        while some := [a.ids for a in islice(prompts, batch)]:
            yield from self.model.generate_batch(some, [self.room(ids, limit) for ids in some], sampler)

    def written(self, ids: Sequence[int], stops: Sequence[str] = ()) -> str:
        """The text of new tokens, up to the first of `stops`."""
        if self.tokenizer is None:
            return " ".join(map(str, ids))
        return "".join(until([self.tokenizer.decode(list(ids))], stops))


def in_language(facts: Facts, tokenizer: Tokenizer | None, token: str) -> Facts:
    """The facts of a model whose answers begin with a token: a language to translate to. Raises ValueError."""
    if facts.decoder_start is None:
        raise ValueError(f"{token!r} begins no answer: the model goes on from the prompt, by one stack for both")
    id = tokenizer.id_of(token) if tokenizer is not None else None
    if id is None:
        raise ValueError(f"{token!r} is no token of the model, and so no language of it")
    others = [rule for rule in facts.rules if not rule.startswith("forced_bos_token_id=")]
    return replace(facts, rules=(*others, f"forced_bos_token_id={id}"))


def _tells_padding(graph: Graph) -> bool:
    return graph.input_for(COUNT) is not None or graph.input_for(MASK) is not None
