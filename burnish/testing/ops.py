"""The law of ops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from burnish.ir.box import cut, whole
from burnish.ir.format import FORMATS, LAYOUTS, Packed
from burnish.ir.graph import Graph
from burnish.ir.leaves import Constant
from burnish.ir.module import Module
from burnish.ir.op import Array, Op
from burnish.ir.parser import parse
from burnish.ir.types import NUMPY, InferError
from burnish.ir.verify import verify
from burnish.testing.running import all_equal, bytes_of, is_float, run_all_jax, run_numpy, type_of

__all__ = ["Example", "check_op", "examples"]


@dataclass(frozen=True)
class Example:
    """One application of an op, for `check_op`.

    Float inputs are given in f32. `oracle` computes the results in float64 from the inputs (floats as float64), and
    must not use the op's own `eval`. A result may be off by half a unit of its own precision, for the final rounding,
    by `units` of the precision that the op computes in (f32 for bf16 and f16), and by as much as a sum of `terms` terms
    may be in any order of summation (`gamma`). All are relative to the size of the terms: `magnitude` computes it from
    the inputs that the oracle gets; by default it is the result itself for an elementwise op, else the largest result.
    """

    op: Op
    inputs: tuple[Array | None, ...]
    oracle: Callable[..., Any] | None = None
    units: float = 4
    terms: int = 0
    magnitude: Callable[..., Any] | None = None
    dtypes: tuple[str, ...] = ("f32", "bf16")
    bodies: tuple[Graph, ...] = ()
    traced: bool = True  # whether it runs in JAX; a format for weights quantizes in NumPy alone

    def __str__(self) -> str:
        return f"{self.op!r} of {', '.join('_' if x is None else str(type_of(x)) for x in self.inputs)}"


def gamma(terms: int, precision: Any = "f4") -> float:
    """How far a sum of `terms` products may be off, relative to the sum of their magnitudes, added up in any order.

    Higham, Accuracy and Stability of Numerical Algorithms (2002), section 3.1.
    """
    unit = float(np.finfo(precision).eps) / 2
    return terms * unit / (1 - terms * unit)


def check_op(op_class: type[Op], *given: Example) -> None:
    """Raise AssertionError unless the op obeys the laws of every op, on the examples or on some found by trying.

    It has a docstring, `infer` and `eval`; the results have the inferred types; NumPy, JAX and the oracle agree in
    f32 and bf16; the operands stay as they are; what the class declares of itself
    (`commutative`, `inplace`, `along`, `part`, `planewise`) is so; a graph of it verifies, and its text
    reads back equal.
    """
    name = op_class.name
    doc = op_class.__doc__ or ""
    assert doc and not doc.startswith(f"{op_class.__name__}("), f"{name} has no docstring"  # dataclasses make one up
    assert op_class.infer is not Op.infer, f"{name} has no infer"
    assert op_class.eval is not Op.eval, f"{name} has no eval"
    assert op_class.kind in ("linear", "matmul", "memory", "other"), f"{name}: kind {op_class.kind!r}"
    cases = list(given) or list(itertools.islice(examples(op_class), 4))
    assert cases, f"{name}: found no operands that its infer accepts; give an Example"
    trials = [trial for example in cases for trial in _trials(op_class, example)]
    for trial in trials:
        _check_declarations(trial)
    traced = [t for t in trials if t.example.traced]
    try:
        results = run_all_jax([(t.example.op, t.inputs, t.example.bodies) for t in traced])
    except (TypeError, ValueError) as e:
        raise AssertionError(f"{name}: JAX cannot trace it: {e}") from e
    for trial, ours in zip(traced, results, strict=True):
        where, types = trial.where, [*map(type_of, trial.results)]
        assert [*map(type_of, ours)] == types, f"{where}: JAX gives {[*map(type_of, ours)]}, NumPy {types}"
        _check_results(trial, ours, trial.results, f"{where}: JAX against NumPy", rounded=2)
        if trial.expected is not None:
            _check_results(trial, ours, trial.expected, f"{where}: JAX against the oracle")
    if op_class.planewise:
        _check_planes(name, cases)
    for example in cases:
        _check_graph(example)


class _Trial(NamedTuple):
    """An example in one precision: what goes in, what NumPy makes of it, how large its terms are, what the oracle says.

    Without a magnitude of its own, the size of the terms is that of the result compared with: None.
    """

    example: Example
    inputs: list[Any]
    where: str
    results: tuple[Array, ...]
    sizes: tuple[Array | None, ...]
    expected: tuple[Array, ...] | None


def _trials(op_class: type[Op], example: Example) -> Iterator[_Trial]:
    """The example in each of its precisions, after NumPy has run it: types and numbers are as they should be."""
    assert type(example.op) is op_class, f"{op_class.name}: {example} is of another op"
    op, keywords = example.op, {"bodies": example.bodies} if op_class.bodies else {}
    for dtype in example.dtypes if any(is_float(x) for x in example.inputs) else ("f32",):
        where = f"{example}, in {dtype}"
        given: list[Any] = list(example.inputs)
        inputs = [x.astype(NUMPY[dtype]) if is_float(x) else x for x in given]
        before = [bytes_of(x) for x in inputs]
        try:
            types = op.results(*(None if x is None else type_of(x) for x in inputs), **keywords)
            results = run_numpy(op, inputs, example.bodies)
        except (TypeError, ValueError) as e:
            raise AssertionError(f"{where}: {e}") from e
        assert before == [bytes_of(x) for x in inputs], f"{where}: an operand was changed"
        given = [*map(type_of, results)]
        assert given == list(types), f"{where}: infers {types}, gives {given}"
        exact = [x.astype("f8") if is_float(x) else x for x in inputs]
        sizes: tuple[Array | None, ...] = (None,) * len(results)
        if example.magnitude is not None:
            sizes = tuple(np.broadcast_to(example.magnitude(*exact), r.shape) for r in results)
        expected = None
        if example.oracle is not None:
            expected = example.oracle(*exact)
            expected = expected if isinstance(expected, tuple) else (expected,)
        trial = _Trial(example, inputs, where, results, sizes, expected)
        if expected is not None:
            _check_results(trial, results, expected, f"{where}: NumPy against the oracle")
        yield trial


def _check_results(
    trial: _Trial, results: Sequence[Array], expected: Sequence[Array], where: str, rounded: int = 1
) -> None:
    for r, e, size in zip(results, expected, trial.sizes, strict=True):
        _check_close(trial.example, r, e, size, where, rounded)


def _check_close(
    example: Example, result: Array, expected: Array, size: Array | None, where: str, rounded: int = 2
) -> None:
    """`rounded`: how many of the two are off."""
    if isinstance(result, Packed):
        theirs = expected.planes if isinstance(expected, Packed) else expected
        for name, plane in result.planes.items():
            assert np.array_equal(plane, theirs[name]), f"{where}: plane {name} differs"
        return
    expected = np.asarray(expected)
    assert result.shape == expected.shape, f"{where}: shape {result.shape}, expected {expected.shape}"
    if not is_float(result):
        assert np.array_equal(result, expected), f"{where}: {result.ravel()[:8]}, expected {expected.ravel()[:8]}"
        return
    finfo: Any = ml_dtypes.finfo  # has no types
    info = finfo(result.dtype)
    working = "f8" if info.bits == 64 else "f4"
    got, want = result.astype("f8"), expected.astype("f8")
    want = np.where(np.abs(want) > float(info.max), np.where(np.abs(got) == np.inf, got, want), want)
    finite = np.isfinite(want)
    same = np.where(np.isnan(want), np.isnan(got), got == want)
    assert same[~finite].all(), f"{where}: {got[~finite][:8]}, expected {want[~finite][:8]}"
    if size is None:
        size = np.abs(want) if example.op.elementwise else np.full(want.shape, np.abs(want[finite]).max(initial=0))
    relative = float(info.eps) / 2 + example.units * float(np.finfo(working).eps) + gamma(example.terms, working)
    allowed = rounded * (size * relative + float(info.tiny))  # XLA has no subnormals
    error = np.abs(np.where(finite, got, 0) - np.where(finite, want, 0))
    if (error > allowed).any():
        at = np.unravel_index(np.argmax(error / allowed), error.shape)
        raise AssertionError(f"{where}: {got[at]!r} at {[*map(int, at)]}, expected {want[at]!r} ± {allowed[at]:.3g}")


def _check_declarations(trial: _Trial) -> None:
    example, inputs, where, results, sizes, _ = trial
    op, run = example.op, partial(run_numpy, example.op, bodies=example.bodies)
    if op.commutative:
        swapped = run([inputs[i] for i in (1, 0, *range(2, len(inputs)))])
        good = all(np.array_equal(a, b, equal_nan=is_float(a)) for a, b in zip(swapped, results, strict=True))
        assert good, f"{where}: declares `commutative`, but order matters"
    if op.inplace is not None:
        at = op.position(op.inplace)
        assert type_of(inputs[at]) == type_of(results[0]), f"{where}: `inplace` of another type"
        copies = [None if x is None else x.copy() for x in inputs]
        written = op.overwrite(*copies)
        written = written if isinstance(written, tuple) else (written,)
        assert written[0] is copies[at], f"{where}: `overwrite` gives another array than its operand"
        assert all_equal(written, results), f"{where}: `overwrite` differs from `eval`"
    _check_along(trial, run, where)
    if op.elementwise and results[0].ndim > 0:
        shape = results[0].shape
        flat = [None if x is None else np.broadcast_to(x, shape).ravel() for x in inputs]
        for r, f, size in zip(results, run(flat), sizes, strict=True):
            _check_close(example, f.reshape(shape), r, size, f"{where}: declares `elementwise`, but shapes matter")
    for i in range(len(results)):
        _check_parts(trial, i, f"{where}: `part`")


def _check_along(trial: _Trial, run: Callable[..., Any], where: str) -> None:
    """Without what lies first along an axis of the operands, the results are those without what lies first there."""
    example, inputs = trial.example, trial.inputs
    if example.bodies:
        return
    maps = example.op.along(*(None if x is None else type_of(x) for x in inputs))
    for axis in {r for axes in maps for r in axes if r is not None}:
        pairs = list(zip(inputs, maps, strict=True))
        places = [[i for i, r in enumerate(axes) if r == axis and x.shape[i] > 1] for x, axes in pairs]
        cuts_groups = any(isinstance(x, Packed) and x.ndim - 1 in i for x, i in zip(inputs, places, strict=True))
        if not any(places) or cuts_groups:
            continue
        try:
            some = run([_without_first(x, i) for x, i in zip(inputs, places, strict=True)])
        except InferError:  # its attributes hold sizes
            continue
        for r, s, size in zip(trial.results, some, trial.sizes, strict=True):  # another shape may add up otherwise
            wanted, size = _without_first(r, [axis]), None if size is None else _without_first(size, [axis])
            _check_close(example, s, wanted, size, f"{where}: declares `along` {axis}, but rows matter")


def _without_first(x: Any, axes: list[int]) -> Any:
    box = [slice(0, d) for d in x.shape] if x is not None else []
    for axis in axes:
        box[axis] = slice(1, x.shape[axis])
    return x if not axes else cut(x, tuple(box))


def _check_parts(trial: _Trial, index: int, where: str) -> None:
    """Cut along each axis in turn, a result made of the parts that the op asks for is the result cut so."""
    example, inputs, result, size = trial.example, trial.inputs, trial.results[index], trial.sizes[index]
    types = [None if x is None else type_of(x) for x in inputs]
    axes = range(result.ndim - 1 if isinstance(result, Packed) else result.ndim)  # groups are never cut
    for axis in (i for i in axes if result.shape[i] > 1):
        for side in (slice(0, 1), slice(1, result.shape[axis])):
            box = (*whole(result.shape[:axis]), side, *whole(result.shape[axis + 1 :]))
            part = example.op.part(box, types, index)
            if part is None:
                continue
            parts = [None if x is None or b is None else cut(x, b) for x, b in zip(inputs, part.boxes, strict=True)]
            given = [p for p, x in zip(parts, inputs, strict=True) if x is None or p is not None]
            (some,) = run_numpy(part.op, given, example.bodies)
            some = some if part.cut is None else cut(some, part.cut)
            expected = cut(result, box)
            if example.op.reproducible:
                assert type_of(some) == type_of(expected), f"{where}: gives {type_of(some)}, not {type_of(expected)}"
                assert bytes_of(some) == bytes_of(expected), f"{where}: differs in {box} of {type_of(result)}"
            else:
                _check_close(example, some, expected, None if size is None else cut(size, box), where)


def _check_planes(name: str, cases: Sequence[Example]) -> None:
    """Of packed operands, in each layout that lies by rows, it makes what it makes of the numbers they stand for."""
    calls: list[tuple[Op, Sequence[Array | None], Sequence[Graph]]] = []
    expected: list[tuple[Array, ...]] = []
    for example in cases:
        given: list[Any] = list(example.inputs)
        quantized = [Packed.quantize(np, x, "int8") if is_float(x) and x.ndim else x for x in given]
        for inputs in (given, quantized):
            packed = [x for x in inputs if isinstance(x, Packed)]
            try:
                example.op.results(*(None if x is None else type_of(x) for x in inputs))
            except InferError:  # it would take the rows apart
                continue
            floats = [x.dequantize(np) if isinstance(x, Packed) else x for x in inputs]
            for layout in [k for k, v in LAYOUTS.items() if v.by_rows] if packed else ():
                if all(LAYOUTS[layout].accepts(FORMATS[x.format], x.shape) is None for x in packed):
                    laid = [x.relayout(np, layout) if isinstance(x, Packed) else x for x in inputs]
                    calls.append((example.op, laid, ()))
                    expected.append(run_numpy(example.op, floats))
    assert calls, f"{name}: declares `planewise`, but no example has packed operands, or could have"
    by_jax = run_all_jax(calls)
    for (op, operands, _), wanted, theirs in zip(calls, expected, by_jax, strict=True):
        types = [type_of(x) for x in operands if x is not None]
        where = f"{op!r} of {', '.join(map(str, types))}, plane by plane"
        inferred = list(op.results(*types))
        for results in (run_numpy(op, operands), theirs):
            made = [*map(type_of, results)]
            assert made == inferred, f"{where}: gives {made}, not {inferred}"
            stood = [r.dequantize(np) if isinstance(r, Packed) else r for r in results]
            assert all_equal(stood, wanted), f"{where}: other numbers than those of floats"


def _check_graph(example: Example) -> None:
    module = Module()
    graph = module.graph("forward")
    values = [None if x is None else graph.input(f"x{i}", type_of(x)) for i, x in enumerate(example.inputs)]
    bodies = [_copy_body(b, module) for b in example.bodies]
    if isinstance(example.op, Constant):
        made: Any = graph.ops.constant(example.op.value.data)
    else:
        made = graph.ops.emit(example.op, values, bodies)
    graph.set_outputs({f"y{i}": v for i, v in enumerate(made if isinstance(made, tuple) else (made,))})
    module.normalize()
    verify(module)
    text = str(module)
    again = parse(text, module.constants())
    assert again == module and str(again) == text, f"{example}: its text does not read back equal:\n{text}\n{again}"


def _copy_body(body: Graph, module: Module) -> Graph:
    again = parse(f"module {{\n{body}\n}}", body.module.constants()).graphs[body.name]
    for graph in again.module.every_graph:
        graph.module = module
    return again


_SHAPES = ((2, 3), (3,), (2, 4, 2, 4), (2,), (4, 32), (32,), ())
_ATTRIBUTES: dict[str, tuple[Any, ...]] = {
    "int": (0, 1, 2),
    "float": (1.0, 1e-5),
    "bool": (False, True),
    "str": ("f32", "i32", "int8_32", "planes", ""),
    "Dim": (0, 2),
    "tuple[int, ...]": ((0,), (1, 0)),
    "tuple[Dim, ...]": ((2, 3), (6,)),
}


def examples(op_class: type[Op]) -> Iterator[Example]:
    """Applications of an op whose `infer` accepts them, found by trying; none for an op with bodies."""
    if op_class.bodies:
        return
    rng = np.random.default_rng(0)
    pool: list[Array] = [rng.standard_normal(s).astype("f4") for s in _SHAPES]
    pool += [rng.integers(0, 3, s).astype("i4") for s in _SHAPES[:4]] + [rng.random(s) < 0.5 for s in _SHAPES[:2]]
    pool.append(Packed.quantize(np, pool[4], "int8_32"))
    made: Any = op_class  # a dataclass, which mypy does not see
    fields = {f: made.__dataclass_fields__[f].type for f in op_class.fields()}
    choices = [
        (op_class.defaults()[k],) if k in op_class.defaults() else _ATTRIBUTES.get(str(getattr(t, "__name__", t)), ())
        for k, t in fields.items()
    ]
    needed = [o for o in op_class.operands() if not o.optional]
    for attributes in itertools.product(*choices):
        op = op_class(**dict(zip(fields, attributes, strict=True)))
        for operands in itertools.product(pool, repeat=len(needed)):
            try:
                op.results(*map(type_of, operands))
            except InferError:
                continue
            yield Example(op, operands, units=64)  # of up to 32 terms, whose magnitudes may add up to 4 times the sum
