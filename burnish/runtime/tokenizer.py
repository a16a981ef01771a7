"""Text to ids and back, by way of the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from burnish.backends.binding import BindError
from burnish.frontends.config import LoadError
from burnish.frontends.source import read_tokenizer
from burnish.frontends.tokenizers.chat_template import ChatTemplate, read_chat_template
from burnish.ir.signature import Facts
from burnish.runtime.answers import Asked

__all__ = ["Tokenizer", "prompted"]


class Tokenizer:
    """What the text of a `tokenizer.json` says; `where` it came from. Raises LoadError for another text.

    `chat` is what makes one text of a conversation, for a model that was trained on some.
    """

    def __init__(self, text: str, where: str, chat: ChatTemplate | None = None) -> None:
        import tokenizers

        self.text, self.where, self.chat = text, where, chat
        try:
            self._inner = tokenizers.Tokenizer.from_str(text)
        except Exception as e:  # the library raises the base class
            raise LoadError(f"{where}: is not a tokenizer: {str(e)[:200]}") from None
        self._inner.no_padding()
        self._inner.no_truncation()

    @classmethod
    def load(cls, file: Path) -> Tokenizer:
        """That of a file, with the chat template beside it. Raises LoadError."""
        return cls(read_tokenizer(file), str(file), read_chat_template(file.parent))

    @property
    def about(self) -> str:
        """Its kind, and how many tokens it knows: `BPE, 1,024 tokens`."""
        return f"{type(self._inner.model).__name__}, {self._inner.get_vocab_size():,} tokens"

    def encode(self, text: str, ends: bool = True) -> list[int]:
        """Ids, with the special tokens that the tokenizer adds at the `ends`. Raises BindError for what is no text."""
        try:
            text.encode()
        except UnicodeEncodeError as e:
            raise BindError(f"not a text: {e}") from None
        return list(self._inner.encode(text, add_special_tokens=ends).ids)

    def encode_plain(self, text: str) -> list[int]:
        """Ids of a text in which added tokens count as what is written there, and none is added."""
        if self._inner.normalizer is not None:
            text = self._inner.normalizer.normalize_str(text)
        words = [text]
        if self._inner.pre_tokenizer is not None:
            words = [word for word, _ in self._inner.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for word in words for token in self._inner.model.tokenize(word)]

    def added(self) -> dict[str, tuple[int, bool]]:
        """The tokens that are found in a text as they stand: their ids, and whether they are special."""
        return {t.content: (id, t.special) for id, t in self._inner.get_added_tokens_decoder().items()}

    def ask(self, text: str, pair: str | None = None, longest: int | None = None) -> Asked:
        """A text, or a pair, with the special tokens that the tokenizer adds.

        Cut to `longest` tokens, theirs included, of a pair the longer text first. Raises ValueError where that leaves
        no room for a token of the text, UnicodeEncodeError for no text.
        """
        (text + (pair or "")).encode()
        added = self._inner.num_special_tokens_to_add(pair is not None)
        if longest is not None and longest <= added:
            raise ValueError(f"texts are cut to {longest} tokens, of which the tokenizer adds {added}")
        if longest is not None:
            self._inner.enable_truncation(longest)
        try:
            encoded = self._inner.encode(text, pair)
        finally:
            self._inner.no_truncation()
        return self._asked(encoded, (text,) if pair is None else (text, pair))

    def windows(self, first: str, second: str, longest: int, shared: int) -> list[Asked]:
        """A pair as often as it takes for windows of the second text to hold all of it.

        Each has at most `longest` tokens, the first text's and special ones included, and begins with the `shared` last
        ones of the one before it. Raises ValueError where the first text leaves no room for that.
        """
        (first + second).encode()
        room = longest - len(self._inner.encode(first, "").ids)
        if room <= shared:
            raise ValueError(f"the first text leaves room for {room} tokens of the second in windows of {longest}")
        self._inner.enable_truncation(longest, stride=shared, strategy="only_second")
        try:
            encoded = self._inner.encode(first, second)
        finally:
            self._inner.no_truncation()
        return [self._asked(e, (first, second)) for e in (encoded, *encoded.overflowing)]

    def _asked(self, encoded: Any, texts: tuple[str, ...]) -> Asked:
        masks = [i for i, t in self._inner.get_added_tokens_decoder().items() if t.content in ("[MASK]", "<mask>")]
        return Asked(
            list(encoded.ids),
            list(encoded.type_ids),
            texts,
            list(encoded.offsets),
            list(encoded.sequence_ids),
            list(encoded.word_ids),
            masks[0] if masks else None,
            lambda ids: str(self._inner.decode(list(ids), skip_special_tokens=False)),
        )

    def id_of(self, token: str) -> int | None:
        """The id of a token, as the tokenizer writes it."""
        id: int | None = self._inner.token_to_id(token)
        return id

    def decode(self, ids: list[int]) -> str:
        """Text, without special tokens."""
        return str(self._inner.decode(ids))

    def stream(self) -> Callable[[int | None], str]:
        """A function from each next token to the text that is new; None asks for what is held back.

        A token may end inside a character: such text waits until it is whole. What a token adds depends on the one
        before it (a space, say), so each piece is decoded behind the last one.
        """
        ids: list[int] = []  # those of the piece that was given last, then those that are new
        known = 0  # how many of them are the former

        def more(token: int | None) -> str:
            nonlocal known
            if token is not None:
                ids.append(token)
            text, before = self.decode(ids), self.decode(ids[:known])
            if token is not None and (text.endswith("�") or len(text) <= len(before)):
                return ""
            del ids[:known]
            known = len(ids)
            return text[len(before) :]

        return more


def prompted(facts: Facts, text: str, name: str | None = None) -> str:
    """The text behind the prompt of that name; unless one is named, behind the model's default, if it has one.

    Raises ValueError for a name that the model does not know.
    """
    known = dict(zip(facts.prompt_names, facts.prompts, strict=False))
    if name is None:
        return known.get(facts.default_prompt, "") + text
    if name not in known:
        raise ValueError(f"the model has no prompt {name!r}; it has {', '.join(known) or 'none'}")
    return known[name] + text
