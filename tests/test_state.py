"""State by real models: what comes out step by step is what transformers, or the plain graph, has for all at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import burnish
from burnish.backends.backend import Backend
from burnish.backends.target import make_backend
from burnish.frontends.architecture import Layers, build_module, parameters
from burnish.frontends.architectures.llama import Llama
from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import Config
from burnish.frontends.stored import Tensors
from burnish.frontends.templates.transformer import At
from burnish.ir import Module, Type, Value
from burnish.ir.dims import Sym
from burnish.ir.signature import LOGITS, TOKENS, Carry, Facts, Ring, Rows
from burnish.runtime.session import feed
from burnish.testing import check_architecture, logits_by_steps
from tests import models

LENGTH = 23  # the rings of windows of 7 and 4 are 6 and 3 rows: they wrap more than twice
FEEDINGS: dict[str, list[list[int]]] = {
    "chunks longer than the window": [[9] * 3, [9] * 3, [5] * 3],
    "one a step": [[1] * 3] * LENGTH,
    "each its own, some with nothing": [[5, 0, 9], [1, 8, 0], [10, 1, 1], [0, 7, 6], [7, 7, 7]],
}
MODELS: dict[str, Callable[[], Any]] = {
    "mistral, a window of 7": models.mistral,
    "mistral, a window of 4": lambda: models.mistral(sliding_window=4),
    "mistral, a window of 1": lambda: models.mistral(sliding_window=1),
    "gemma2, every other window of 7": models.gemma2,
    "gemma2, windows of 4": lambda: models.gemma2(sliding_window=4, layer_types=["sliding_attention"] * 3),
    "mamba": models.mamba,
}
STATES = {
    "mistral, a window of 7": {"k": Ring, "v": Ring},
    "mistral, a window of 4": {"k": Ring, "v": Ring},
    "mistral, a window of 1": {},
    "gemma2, every other window of 7": {"k": Ring | Rows, "v": Ring | Rows},
    "gemma2, windows of 4": {"k": Ring, "v": Ring},
    "mamba": {"conv": Ring, "h": Carry},
}
SAMPLE = [
    ("mistral, a window of 4", "insert-state", "chunks longer than the window"),
    ("mistral, a window of 1", "default,stateful", "each its own, some with nothing"),
    ("gemma2, every other window of 7", "default,stateful", "each its own, some with nothing"),
    ("gemma2, windows of 4", "insert-state", "one a step"),
    ("mamba", "insert-state", "each its own, some with nothing"),
]
EVERY = [(m, p, f) for m in MODELS for p in ("insert-state", "default,stateful") for f in FEEDINGS]


def near(ours: np.ndarray, theirs: np.ndarray, largest: np.ndarray, what: object) -> None:
    error = np.abs(ours - theirs).max() / np.abs(largest).max()
    assert error < models.WITHIN, f"{what}: {error:.1e} of the largest"


def check(runner: Backend, ids: np.ndarray, expected: np.ndarray, steps: list[list[int]]) -> None:
    """Every row that comes out, and the last of each sequence is among them."""
    found = logits_by_steps(runner, "forward", ids.tolist(), steps)
    assert {(b, LENGTH - 1) for b in range(len(ids))} <= set(found)
    for at, row in found.items():
        near(row, expected[at], expected, f"token {at[1]} of sequence {at[0]}")


def loaded(name: str, folder: Path) -> tuple[Module, np.ndarray, np.ndarray]:
    """A model, ids, and transformers' logits for them."""
    oracle, ids = MODELS[name](), models.tokens((3, LENGTH))
    return load_checkpoint(models.saved(oracle, folder)), ids, models.logits_of(oracle, input_ids=ids)


@pytest.mark.parametrize(
    ("name", "pipeline", "how"),
    [*SAMPLE, *(pytest.param(*c, marks=pytest.mark.parity) for c in EVERY if c not in SAMPLE)],
)
def test_steps_are_the_whole(name: str, pipeline: str, how: str, tmp_path: Path) -> None:
    module, ids, expected = loaded(name, tmp_path)
    stateful = burnish.optimize(module, pipeline)
    states = stateful.graphs["forward"].states.values()
    assert {v.name.rstrip("0123456789") for v in states} == set(STATES[name])
    assert all(isinstance(v.role, STATES[name][v.name.rstrip("0123456789")]) for v in states)
    check(make_backend("numpy", stateful), ids, expected, FEEDINGS[how])


