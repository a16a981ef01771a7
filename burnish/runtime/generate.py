"""From a prompt to a text: what goes into a session step by step, and what comes out of it token by token."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from burnish.backends.binding import BindError
from burnish.ir.signature import LOGITS
from burnish.runtime.finite import require_finite
from burnish.runtime.sampling import Sampler
from burnish.runtime.session import Session, counts_of

__all__ = ["Watch", "generate", "prefill"]

CHUNK = 512  # tokens of a prompt that go through the graph at once

Watch = Callable[[int, np.ndarray], None]  # number of the step, logits[V]


def prefill(session: Session, ids: np.ndarray, count: np.ndarray | None = None, probe: object = None) -> np.ndarray:
    """Put ids[B, S] (right-padded) behind what the session holds -> f32 logits[B, V] of each last real token.

    A long prompt goes in chunks. Raises BindError where the session has no room, or there is no token.
    """
    counts = counts_of(ids, count)
    session.check_room(counts)
    roles = session.backend.module.graphs[session.graph].roles
    name = next(name for name, role in roles.items() if role == LOGITS)
    logits: np.ndarray | None = None
    for at in range(0, ids.shape[1], CHUNK):
        real = np.clip(counts - at, 0, min(CHUNK, ids.shape[1] - at)).astype(np.int32)
        with np.errstate(all="ignore"):  # whoever uses the logits looks at them
            results = session.step(ids[:, at : at + CHUNK], real, probe)
        step = session.backend.to_numpy(results[name])[:, 0].astype(np.float32)
        logits = step if logits is None else np.where((real > 0)[:, None], step, logits)
    if logits is None:
        raise BindError("there is no token to go on from")
    return logits


def generate(
    session: Session,
    ids: np.ndarray,
    limit: int,
    sampler: Sampler,
    ends: Collection[int],
    watch: Watch | None = None,
    before: Sequence[int] = (),
) -> Iterator[int]:
    """Token after token behind ids[1, S], until one of `ends`, which is not part of the text, or `limit` of them.

    `before` is what the session holds, for the sampler. Raises NotFinite where there are no logits to choose from.
    """
    so_far = [*before, *ids[0].tolist()]
    for i in range(limit):
        logits = prefill(session, ids)[0]
        if watch is not None:
            watch(i, logits)
        require_finite(logits, f"the logits for new token {i + 1}")
        token = int(sampler(logits, so_far))
        if token in ends:
            return
        yield token
        so_far.append(token)
        ids = np.array([[token]], np.int32)
