"""Passes and targets together, which know nothing of each other."""

from __future__ import annotations

from collections.abc import Mapping

from burnish.backends.target import TARGETS
from burnish.passes.engine import Pass
from burnish.passes.pipelines import PIPELINES, Entries, parse_pipeline

__all__ = ["named_pipelines", "read_pipeline"]


def named_pipelines() -> Mapping[str, Entries]:
    """Every pipeline that has a name, and the passes of each target, under its name."""
    return PIPELINES | {name: target.passes for name, target in TARGETS.items()}


def read_pipeline(text: str) -> list[Pass]:
    """The passes of a pipeline's text, which may name targets. Raises PipelineError."""
    return parse_pipeline(text, named_pipelines())