# --------------------------------------------------------------------------------------------- rolled, and in packages

ROLLED = {name: {"k": Ring, "v": Ring} if kinds else {} for name, kinds in STATES.items()} | {"mamba": STATES["mamba"]}
XLA_SAMPLE = [("mistral, a window of 4", "chunks longer than the window", False)]
XLA_SAMPLE += [("mamba", "each its own, some with nothing", True)]
XLA_EVERY = [
    (m, f, packed) for m in MODELS if m != "gemma2, every other window of 7" for f in FEEDINGS for packed in (0, 1)
]


@pytest.mark.parametrize(
    ("name", "how", "packed"),
    [
        XLA_SAMPLE[0],
        pytest.param(*XLA_SAMPLE[1], marks=pytest.mark.slow),
        *(pytest.param(*c, marks=pytest.mark.parity) for c in XLA_EVERY if c not in XLA_SAMPLE),
    ],
)
def test_rolled_into_a_loop_each_kind_of_state_is_a_stack(name: str, how: str, packed: bool, tmp_path: Path) -> None:
    """Of XLA, in memory or from a package: each run of the loop has its own."""
    module, ids, expected = loaded(name, tmp_path / "checkpoint")
    module = burnish.optimize(module)
    if packed:
        burnish.compile(module, tmp_path / "package")
        module = burnish.load(tmp_path / "package")
    runner = burnish.executable(module, backend="xla").stateful
    graph = runner.module.graphs["forward"]
    (loop,) = (node for node in graph if node.op.name == "repeat")
    assert {v.name: type(v.role) for v in graph.states.values()} == ROLLED[name]
    assert all((v.role.batch, v.shape[0]) == (1, loop.op.count) for v in graph.states.values())
    check(runner, ids, expected, FEEDINGS[how])


@pytest.mark.parametrize("name", ["gemma2, every other window of 7"])
@pytest.mark.parametrize(
    "how", ["each its own, some with nothing", *(pytest.param(f, marks=pytest.mark.parity) for f in list(FEEDINGS)[:2])]
)
@pytest.mark.slow
def test_rings_beside_rows_from_a_package(name: str, how: str, tmp_path: Path) -> None:
    """Blocks that differ are not rolled; on XLA, too."""
    module, ids, expected = loaded(name, tmp_path / "checkpoint")
    burnish.compile(burnish.optimize(module), tmp_path / "package")
    for backend in ("numpy", "xla"):
        runner = burnish.executable(burnish.load(tmp_path / "package"), backend, activations="float").stateful
        kinds = [type(v.role) for v in runner.module.graphs["forward"].states.values()]
        assert kinds == [Ring, Ring, Rows, Rows, Ring, Ring]
        check(runner, ids, expected, FEEDINGS[how])


# ----------------------------------------------------------------------------------------------- states that are shared


CONFIG = {"vocab_size": 32, "num_key_value_heads": 2} | models.SIZES | {"hidden_size": 32}


@pytest.mark.parametrize("windows", [(0, 0), (3, 3), (3, 5), (0, 3)], ids=str)
def test_layers_that_attend_to_one_layers_keys(windows: tuple[int, int], registries: None) -> None:
    """One value has one state, however many read it, for each way to keep it."""

    class LlamaWithSharedKeys(Llama, replace=True):
        names = ("Llama",)

        def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
            if at.layer == 0:
                self.kept = k, v
            window = windows[at.layer]
            return op.attention(q, *self.kept, causal=True, scale=self.head_dim**-0.5, window=window)

    check_architecture(LlamaWithSharedKeys, CONFIG)
    module = burnish.optimize(llama_like(LlamaWithSharedKeys), "insert-state")
    assert len(module.graphs["forward"].states) == 2 * len(set(windows))


def llama_like(architecture: type[Llama]) -> Module:
    """Of the config, without numbers."""
    config = Config(CONFIG)
    return build_module("LlamaForCausalLM", config, Tensors(parameters(architecture, config)))


SLOPES = np.array([0.5, 0.25, 0.125, 0.0625], "f4")


def by_buckets(op: Layers, q: Value, bidirectional: bool = False) -> Value:
    """T5's, from a table of the layer's own."""
    length = q.shape[1]
    how = {"query": length, "key": length, "bidirectional": bidirectional, "max_distance": 6}
    return op.relative_bias("self_attn.relative_attention_bias", 8, 4, **how)


