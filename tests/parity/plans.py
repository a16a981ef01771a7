"""What of a model NumPy runs, though compiled kernels run the rest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import burnish
from burnish.backends.kernels.kernel import NativeKernel
from burnish.backends.target import make_backend
from burnish.frontends.checkpoint import load_checkpoint
from tests.parity.model_type import ModelType

__all__ = ["in_numpy"]


def in_numpy(type: ModelType, variant: Mapping[str, Any]) -> Iterator[str]:
    """Each node of the plain form, and of the stateful one, that no compiled kernel runs: its op, and why."""
    with tempfile.TemporaryDirectory() as folder:
        module = load_checkpoint(type.made(variant).saved(Path(folder)))
        for pipeline in ("default", "default,stateful") if module.facts.makes_text else ("default",):
            backend = make_backend("numpy", burnish.optimize(module, pipeline))
            for graph in backend.module.graphs:
                for node, way in backend.ways(graph):
                    if not isinstance(way.kernel, NativeKernel):
                        yield f"{node.op.name}: {way.why_not or way.how}"
