"""What an architecture is: the plain forward of a model family, written down once.

    class Llama(Architecture):
        names = ("LlamaForCausalLM",)
        def forward(self, op: Ops, ids: Value) -> Value: ...

A method named after a graph (`forward`, or `encoder` and `decoder`) builds it; its parameters are the graph's inputs.
No cache, no mask, no phase, no quantization: passes add those.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from burnish.ir.dims import Sym
from burnish.ir.graph import Module, Ops, Value, WeightEntry
from burnish.ir.types import InferError, Type
from burnish.ir.weights import WeightSource

__all__ = ["ARCHITECTURES", "Architecture", "Config", "LoadError", "build_module"]

B, S, T = Sym("B"), Sym("S"), Sym("T")  # sequences, tokens, tokens of an encoder that a decoder attends to


class LoadError(ValueError):
    """A model that cannot be loaded: what is wrong, in which file or tensor, and what to do."""


class Config:
    """A `config.json`, read with checks: every field that is asked for is of the type and in the range asked for."""

    def __init__(self, values: Mapping[str, Any], where: str = "config.json") -> None:
        self.values, self.where = values, where

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(key) is not None

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise LoadError(f"{self.where}: {key} is missing")
            return default
        return value

    def integer(self, key: str, default: int | None = None, *, least: int = 1, most: int = 1 << 24) -> int:
        """An integer. Raises LoadError outside least..most."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise LoadError(f"{self.where}: {key} must be an integer from {least} to {most}, not {value!r}")
        return value

    def number(self, key: str, default: float | None = None, *, least: float = 0.0, most: float = 1e12) -> float:
        """A finite number. Raises LoadError outside least..most."""
        value = self._get(key, default)
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or not least <= value <= most:
            raise LoadError(f"{self.where}: {key} must be a number from {least:g} to {most:g}, not {value!r}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """A truth value."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise LoadError(f"{self.where}: {key} must be true or false, not {value!r}")
        return value

    def choice(self, key: str, choices: Iterable[str], default: str | None = None) -> str:
        """One of `choices`."""
        value, choices = self._get(key, default), list(choices)
        if value not in choices:
            raise LoadError(f"{self.where}: {key} {value!r} is not supported; supported are {', '.join(choices)}")
        return str(value)

    def section(self, key: str) -> Config:
        """A nested object; empty where it is missing."""
        value = self.values.get(key) or {}
        if not isinstance(value, Mapping):
            raise LoadError(f"{self.where}: {key} must be an object, not {value!r}")
        return Config(value, f"{self.where}: {key}")


class Architecture:
    """Base of all architectures, one file each in `frontends/architectures/`, registered by being defined.

    `names` are the values of `architectures` in a `config.json`. `inputs` gives types to parameters of graph methods
    that are not among the usual ones; `prefixes` are put before the names of a checkpoint's tensors, or taken off,
    where a base model was saved without its head.
    """

    names: ClassVar[tuple[str, ...]] = ()
    graphs: ClassVar[tuple[str, ...]] = ("forward",)
    #: name fragments of tensors that a checkpoint may hold and the forward does not read
    unused: ClassVar[tuple[str, ...]] = ()
    #: the output of each graph
    outputs: ClassVar[Mapping[str, str]] = {"forward": "logits", "encoder": "hidden", "decoder": "logits"}

    def __init_subclass__(cls) -> None:
        for name in cls.names:
            ARCHITECTURES[name] = cls

    def __init__(self, config: Config) -> None:
        self.config = config

    def attributes(self) -> dict[str, Any]:
        """Facts for those who run the model: `context` (tokens) and the like."""
        return {}

    def inputs(self) -> dict[str, Type]:
        """The types of the graphs' inputs by name."""
        return {
            "ids": Type("i32", (B, S)),
            "count": Type("i32", (B,)),
        }


ARCHITECTURES: dict[str, type[Architecture]] = {}


class _Recorder(Ops):
    """Ops that note which weights are read, and which were looked for in vain."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.missing: dict[str, None] = {}
        self.read: dict[str, None] = {}

    def weight(self, tensor: str) -> Value:
        self.read[tensor] = None
        return super().weight(tensor)


def build_module(
    architecture: str, config: Config, weights: Mapping[str, Type], source: WeightSource | None
) -> Module:
    """The module of a checkpoint: the architecture's forward over these weights, verified against their shapes.

    Raises LoadError, naming every tensor that is missing or that nothing reads.
    """
    cls = ARCHITECTURES.get(architecture)
    if cls is None:
        near = difflib.get_close_matches(architecture, ARCHITECTURES, n=2)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        known = ", ".join(sorted(ARCHITECTURES))
        raise LoadError(f"{config.where}: architecture {architecture!r} is not supported{hint} (supported: {known})")
    model = cls(config)
    module = Module(source=source)
    module.attributes = {"architecture": architecture, **model.attributes()}
    module.weights = {name: WeightEntry(type) for name, type in weights.items()}
    types = model.inputs()
    read: dict[str, None] = {}
    for name in cls.graphs:
        graph = module.graph(name)
        method = getattr(model, name)
        graph.ops = op = _Recorder(graph)
        try:
            inputs = [graph.input(p, types[p]) for p in list(inspect.signature(method).parameters)[1:]]
            results = method(op, *inputs)
        except InferError as e:
            raise LoadError(_explain(config, str(e), weights)) from None
        graph.set_outputs(results if isinstance(results, dict) else {cls.outputs[name]: results})
        read |= op.read
    extra = [n for n in weights if n not in read and not any(u in n for u in cls.unused)]
    if extra:
        raise LoadError(f"{config.where}: the checkpoint has tensors that {architecture} does not: {_some(extra)}")
    module.weights = {n: e for n, e in module.weights.items() if n in read}
    module.normalize()
    return module


def _explain(config: Config, message: str, weights: Mapping[str, Type]) -> str:
    import re

    m = re.search(r"there is no weight '(.*)'", message)
    if m is None:
        return f"{config.where} does not agree with the tensors: {message}"
    near = difflib.get_close_matches(m[1], weights, n=1, cutoff=0.4)
    return f"tensor {m[1]!r} is missing" + (f"; the nearest that is there is {near[0]!r}" if near else "")


def _some(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
