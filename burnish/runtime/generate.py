"""From a prompt to a text: what goes into a session step by step, and what comes out of it token by token."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from burnish.backends.binding import BindError
from burnish.ir.signature import LOGITS
from burnish.runtime.finite import require_finite
from burnish.runtime.sampling import Sampler
from burnish.runtime.session import CHUNK, Session, counts_of

__all__ = ["Watch", "generate", "prefill"]

Watch = Callable[[int, np.ndarray], None]  # number of the step, logits[V]


def prefill(session: Session, ids: np.ndarray, count: np.ndarray | None = None, probe: object = None) -> np.ndarray:
    """Put ids[B, S] (right-padded) behind what the session holds -> f32 logits[B, V] of each last real token.

    A long prompt goes in chunks. Raises BindError where the session has no room, or there is no token.
    """
    counts = counts_of(ids, count)
    session.check_room(counts)
    length = session.past + counts
    roles = session.backend.module.graphs[session.graph].roles
    name = next(name for name, role in roles.items() if role == LOGITS)
    logits: np.ndarray | None = None
    for at in range(0, ids.shape[1], CHUNK):
        real = np.clip(counts - at, 0, min(CHUNK, ids.shape[1] - at)).astype(np.int32)
        with np.errstate(all="ignore"):  # whoever uses the logits looks at them
            results = session.step(ids[:, at : at + CHUNK], real, probe, length=length)
        step = session.backend.to_numpy(results[name])[:, 0].astype(np.float32)
        logits = step if logits is None else np.where((real > 0)[:, None], step, logits)
    if logits is None:
        raise BindError("there is no token to go on from")
    return logits


def generate(
    session: Session,
    ids: np.ndarray,
    count: np.ndarray,
    limits: Sequence[int],
    samplers: Sequence[Sampler],
    ends: Collection[int],
    watch: Watch | None = None,
) -> Iterator[list[int | None]]:
    """Token after token behind each row of ids[B, S], of which count[b] are real; None for a row that has ended.

    A row ends before one of `ends`, which is not part of its text, or at its limit. `watch` sees the first row's
    logits. A session may hold the beginning of the rows, as much of each. Raises NotFinite where there are no logits to
    choose from.
    """
    so_far = [row[:n].tolist() for row, n in zip(ids, count, strict=True)]
    ids, count = ids[:, (held := int(session.past[0])) :], count - held
    running = list(range(len(ids)))
    for i in range(max(limits)):
        logits = prefill(session, ids, count)
        tokens: list[int | None] = [None] * len(so_far)
        for b in running:
            if watch is not None and b == 0:
                watch(i, logits[b])
            require_finite(logits[b], f"the logits for new token {i + 1}")
            token = int(samplers[b](logits[b], so_far[b]))
            if token not in ends:
                tokens[b] = token
                so_far[b].append(token)
        running = [b for b in running if tokens[b] is not None]
        if not running:
            return
        yield tokens
        ids = np.array([[token or 0] for token in tokens], np.int32)
        running = [b for b in running if i + 1 < limits[b]]
        count = np.array([b in running for b in range(len(tokens))], np.int32)
