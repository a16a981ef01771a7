"""The tables of what is found by being defined: one definition a name, and what is added can be taken back."""

import sys
from types import ModuleType

import pytest

from burnish.backends.kernels import KERNELS
from burnish.backends.target import TARGETS
from burnish.backends.xla_kernels import XLA_KERNELS
from burnish.frontends import architectures
from burnish.frontends.architecture import ARCHITECTURES
from burnish.frontends.onnx_ops import TRANSLATIONS, translates
from burnish.frontends.source import SOURCES
from burnish.ir import FORMATS, LAYOUTS, OPS
from burnish.ir.registry import PLUGIN, Registry
from burnish.passes.engine import PASSES, RULES

assert architectures


class Apple:
    """A thing."""


class Pear:
    """Another, of another file."""

    __module__ = "orchard"


@pytest.fixture
def fruits(registries: None) -> Registry[type]:
    table: Registry[type] = Registry("fruit")
    table.add("apple", Apple)
    table.add("pear", Pear)
    return table


def test_it_is_a_mapping_in_the_order_of_definition(fruits: Registry[type]) -> None:
    assert list(fruits.items()) == [("apple", Apple), ("pear", Pear)]
    assert (len(fruits), "pear" in fruits, "plum" in fruits) == (2, True, False)
    assert (fruits.get("pear"), fruits.get("plum"), fruits.get("plum", Apple)) == (Pear, None, Apple)
    with pytest.raises(KeyError, match="plum"):
        fruits["plum"]


def test_a_name_is_defined_once(fruits: Registry[type]) -> None:
    with pytest.raises(TypeError, match=r"fruit 'apple' is defined in .*test_registry\.py and in orchard; say repl"):
        fruits.add("apple", Pear)
    fruits.add("apple", Pear, replace=True)
    assert list(fruits.items()) == [("apple", Pear), ("pear", Pear)]


def test_the_nearest_names_are_offered(fruits: Registry[type]) -> None:
    assert fruits.find("pear") is Pear
    with pytest.raises(LookupError, match=r"^there is no fruit 'peer'; did you mean pear\?$"):
        fruits.find("peer")
    with pytest.raises(ValueError, match=r"^there is no fruit 'peer'; did you mean peers, pear\?$"):
        fruits.find("peer", ValueError, others=["peers"])
    with pytest.raises(LookupError, match=r"^there is no fruit 'kumquat'$"):
        fruits.find("kumquat")


def test_a_snapshot_puts_back_every_registry_whenever_it_was_made(fruits: Registry[type]) -> None:
    saved = Registry.snapshot()
    later: Registry[type] = Registry("vegetable")
    later.add("leek", Apple)
    fruits.add("plum", Apple)
    fruits.add("pear", Apple, replace=True)
    for _ in range(2):
        Registry.restore(saved)
        assert (dict(fruits), dict(later)) == ({"apple": Apple, "pear": Pear}, {})


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        (OPS, "relu"),
        (RULES, "MulAddToFma"),
        (PASSES, "fuse-fma"),
        (FORMATS, "q4_0"),
        (LAYOUTS, "planes"),
        (KERNELS, "linear.int8"),
        (XLA_KERNELS, "linear.rows"),
        (TARGETS, "numpy"),
        (SOURCES, "onnx"),
        (ARCHITECTURES, "Llama"),
    ],
    ids=lambda x: x.kind if isinstance(x, Registry) else x,
)
def test_a_class_takes_anothers_place_only_where_it_says_so(registries: None, registry: Registry, name: str) -> None:
    known = registry[name]
    cls = known if isinstance(known, type) else type(known)
    same = {k: v for k, v in cls.__dict__.items() if k in ("__doc__", "name", "names")}
    with pytest.raises(TypeError, match=rf"{registry.kind} '{name}' is defined in .*\.py and in .*test_registry\.py"):
        type(cls.__name__, (cls,), same)
    assert registry[name] is known
    new = type(cls.__name__, (cls,), same, replace=True)
    assert registry[name] is new or type(registry[name]) is new
    before = dict(registry)
    type(f"_{cls.__name__}", (cls,), {"__doc__": "A base for others."})
    assert dict(registry) == before


def test_a_function_takes_anothers_place_only_where_it_says_so(registries: None) -> None:
    def relu(op: object, x: object) -> object:
        return x

    with pytest.raises(TypeError, match=r"operator 'Relu' is defined in .*onnx_ops\.py and in .*test_registry\.py"):
        translates("Relu")(relu)
    translates("Relu", replace=True)(relu)
    assert TRANSLATIONS["Relu"] is relu


def test_only_plugins_that_came_since_are_forgotten(registries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    before, since = f"{PLUGIN}before", f"{PLUGIN}since"
    monkeypatch.setitem(sys.modules, before, ModuleType(before))
    saved = Registry.snapshot()
    monkeypatch.setitem(sys.modules, since, ModuleType(since))
    Registry.restore(saved)
    assert before in sys.modules and since not in sys.modules
