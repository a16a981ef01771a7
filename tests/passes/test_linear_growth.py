"""The pipeline's work grows with the number of blocks, not faster."""

from itertools import pairwise

import pytest

from burnish.passes.engine import Context
from burnish.passes.pipelines import parse_pipeline
from tests.onnx_like import onnx_like

pytestmark = pytest.mark.slow

BLOCKS = (8, 16, 32, 64)


@pytest.fixture
def every_module_round_trips() -> None:
    """Not here: it takes three times as long as the passes, and these blocks are those of smaller models, repeated."""


def optimised(blocks: int, pipeline: str = "default") -> Context:
    context = Context(onnx_like(blocks))
    for pass_ in parse_pipeline(pipeline):
        context.run(pass_)
    return context


def test_nodes_visited_grow_linearly() -> None:
    contexts = [optimised(n) for n in BLOCKS]
    visited = [c.visited for c in contexts]
    print(dict(zip(BLOCKS, visited, strict=True)))
    per_block = _slopes(visited)
    assert max(per_block) <= 1.01 * min(per_block), "each further block costs as much as the one before"
    assert len(set(_slopes([len(c.applied) for c in contexts]))) == 1


def test_every_block_is_recovered() -> None:
    graph = optimised(8).module.graphs["forward"]
    names = [n.op.name for n in graph]
    assert {k: names.count(k) for k in ("attention", "rope", "rms_norm", "silu", "positions")} == {
        "attention": 8,
        "rope": 16,
        "rms_norm": 17,
        "silu": 8,
        "positions": 1,
    }
    assert not {"softmax", "cos", "sin", "sigmoid", "gather", "transpose", "broadcast_to"} & {
        n.op.name for n in graph if n.time == "run"
    }


def _slopes(counts: list[int]) -> list[float]:
    """How much each further block adds."""
    points = pairwise(zip(BLOCKS, counts, strict=True))
    return [(b - a) / (m - n) for (n, a), (m, b) in points]
