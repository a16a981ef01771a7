"""The law: whatever the batch, the chunk, the other rows, the threads, the capacity, a token has the same bits.

On the NumPy backend, by default, where the CPU has an instruction set that the kernels know.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import burnish
from burnish.backends.native.cpu import instruction_set
from burnish.backends.native.threads import team
from burnish.backends.target import TARGETS, make_backend
from burnish.ir import Module
from burnish.runtime.session import feed, read_source
from burnish.testing import logits_by_steps
from tests import models
from tests.packed_files import as_gguf

pytestmark = pytest.mark.skipif(instruction_set() is None, reason="this CPU has no instruction set with kernels")

COUNTS = (19, 6, 11)
#: sizes that every format divides
SIZES = {"hidden_size": 256, "intermediate_size": 512}
GEMMA = {**SIZES, "head_dim": 64}
MIXTRAL = {
    **SIZES, "vocab_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_local_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip
DECODERS: dict[str, Any] = {
    "decoder": lambda: models.llama(**SIZES),
    "windows": lambda: models.gemma2(**GEMMA),
    "experts": lambda: models.made("MixtralForCausalLM", **MIXTRAL),
}
STORED = ("f32", "bf16", "q4_0", "q8_0", "int8")
#: K-quants are read, of GGUF files, and not made
CASES = [*((name, stored) for name in DECODERS for stored in STORED), ("decoder", "q4_k"), ("decoder", "q6_k")]
SOON = [("decoder", "f32"), ("decoder", "q4_k"), ("windows", "q4_0"), ("experts", "bf16")]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Folders of checkpoints by model and element type, filled when they are asked for."""
    return Folders(tmp_path_factory.mktemp("models"))


class Folders(dict[tuple[str, str], Path]):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, Any] = {}

    def __missing__(self, key: tuple[str, str]) -> Path:
        name, dtype = key
        makers = DECODERS | {"encoder": lambda: models.bert(**SIZES), "encoder-decoder": lambda: models.t5(**T5)}
        model = makers[name]()
        if dtype.endswith("_k"):
            self[key] = as_gguf(self.folder / f"{dtype}.gguf", model, {"": dtype.upper()})
            return self[key]
        self[key] = models.saved(model.bfloat16() if dtype == "bf16" else model, self.folder / f"{name}-{dtype}")
        return self[key]


T5 = {"d_model": 256, "d_ff": 512, "d_kv": 64}


@pytest.fixture(params=(1, 2, 3))
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """How many threads programs run on."""
    monkeypatch.setenv("BURNISH_THREADS", str(request.param))
    team.cache_clear()
    yield request.param
    team.cache_clear()


def prepared(folder: Path, stored: str, *passes: str) -> Module:
    """A checkpoint as the NumPy target runs it, its weights stored so."""
    quantized = [] if stored in ("f32", "bf16", "q4_k", "q6_k") else [f"quantize-weights{{recipe={stored}}}"]
    ready = TARGETS["numpy"].activation_passes("")
    return burnish.optimize(burnish.load(folder), ",".join(["default", *quantized, *passes, *ready]))


def steps_of(name: str) -> tuple[list[list[int]], list[list[int]]]:
    """Which sequences are fed, as tokens, and how many of each go in at a time."""
    rows = [models.tokens((n,), seed=n).tolist() for n in COUNTS]
    return {
        "one after the other": (rows[:1], [[1]] * COUNTS[0]),
        "in chunks": (rows[:1], [[7], [1], [8], [3]]),
        "in company": (rows, [list(COUNTS)]),
        "in company, in chunks": (rows, [[5, 2, 1], [1, 4, 0], [9, 0, 10], [4, 0, 0]]),
    }[name]


def bits(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


@pytest.mark.parametrize(
    ("name", "stored"), [pytest.param(*c, marks=() if c in SOON else pytest.mark.slow) for c in CASES]
)
def test_a_decoder(name: str, stored: str, sources: dict[tuple[str, str], Path], threads: int) -> None:
    folder = sources[name, stored if stored in ("bf16", "q4_k", "q6_k") else "f32"]
    backend = make_backend("numpy", prepared(folder, stored, "from-start", "insert-state"))
    rows, _ = steps_of("in company")
    alone = [logits_by_steps(backend, "forward", [row], [[len(row)]]) for row in rows]
    for feeding in ("one after the other", "in chunks", "in company", "in company, in chunks"):
        found = logits_by_steps(backend, "forward", *steps_of(feeding))
        wrong = [k for k, x in found.items() if (bits(x) != bits(alone[k[0]][0, k[1]])).any()]
        assert not wrong, f"{feeding}: tokens {wrong}"


@pytest.mark.parametrize("stored", STORED)
def test_an_encoder(stored: str, sources: dict[tuple[str, str], Path], threads: int) -> None:
    backend = make_backend("numpy", prepared(sources["encoder", "bf16" if stored == "bf16" else "f32"], stored))
    graph = backend.module.main
    assert graph is not None
    ids, counts = models.tokens((3, max(COUNTS))), np.array(COUNTS, "i4")
    name = next(iter(graph.outputs))
    together = backend(graph.name, feed(graph, ids, counts, np.zeros(3, "i4")))[name]
    for b, n in enumerate(COUNTS):
        alone = backend(graph.name, feed(graph, ids[b : b + 1, :n], counts[b : b + 1], np.zeros(1, "i4")))[name]
        assert (bits(together[b, :n]) == bits(alone[0])).all(), f"sequence {b}"


@pytest.mark.parametrize("stored", STORED)
def test_an_encoder_decoder(stored: str, sources: dict[tuple[str, str], Path], threads: int) -> None:
    folder = sources["encoder-decoder", "bf16" if stored == "bf16" else "f32"]
    backend = make_backend("numpy", prepared(folder, stored, "from-start", "insert-state"))
    graph = backend.module.main
    assert graph is not None
    source, counts = models.tokens((3, max(COUNTS)), seed=1), np.array(COUNTS[::-1], "i4")
    rows, _ = steps_of("in company")
    given = read_source(backend, backend.module.feeders, source, counts)
    together = logits_by_steps(backend, graph.name, *steps_of("in company, in chunks"), given)
    for b, row in enumerate(rows):
        given = read_source(backend, backend.module.feeders, source[b : b + 1, : counts[b]], counts[b : b + 1])
        alone = logits_by_steps(backend, graph.name, [row], [[len(row)]], given)
        assert all((bits(together[b, i]) == bits(alone[0, i])).all() for i in range(len(row))), f"sequence {b}"


def test_what_is_computed_otherwise_has_other_bits() -> None:
    """The law is not trivial: NumPy's products of the same rows differ with their number."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((64, 300), "f4"), rng.standard_normal((300, 256), "f4")
    whole = x @ w
    assert any((bits(x[:n] @ w) != bits(whole[:n])).any() for n in range(1, 64))
