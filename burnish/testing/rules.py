"""The law of rules: every rule is tried on an instance that its own pattern builds, and both sides are compared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from burnish.backends.interpreter import Interpreter
from burnish.debug.check import FACTOR
from burnish.debug.numbers import Float64, error, made_up_inputs, made_up_weights, run_all, same_bits, units_of
from burnish.ir.builder import Ops
from burnish.ir.graph import Graph, Value
from burnish.ir.module import Module, WeightEntry
from burnish.ir.parser import parse, parse_type
from burnish.ir.types import InferError
from burnish.ir.verify import verify
from burnish.ir.weights import MemoryWeights
from burnish.passes.engine import Context, PassError, RewritePass, Rule

__all__ = ["check_rule"]

SAMPLES = 8  # sets of numbers that both sides are compared on; a rounding may be equal by chance on some


def check_rule(rule: type[Rule]) -> None:
    """Raise AssertionError unless the rule keeps its word on every alternative of its pattern.

    It has a docstring of the form `before -> after`, states its exactness, and its `example` makes an instance of each
    alternative, with the optional operands and without them. There the engine applies it, records it, what results
    verifies and reads back from its text, and both sides agree: to the last bit for an exact rule; for a rounding one
    with an error against float64 of at most four times that of the original and a few units in the last place; a
    lossy one in shape, and its numbers are finite. Integers are from 0 to 7; a `B` in a type is 2, other symbols more.
    An exact rule is also tried on what such numbers are too kind to show: integers that are negative or large, -0.0,
    NaN, infinities. Of a rule that finds its places itself, `example` is the text of a module.
    """
    name = rule.__name__
    doc = inspect.cleandoc(rule.__doc__ or "")
    assert "->" in doc, f"{name}: its docstring must be of the form `before -> after`"
    assert rule.exactness in ("exact", "rounding", "lossy"), f"{name}: exactness {rule.exactness!r}"
    if not hasattr(rule, "match") and rule.find is Rule.find:
        return  # a pass applies it by itself: its golden files show it
    if isinstance(rule.example, str):
        _check_instance(rule, parse(rule.example), f"{name}, its example")
        return
    parameters = list(inspect.signature(rule.match).parameters.values())[2:]
    lost = [p.name for p in parameters if p.name not in rule.example and p.default is inspect.Parameter.empty]
    assert not lost, f"{name}: its example says nothing of {', '.join(lost)}"
    optional = {p.name for p in parameters if p.default is None}
    for i in range(len(rule().alternatives)):
        for absent in [set(), optional] if optional else [set()]:
            where = f"{name}, alternative {i}" + (f" without {', '.join(sorted(absent))}" if absent else "")
            _check_instance(rule, _instance(rule, i, absent, where), where)


class _Instances(Ops):
    """Builds what a pattern stands for: looking through casts is looking at none."""

    def __getattr__(self, name: str) -> Callable[..., Value]:
        return (lambda x: x) if name.startswith("maybe_") or name == "aside" else super().__getattr__(name)


def _instance(rule: type[Rule], alternative: int, absent: set[str], where: str) -> Module:
    module = Module()
    graph = module.graph("forward")
    positional: list[Value | None] = []
    keywords: dict[str, Any] = {}
    example: Any = rule.example
    for p in list(inspect.signature(rule.match).parameters.values())[2:]:
        given = example.get(p.name)
        if p.kind is p.KEYWORD_ONLY:
            keywords[p.name] = given
        elif p.kind is p.VAR_POSITIONAL:
            assert given, f"{where}: its example must list the types of {p.name}"
            positional += [_operand(graph, f"{p.name}{i}", g) for i, g in enumerate(given)]
        else:
            missing = p.name in absent or given is None
            positional.append(None if missing else _operand(graph, p.name, given))
    op = _Instances(graph)
    try:
        with op.block("layers", 0):
            built = rule.match(rule(), op, *positional, **keywords)
            roots = built[alternative] if isinstance(built, list) else built
            roots = roots if isinstance(roots, tuple) else (roots,)
            outs = rule().around(op, *roots)
    except InferError as e:
        raise AssertionError(f"{where}: its example makes no instance: {e}") from e
    outs = outs if isinstance(outs, tuple) else (outs,)
    graph.set_outputs({f"y{i}": v for i, v in enumerate(outs)})
    graph.erase_dead(list(graph))
    for v in [v for v in graph.inputs if not v.uses]:
        graph.remove_input(v)
    module.normalize()
    return module


def _operand(graph: Graph, name: str, given: Any) -> Value:
    """An operand: `f32[2, 3]` is an input, `@f32[2, 3]` a weight, anything but text a constant."""
    if not isinstance(given, str):
        return graph.ops.constant(given)
    type = parse_type(given.removeprefix("@"))
    if not given.startswith("@"):
        return graph.input(name, type)
    graph.module.weights[name] = WeightEntry(type)
    return graph.ops.weight(name)


def _check_instance(rule: type[Rule], module: Module, where: str) -> None:
    verify(module)
    alone = type("_Alone", (RewritePass,), {"rules": (rule,)})
    after = module.copy()
    context = Context(after)
    try:
        context.run(alone())
    except PassError as e:
        raise AssertionError(f"{where}: {e}") from e
    names = [a.rule for a in context.applied]
    reasons = "; ".join(f"{r.application.rule}: {r.reason}" for r in context.remarks if r.reason)
    assert names, f"{where}: is not applied to an instance of its own pattern ({reasons or 'no match'})\n{module}"
    assert set(names) == {rule.__name__}, f"{where}: applications are recorded as {names}"
    text = str(after)
    assert str(parse(text, after.constants())) == text, f"{where}: the text does not read back equal:\n{text}"
    for seed in range(SAMPLES):
        _compare(rule, module, after, seed, where)
    if rule.exactness == "exact":
        _compare_odd(module, after, where)


def _compare_odd(module: Module, after: Module, where: str) -> None:
    """Both sides on numbers that are seldom met, as inputs and as weights, bit by bit but for those of a NaN."""
    weights = {name: _odd(x) for name, x in made_up_weights(module).arrays.items()}
    module.source = after.source = MemoryWeights(weights)
    free = {f"{graph.name}.{v.name}" for graph in module.graphs.values() for v in graph.inputs if v.role is None}
    inputs = {name: _odd(x) if name in free else x for name, x in made_up_inputs(module).items()}
    old, new = (run_all(m, Interpreter(m, kernels={}), inputs) for m in (module, after))
    for name, x in new.items():
        here = f"{where}: {name.removeprefix('forward.')}"
        same = same_bits(_one_nan(x), _one_nan(old[name]))
        assert same, f"{here}: is declared exact, but is not of {x.dtype} beside ordinary numbers\n{module}\n{after}"


def _odd(x: Any) -> Any:
    """An array's place filled with what is seldom met in its type."""
    if not isinstance(x, np.ndarray) or x.dtype == bool or not x.size:
        return x
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        numbers = np.array([0, -1, 3, -2, 200, -5, 300, limits.max % 2**31, limits.min], "i8")
    else:
        numbers = np.array([0.0, -0.0, np.nan, 1.5, -np.inf, -3.75, np.inf, 1e4, -7e-5])
    return np.resize(numbers.astype(x.dtype), x.shape)


