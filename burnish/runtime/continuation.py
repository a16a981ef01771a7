"""What a model writes behind a prompt: text as it comes, and afterwards what it is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.runtime.generate import Watch
from burnish.runtime.sampling import LogProb, Sampler, greedy, log_probs
from burnish.runtime.stop_strings import until

if TYPE_CHECKING:
    from burnish.runtime.executable import Executable
    from burnish.runtime.session import Session
    from burnish.runtime.tokenizer import Tokenizer

__all__ = ["Continuation"]


@dataclass
class Continuation:
    """A text that goes on from a prompt, or ids where there is no tokenizer.

    It ends before the first of `stops`, wherever in a token it begins, at a token that ends a text (`ends`, if given,
    and the module's otherwise), or at the limit.
    With `top`, the log probability of each token is kept, and of the `top` likeliest.
    """

    model: Executable
    tokenizer: Tokenizer | None
    stops: Sequence[str] = ()
    top: int | None = None
    ends: Collection[int] | None = None
    ids: list[int] = field(default_factory=list, init=False)  # all that were made, a stop's among them
    text: str = field(default="", init=False)
    log_probs: list[tuple[LogProb, list[LogProb]]] = field(default_factory=list, init=False)
    finish_reason: str = field(default="", init=False)  # "stop" or "length", as others call it

    def write(
        self,
        prompt: Sequence[int],
        limit: int,
        sampler: Sampler = greedy,
        watch: Watch | None = None,
        session: Session | None = None,
        lookup: int = 0,
    ) -> Iterator[str]:
        """The text in pieces, each as soon as it is clear that it belongs to it; at most `limit` tokens of it.

        A `session` holds the beginning of the prompt. `lookup` tokens are tried at once, see `Executable.generate`.
        """
        self.finish_reason = "stop"
        for piece in until(self._pieces(prompt, limit, sampler, watch, session, lookup), self.stops):
            self.text += piece
            yield piece

    def _pieces(
        self,
        prompt: Sequence[int],
        limit: int,
        sampler: Sampler,
        watch: Watch | None,
        session: Session | None,
        lookup: int,
    ) -> Iterator[str]:
        latest = np.empty(0)

        def see(step: int, logits: np.ndarray) -> None:
            nonlocal latest
            latest = logits
            if watch is not None:
                watch(step, logits)

        more = self.tokenizer.stream() if self.tokenizer else (lambda t: "" if t is None else f"{t} ")
        for token in self.model.generate(prompt, limit, sampler, self.ends, see, session, lookup):
            self.ids.append(token)
            if self.top is not None:
                self.log_probs.append(log_probs(latest, token, self.top))
            yield more(token)
        yield more(None)
        self.finish_reason = "length" if len(self.ids) == limit else "stop"

    def as_json(self) -> dict[str, Any]:
        """For machines: ids, text, why it ended, log probabilities where they were asked for."""
        report: dict[str, Any] = {"ids": self.ids, "finish_reason": self.finish_reason}
        if self.tokenizer is not None:
            report["text"] = self.text
        if self.top is not None:
            report["logprobs"] = [self._named(c) | {"top": [self._named(t) for t in top]} for c, top in self.log_probs]
        return report

    def table(self) -> str:
        """The log probabilities, a line for each token: its own, itself, the likeliest."""
        rows = [f"{'log p':>9}  token" + ("; the likeliest" if self.top else "")]
        for chosen, top in self.log_probs:
            others = ", ".join(f"{self._word(t.id)} {t.value:.4f}" for t in top)
            rows.append(f"{chosen.value:9.4f}  {self._word(chosen.id)}" + (f"; {others}" if others else ""))
        return "\n".join(rows)

    def _word(self, token: int) -> str:
        return str(token) if self.tokenizer is None else repr(self.tokenizer.decode([token]))

    def _named(self, token: LogProb) -> dict[str, Any]:
        text = {} if self.tokenizer is None else {"text": self.tokenizer.decode([token.id])}
        return {"id": token.id, **text, "logprob": round(token.value, 6)}