def by_distance(op: Layers, q: Value) -> Value:
    return op.alibi(op.constant(SLOPES), query=q.shape[1], key=q.shape[1])


BIASES: dict[str, Callable[[Layers, Value], Value]] = {
    "by buckets": by_buckets,
    "by buckets, times a number plus a number": lambda op, q: op.add(op.mul(by_buckets(op, q), 0.5), 0.25),
    "by buckets, scaled for each head": lambda op, q: op.mul(by_buckets(op, q), op.constant(SLOPES[:, None, None])),
    "by buckets both ways, and by distance": lambda op, q: op.add(by_buckets(op, q, True), by_distance(op, q)),
    "by distance": by_distance,
    "by distance, bounded": lambda op, q: op.maximum(by_distance(op, q), -1.5),
}


@pytest.mark.parametrize("name", BIASES)
def test_a_bias_by_distance_in_steps(name: str, registries: None) -> None:
    """As it is, or altered on the way to the attention; without rotations, it alone says where a token stands."""

    class LlamaWithBias(Llama, replace=True):
        names = ("Llama",)

        def rotate(self, op: Layers, x: Value, at: At) -> Value:
            return x

        def attend(self, op: Layers, q: Value, k: Value, v: Value, at: At) -> Value:
            scale = self.head_dim**-0.5
            return op.attention(q, k, v, None, None, BIASES[name](op, q), causal=True, scale=scale)

    check_architecture(LlamaWithBias, CONFIG)


@pytest.mark.parametrize("kernel", [1, 2, 4, 30])
def test_a_convolution_alone(kernel: int) -> None:
    """It looks back, at most as far as the sequences are long or further, and has no other state."""
    rng, (b, s) = np.random.default_rng(0), (Sym("B"), Sym("S"))
    module = Module(facts=Facts(task="text-generation"))
    graph = module.graph("forward")
    op, ids = graph.ops, graph.input("ids", Type("i32", (b, s)), TOKENS)
    x = op.embedding(ids, op.constant(rng.standard_normal((96, 8)).astype("f4")))
    y = op.causal_conv(x, op.constant(rng.standard_normal((8, kernel)).astype("f4")))
    graph.set_outputs({"logits": y}, {"logits": LOGITS})
    module.normalize()
    stateful = burnish.optimize(module, "insert-state")
    kinds = [(type(v.role), v.shape[1]) for v in stateful.graphs["forward"].states.values()]
    assert kinds == ([(Ring, kernel - 1)] if kernel > 1 else [])
    given, zeros = models.tokens((3, LENGTH)), np.zeros(3, "i4")
    expected = make_backend("numpy", module)("forward", feed(graph, given, zeros + LENGTH, zeros))["logits"]
    for steps in FEEDINGS.values():
        check(make_backend("numpy", stateful), given, expected, steps)


# --------------------------------------------------------------------------------------------------------- gone back to

COPIED: list[Any] = [("llama", "numpy"), ("mistral", "numpy"), ("mamba", "numpy")]
COPIED += [pytest.param("mistral", "xla", marks=pytest.mark.slow)]


@pytest.mark.parametrize(
    ("family", "backend"), [*COPIED, *(pytest.param(f, "xla", marks=pytest.mark.parity) for f in ("llama", "mamba"))]
)
def test_a_session_that_is_gone_back_to(family: str, backend: str, tmp_path: Path) -> None:
    """Rows, rings or carries: a draft that wraps the ring leaves nothing behind, whichever of the two goes on."""
    oracle, ids = getattr(models, family)(), models.tokens((2, LENGTH))
    module = burnish.optimize(load_checkpoint(models.saved(oracle, tmp_path)))
    executable = burnish.executable(module, backend, activations="float")
    session = executable.start(2, LENGTH)
    executable.prefill(ids[:, :9], session)
    draft = session.copy()
    other = models.tokens((2, LENGTH), seed=1)
    other[:, :9] = ids[:, :9]
    for tokens, goes_on in ((other, draft), (ids, session)):
        expected = models.logits_of(oracle, input_ids=tokens)
        for at in range(9, LENGTH):
            near(executable.decode(tokens[:, at], goes_on), expected[:, at], expected, f"token {at}")
