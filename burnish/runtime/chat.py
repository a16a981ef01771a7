"""Conversations: messages that become tokens, and a session that keeps what it has read of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from burnish.backends.binding import BindError
from burnish.frontends.config import LoadError
from burnish.ir.signature import Facts
from burnish.runtime.chat_template import Message, rendered
from burnish.runtime.continuation import Continuation
from burnish.runtime.sampling import Sampler, greedy

if TYPE_CHECKING:
    from burnish.frontends.tokenizers.chat_template import ChatTemplate
    from burnish.runtime.executable import Executable
    from burnish.runtime.session import Session
    from burnish.runtime.tokenizer import Tokenizer

__all__ = ["Chat", "conversation_ids", "turn_ends"]

#: put around what is a control token by its letters alone; Unicode leaves both to programs, no text has them
_BEGIN, _END = "\ufdd0", "\ufdd1"
SMALLEST = 1024  # tokens that a session has room for, where the context allows it: it doubles when they are not enough


class Chat:
    """A conversation with a model. `messages` are what was said so far, and may be changed between two turns.

    What the session has read of a conversation is not read again: of each turn it reads what is new, from the first
    token on in which the text differs from what it holds. The answers are those of a run of the whole text.
    `variables` are what else the template may know. Raises LoadError for a model without a chat template.
    """

    def __init__(self, model: Executable, tokenizer: Tokenizer, system: str = "", **variables: Any) -> None:
        self.model, self.tokenizer, self.system, self.variables = model, tokenizer, system, variables
        self.ends = turn_ends(tokenizer, model.module.facts)
        self.read = 0  # the tokens that the last turn read; the rest of its prompt was held already
        self.reset()

    def reset(self) -> None:
        """Begin anew, behind the same system message."""
        self.messages: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        self._session: Session | None = None
        self._held: list[int] = []

    def send(self, text: str, limit: int = 1024, sampler: Sampler = greedy, stops: Sequence[str] = ()) -> Iterator[str]:
        """The answer to a message, in pieces as it is made, of at most `limit` tokens.

        Whoever closes the iterator ends the answer; what was said by then is part of the conversation. Raises LoadError
        where the template refuses the message, BindError where the context is full: the conversation is then as before.
        """
        yield from self.answer(text, limit, stops).pieces(sampler)

    def answer(self, text: str, limit: int = 1024, stops: Sequence[str] = (), top: int | None = None) -> Answering:
        """The same, with the answer's tokens and all that a `Continuation` knows."""
        messages = [*self.messages, {"role": "user", "content": text}]
        ids = conversation_ids(self.tokenizer, messages, **self.variables)
        self.model.check_ids(ids)
        if (context := self.model.context) is not None:
            if len(ids) >= context:
                raise BindError(f"the conversation has {len(ids)} tokens, and the model's context is {context}")
            limit = min(limit, context - len(ids))
        return Answering(self, messages, ids, limit, Continuation(self.model, self.tokenizer, stops, top, self.ends))

    def _session_for(self, ids: Sequence[int], limit: int) -> Session:
        """A session with room for the answer that holds the beginning of `ids`, if possible all but the last."""
        room = len(ids) + limit
        session, self._session = self._session, None  # until a turn has ended well
        common = next((i for i, (a, b) in enumerate(zip(self._held, ids[:-1], strict=False)) if a != b), None)
        common = min(len(self._held), len(ids) - 1) if common is None else common
        if session is None or not session.rewind(common):
            size = max(room, SMALLEST)
            return self.model.start(1, size if (most := self.model.context) is None else max(room, min(size, most)))
        return session if room <= session.capacity else session.grown(max(room, 2 * session.capacity))


class Answering:
    """One turn of a conversation."""

    def __init__(self, chat: Chat, messages: list[Message], ids: list[int], limit: int, text: Continuation) -> None:
        self.chat, self.messages, self.ids, self.limit, self.text = chat, messages, ids, limit, text

    def pieces(self, sampler: Sampler = greedy, **options: Any) -> Iterator[str]:
        """The text as it comes. `options` are those of `Continuation.write`."""
        chat = self.chat
        session = chat._session_for(self.ids, self.limit)
        held = int(session.past[0])
        try:
            yield from self.text.write(self.ids, self.limit, sampler, session=session, **options)
        except GeneratorExit:
            self._end(session, held)
            raise
        self._end(session, held)

    def _end(self, session: Session, held: int) -> None:
        chat = self.chat
        chat._session, chat._held = session, [*self.ids, *self.text.ids][: int(session.past[0])]
        chat.read = len(self.ids) - held
        chat.messages = [*self.messages, {"role": "assistant", "content": self.text.text}]