def _one_nan(x: np.ndarray) -> np.ndarray:
    """The array with every NaN in the same bits."""
    return np.where(np.isnan(x), np.asarray(np.nan, x.dtype), x) if x.dtype.kind not in "iub" else x


def _compare(rule: type[Rule], module: Module, after: Module, seed: int, where: str) -> None:
    module.source = after.source = made_up_weights(module, seed)
    inputs = made_up_inputs(module, seed)
    old, new = (run_all(m, Interpreter(m, kernels={}), inputs) for m in (module, after))
    truth = run_all(module, Float64(module), inputs)
    for name, x in new.items():
        here = f"{where}: {name.removeprefix('forward.')}"
        assert x.shape == old[name].shape and x.dtype == old[name].dtype, f"{here}: of another type\n{module}\n{after}"
        if rule.exactness == "exact":
            off = error(x, old[name])
            assert same_bits(x, old[name]), f"{here}: is declared exact, but is off by {off:.3g}\n{module}\n{after}"
        elif rule.exactness == "rounding":
            off, limit = error(x, truth[name]), FACTOR * error(old[name], truth[name]) + units_of(x)
            assert off <= limit, f"{here}: is off by {off:.3g}, at most {limit:.3g} is rounding\n{module}\n{after}"
        else:
            assert np.isfinite(error(x, truth[name])), f"{here}: is not finite\n{module}\n{after}"
