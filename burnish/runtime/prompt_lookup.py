"""Speculation without a second model: what stood behind the same tokens before is tried, several tokens in one step.

What is tried is kept as far as the sampler chooses it. Where a step of several tokens has the bits of steps of one, the
text is the one that there would be without (prompt lookup decoding; transformers calls it so too).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from burnish.backends.backend import Backend
from burnish.backends.binding import BindError
from burnish.ir.signature import LOGITS, Length, Rows
from burnish.runtime.finite import require_finite
from burnish.runtime.generate import Watch, prefill
from burnish.runtime.sampling import Sampler
from burnish.runtime.session import Session

__all__ = ["generate_by_lookup", "look_up"]

LONGEST = 3  # tokens whose earlier occurrence is looked for; then fewer


def look_up(ids: Sequence[int], most: int) -> list[int]:
    """The `most` tokens that stood behind the last ones of `ids` before, or none: of the longest matches, the latest.

    Where the text ends before, it goes on as it would if it repeated itself.
    """
    text = np.asarray(ids)
    for n in range(min(LONGEST, len(text) - 1), 0, -1):
        windows = np.lib.stride_tricks.sliding_window_view(text[:-1], n)
        found = np.flatnonzero((windows == text[-n:]).all(axis=1))
        if len(found):
            again = text[int(found[-1]) + n :]
            return list(map(int, np.resize(again, most)))
    return []


def _check_rewinds(backend: Backend, graph: str) -> None:
    """Raise BindError where a graph's states cannot go back, or steps of several tokens round otherwise."""
    if not backend.same_bits:
        raise BindError("prompt lookup needs steps of several tokens that give the bits of steps of one; use numpy")
    inputs = backend.module.graphs[graph].inputs
    for name, value in backend.module.graphs[graph].states.items():
        if not isinstance(value.role, Rows):
            raise BindError(f"prompt lookup tries tokens and goes back behind them; state {name} ({value.role}) cannot")
    if any(isinstance(v.role, Length) for v in inputs):
        raise BindError("prompt lookup goes back behind tokens, and the model's rotation depends on how many there are")


def generate_by_lookup(
    session: Session,
    ids: np.ndarray,
    count: np.ndarray,
    samplers: Sequence[Sampler],
    ends: Collection[int],
    every_row: Backend,
    limit: int,
    most: int,
    watch: Watch | None = None,
) -> Iterator[int]:
    """Token after token behind the one text of ids[1, S], up to `most` of them tried at once; see `generate`.

    `every_row` runs the session's graph with the logits of every token, in steps of two lengths, for each of which it
    makes a plan: `most` tokens are tried, or none. Raises BindError where the session cannot.
    """
    _check_rewinds(session.backend, session.graph)
    so_far, (sampler,) = ids[0, : count[0]].tolist(), samplers
    name = next(k for k, role in every_row.module.graphs[session.graph].roles.items() if role == LOGITS)
    rows = prefill(session, np.array([so_far[int(session.past[0]) :]], np.int32))
    tried: list[int] = []
    made = 0
    while True:
        for row, wanted in zip(rows, [*tried, None], strict=True):
            if watch is not None:
                watch(made, row)
            require_finite(row, f"the logits for new token {made + 1}")
            token = int(sampler(row, so_far))
            if token in ends:
                return
            so_far.append(token)
            made += 1
            yield token
            if made == limit:
                return
            if token != wanted:
                break
        session.rewind(len(so_far) - 1)
        tried = look_up(so_far, most) if session.capacity - len(so_far) >= most else []
        step = np.array([[so_far[-1], *tried]], np.int32)
        whole = replace(session, backend=every_row)
        with np.errstate(all="ignore"):
            results = whole.step(step)
        session.past, session.length, session.states = whole.past, whole.length, whole.states
        rows = every_row.to_numpy(results[name])[0].astype(np.float32)