def _template_of(tokenizer: Tokenizer) -> ChatTemplate:
    if tokenizer.chat is None:
        raise LoadError(
            f"{tokenizer.where} comes without a chat template: the model was not made for conversations; "
            "`burnish run` goes on from a text"
        )
    return tokenizer.chat


def turn_ends(tokenizer: Tokenizer, facts: Facts) -> frozenset[int]:
    """The tokens that end an answer: the model's own, the tokenizer's `eos_token`, and the template's end of a turn."""
    template, added, ends = _template_of(tokenizer), tokenizer.added(), set(facts.eos)
    if (eos := template.tokens.get("eos_token")) in added:
        ends.add(added[eos][0])
    try:  # what stands behind an answer that is over
        messages = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
        _, _, behind = rendered(template, messages, add_generation_prompt=False).rpartition("answer")
    except LoadError:  # of a template that wants other messages
        return frozenset(ends)
    first = tokenizer.encode(behind.strip(), ends=False)[:1]
    return frozenset(ends | ({id for id, _ in added.values()} & set(first)))


def conversation_ids(tokenizer: Tokenizer, messages: Sequence[Message], **variables: Any) -> list[int]:
    """The tokens of a conversation up to where the next answer begins; the template alone says what begins the text.

    Control tokens are those that the template writes. What looks like one in a message is letters, as with
    `sanitize_control_tokens` of transformers (which, as llama.cpp does, takes it for the token unless asked). Raises
    LoadError where there is no template, it refuses, or the tokenizer has no letters for such a token.
    """
    chat = _template_of(tokenizer)
    template, added = chat.text(tools=variables.get("tools") is not None), tokenizer.added()
    control = [t for t, (_, special) in added.items() if special or (t in template and not t.isspace())]
    found = _any_of(control)
    given = {"messages": list(messages), **variables}
    if not _contains(given, found):
        return tokenizer.encode(rendered(chat, **given), ends=False)
    first, *rest = re.split(
        f"{_BEGIN}({found.pattern}){_END}|[{_BEGIN}{_END}]", rendered(chat, **_marked(given, found))
    )
    ids = tokenizer.encode(first, ends=False)
    for i, piece in enumerate(rest):
        if piece:
            ids += _behind_a_line(tokenizer, piece, is_plain := i % 2 == 0)
            if is_plain and added[piece][0] in ids[-len(piece) :]:
                raise LoadError(f"a message holds the control token {piece!r}, which the tokenizer cannot spell")
    return ids


def _any_of(texts: Sequence[str]) -> re.Pattern[str]:
    """The longest that fits counts."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


def _contains(given: object, found: re.Pattern[str]) -> bool:
    if isinstance(given, str):
        return found.search(given) is not None
    values = given.values() if isinstance(given, Mapping) else given if isinstance(given, list | tuple) else ()
    return any(_contains(v, found) for v in values)


def _marked(given: Any, found: re.Pattern[str]) -> Any:
    """The same with marks around each text that is `found`; marks that somebody else has put are taken out."""
    if isinstance(given, str):
        return found.sub(f"{_BEGIN}\\g<0>{_END}", re.sub(f"[{_BEGIN}{_END}]", "", given))
    if isinstance(given, Mapping):
        return {k: _marked(v, found) for k, v in given.items()}
    return [_marked(v, found) for v in given] if isinstance(given, list | tuple) else given


def _behind_a_line(tokenizer: Tokenizer, text: str, plain: bool) -> list[int]:
    """The ids of a text inside of another: at the beginning of one, some tokenizers put a space."""

    def encode(text: str) -> list[int]:
        return tokenizer.encode_plain(text) if plain else tokenizer.encode(text, ends=False)

    line, ids = tokenizer.encode("\n", ends=False), encode("\n" + text)
    return ids[len(line) :] if ids[: len(line)] == line else encode(text)
