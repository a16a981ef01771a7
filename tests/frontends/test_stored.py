"""Names and row maps: where a parameter lies in what a source stores."""

from typing import Any

import numpy as np
import pytest

from burnish.backends.target import make_backend
from burnish.frontends.architecture import ARCHITECTURES, Architecture, build_module, parameters
from burnish.frontends.config import Config, LoadError
from burnish.frontends.stored import CONTAINERS, Container, RowMap, Tensors, interleaved, joined, spelled, transposed
from burnish.ir.module import Module, WeightEntry
from burnish.ir.types import Type
from burnish.ir.weights import MemoryWeights

# ------------------------------------------------------------------------------------------------------------ spelling


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("model.layers.3.self_attn.o_proj.weight", "transformer.h.3.attn.c_proj.weight"),
        ("model.layers.13.mlp.up_proj.bias", "transformer.h.13.mlp.up_proj.bias"),
        ("model.norm.weight", "transformer.ln_f.weight"),
        ("model.norms.weight", "transformer.norms.weight"),  # whole parts of the path alone
        ("lm_head.weight", "lm_head.weight"),
        ("model.extra.weight", "transformer.weight"),  # one that is spelled as nothing
    ],
)
def test_whole_parts_of_a_path_are_replaced(name: str, stored: str) -> None:
    spelling = {"model": "transformer", "layers": "h", "self_attn": "attn", "norm": "ln_f", "extra": ""}
    assert spelled(name, spelling | {"self_attn.o_proj": "attn.c_proj"}) == (stored, None)


def test_the_longest_part_decides_and_what_was_replaced_is_not_replaced_again() -> None:
    assert spelled("a.b.c", {"a": "x", "a.b": "b.c", "c": "d"})[0] == "b.c.d"
    assert spelled("a.b.c", {})[0] == "a.b.c"


# ------------------------------------------------------------------------------------------------------------ row maps

SIZES = {"q": 6, "k": 2, "v": 4}
MAPS: dict[str, tuple[dict[str, Any], Any]] = {
    "joined": (joined("qkv", SIZES), lambda q, k, v: np.concatenate([q, k, v])),
    "joined, transposed": (
        joined("qkv", SIZES, transposed=True),
        lambda q, k, v: np.concatenate([q, k, v]).T if q.ndim == 2 else np.concatenate([q, k, v]),
    ),
    "for each of two heads": (
        interleaved("qkv", SIZES, 2),
        lambda q, k, v: np.concatenate([q[:3], k[:1], v[:2], q[3:], k[1:], v[2:]]),
    ),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("inner", [(), (5,)], ids=["biases", "matrices"])
def test_rows_are_taken_from_where_they_lie(name: str, inner: tuple[int, ...]) -> None:
    maps, store = MAPS[name]
    rng = np.random.default_rng(0)
    parts = {n: rng.standard_normal((rows, *inner)).astype("f4") for n, rows in SIZES.items()}
    stored = store(*parts.values())
    module = Module(source=MemoryWeights({"qkv": stored}))
    module.weights["qkv"] = WeightEntry(Type("f32", stored.shape))
    graph = module.graph("forward")
    for n, part in parts.items():
        assert maps[n].shape(part.shape) == stored.shape
        graph.set_outputs(graph.outputs | {n: maps[n].take(graph.ops, graph.ops.weight("qkv"))})
    module.normalize()
    for n, found in make_backend("numpy", module)("forward", {}).items():
        assert np.array_equal(found, parts[n]), n


def test_rows_that_do_not_divide_among_the_heads_are_refused() -> None:
    with pytest.raises(LoadError, match=r"qkv: the rows of .* do not divide into 4 heads"):
        interleaved("qkv", SIZES, 4)
    assert transposed("w").shape((3, 4)) == (4, 3)
    assert RowMap("w").shape((3, 4)) == (3, 4)


# ---------------------------------------------------------------------------------------------------------- containers


@pytest.fixture
def halved(registries: None) -> type[Architecture]:
    """An architecture of one product, and a container that stores weights as two summands."""

    class Halved(Container):
        name = "halved"

        def parameter(self, op: Any, name: str, shape: Any) -> Any:
            a, b = op.stored(f"{name}.a"), op.stored(f"{name}.b")
            return None if a is None or b is None else op.add(a, b)

    class Single(Architecture):
        names = ("Single",)
        spelling = {"lm_head": "out"}

        def forward(self, op: Any, ids: Any) -> Any:
            return op.embedding("table", ids, 8, 4)

    return Single


CONFIG = {"vocab_size": 8, "quantization_config": {"quant_method": "halved"}}


def test_a_parameter_is_what_its_container_makes_of_stored_tensors(halved: type[Architecture]) -> None:
    rng = np.random.default_rng(0)
    a, b, table = (rng.standard_normal((8, 4)).astype("f4") for _ in range(3))
    arrays = {"out.weight.a": a, "out.weight.b": b, "table.weight": table}
    types = {n: Type("f32", x.shape) for n, x in arrays.items()}
    config = Config(CONFIG)
    containers = [CONTAINERS["halved"](config.section("quantization_config"))]
    config.section("quantization_config").get("quant_method")
    module = build_module("SingleForCausalLM", config, Tensors(types, MemoryWeights(arrays), containers))
    ids = np.array([[1, 5]], "i4")
    logits = make_backend("numpy", module)("forward", {"ids": ids})["logits"]
    assert np.allclose(logits, table[ids] @ (a + b).T, rtol=0, atol=1e-5)
    assert module.weights["out.weight.a"].origin.sources == ("lm_head.a",)
    with pytest.raises(LoadError, match=r"missing tensors: 'out\.weight' \(nearest: 'out\.weight\.a'\)"):
        build_module("SingleForCausalLM", config, Tensors({k: types[k] for k in list(types)[::2]}, None, containers))


def test_a_container_must_give_the_shape_that_is_asked_for(halved: type[Architecture]) -> None:
    types = {f"out.weight.{n}": Type("f32", (8, 5)) for n in "ab"} | {"table.weight": Type("f32", (8, 4))}
    containers = [CONTAINERS["halved"](Config({}))]
    with pytest.raises(LoadError, match=r"'out\.weight' is f32\[8, 5\], but must have the shape of f32\[8, 4\]"):
        build_module("SingleForCausalLM", Config({"vocab_size": 8}), Tensors(types, None, containers))


def test_parameters_are_known_by_their_stored_names(halved: type[Architecture]) -> None:
    assert list(parameters(ARCHITECTURES["Single"], Config(CONFIG))) == ["table.weight", "out.weight"]
