"""The public laws: what every op, format, rule and architecture obeys, ours and a plugin's alike.

    check_op(MyOp, Example(MyOp(axis=1), (x,), oracle=lambda x: numpy.cumsum(x, 1)))
    check_format(FORMATS["q4_0"])
    check_rule(MyRule)
    check_architecture(MyModel, {"hidden_size": 32, "num_hidden_layers": 2, …})

Each raises AssertionError, with the law and the numbers, at the first law that is broken.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from burnish.backends.backend import Backend, make_backend
from burnish.debug.rules import check_rule
from burnish.frontends.architecture import Architecture, Config, LoadError, build_module, parameters
from burnish.ir.box import cut, whole
from burnish.ir.dims import Dim
from burnish.ir.evaluate import evaluate
from burnish.ir.format import LAYOUTS, FormatError, Packed, QuantFormat
from burnish.ir.graph import Constant, Graph, Module, Weight
from burnish.ir.op import Array, Arrays, Op
from burnish.ir.ops.attention import Attention
from burnish.ir.text import copy_module, parse
from burnish.ir.types import NUMPY, InferError, Type, dtype_name
from burnish.ir.verify import verify
from burnish.ir.weights import MemoryWeights
from burnish.passes.engine import Context
from burnish.passes.insert_kv_cache import CAPACITY
from burnish.passes.pipelines import parse_pipeline

__all__ = [
    "Example",
    "check_architecture",
    "check_format",
    "check_op",
    "check_rule",
    "examples",
    "logits_by_steps",
    "run_graph",
    "run_jax",
    "run_numpy",
]


@dataclass(frozen=True)
class Example:
    """One application of an op, for `check_op`.

    Float inputs are given in f32. `oracle` computes the results in float64 from the inputs (floats as float64), and
    must not use the op's own `eval`. A result may be off by half a unit of its own precision, for the final rounding,
    and by `units` of the precision that the op computes in (f32 for bf16 and f16), both relative to `magnitude`: the
    size of the terms, by default the result itself for an elementwise op, else the largest result.
    """

    op: Op
    inputs: tuple[Array | None, ...]
    oracle: Callable[..., Any] | None = None
    units: float = 4
    magnitude: float | None = None
    dtypes: tuple[str, ...] = ("f32", "bf16")
    bodies: tuple[Graph, ...] = ()
    traced: bool = True  # whether it runs in JAX; a format for weights quantizes in NumPy alone

    def __str__(self) -> str:
        return f"{self.op!r} of {', '.join('_' if x is None else str(type_of(x)) for x in self.inputs)}"


# ---------------------------------------------------------------------------------------------------------- evaluating


def type_of(x: Array) -> Type:
    """The type of an array."""
    if isinstance(x, Packed):
        return Type(x.format, x.shape, x.layout)
    return Type(dtype_name(x.dtype), tuple(x.shape))


def run_graph(
    graph: Graph,
    xp: Arrays,
    inputs: Sequence[Array],
    weights: Mapping[str, Array] | None = None,
    sizes: Mapping[str, Dim] | None = None,
) -> tuple[Array, ...]:
    """The outputs of a graph, node by node: the plainest way to run one, for tests and for bodies."""
    values = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.order():
        if isinstance(node.op, Weight):
            values[node.out] = (weights or {})[node.op.tensor]
            continue
        bodies = [_body(b, xp, weights, sizes) for b in node.bodies]
        operands = [None if v is None else values[v] for v in node.inputs]
        dtypes = [o.dtype for o in node.outputs]
        values.update(zip(node.outputs, evaluate(node.op.bind(sizes or {}), xp, operands, dtypes, bodies), strict=True))
    return tuple(values[v] for v in graph.outputs.values())


def _body(body: Graph, xp: Arrays, weights: Any, sizes: Any) -> Callable[..., tuple[Array, ...]]:
    return lambda *inputs: run_graph(body, xp, inputs, weights, sizes)


def run_numpy(op: Op, inputs: Sequence[Array | None], bodies: Sequence[Graph] = ()) -> tuple[Array, ...]:
    """One op on NumPy arrays, with the types that it infers for them."""
    with np.errstate(all="ignore"):  # 1 / 0 is infinite, as in JAX
        return _run(op, np, inputs, bodies)


def run_jax(op: Op, inputs: Sequence[Array | None], bodies: Sequence[Graph] = ()) -> tuple[Array, ...]:
    """The same traced and compiled by JAX, with 64-bit types; results are NumPy arrays."""
    return _run_jax([(op, inputs, bodies)])[0]


def _run_jax(calls: list[tuple[Op, Sequence[Array | None], Sequence[Graph]]]) -> list[tuple[Array, ...]]:
    """Several at once, for compiling is what takes time."""
    import jax

    made: list[tuple[Array, ...]] = []

    def traced(arrays: list[list[Any]]) -> list[list[Any]]:
        made.clear()
        for (op, inputs, bodies), planes in zip(calls, arrays, strict=True):
            given = [
                x.with_planes(a, x.shape) if isinstance(x, Packed) else a for x, a in zip(inputs, planes, strict=True)
            ]
            made.append(_run(op, jax.numpy, given, bodies))
        return [[r.planes if isinstance(r, Packed) else r for r in results] for results in made]

    with jax.enable_x64(True):
        arrays = jax.jit(traced)([[x.planes if isinstance(x, Packed) else x for x in call[1]] for call in calls])
    return [
        tuple(m.with_planes(r, m.shape) if isinstance(m, Packed) else r for m, r in zip(call, results, strict=True))
        for call, results in zip(made, jax.tree.map(np.asarray, arrays), strict=True)
    ]


def _run(op: Op, xp: Arrays, inputs: Sequence[Array | None], bodies: Sequence[Graph]) -> tuple[Array, ...]:
    keywords = {"bodies": tuple(bodies)} if op.bodies else {}
    types = op.results(*(None if x is None else type_of(x) for x in inputs), **keywords)
    return evaluate(op, xp, inputs, [t.dtype for t in types], [_body(b, xp, None, None) for b in bodies])


# ----------------------------------------------------------------------------------------------------------------- ops


def check_op(op_class: type[Op], *given: Example) -> None:
    """Raise AssertionError unless the op obeys the laws of every op, on the examples or on some found by trying.

    It has a docstring, `infer` and `eval`; the results have the inferred types; NumPy, JAX and the oracle agree in
    f32 and bf16; the operands stay as they are; the cost can be counted; what the class declares of itself
    (`commutative`, `elementwise`, `by_last_axis`, `part`) is so; a graph of it verifies, and its text
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
        _check_declarations(trial.example, trial.inputs, trial.results, trial.where)
    traced = [t for t in trials if t.example.traced]
    try:
        results = _run_jax([(t.example.op, t.inputs, t.example.bodies) for t in traced])
    except (TypeError, ValueError) as e:
        raise AssertionError(f"{name}: JAX cannot trace it: {e}") from e
    for trial, ours in zip(traced, results, strict=True):
        where, types = trial.where, [*map(type_of, trial.results)]
        assert [*map(type_of, ours)] == types, f"{where}: JAX gives {[*map(type_of, ours)]}, NumPy {types}"
        _check_results(trial.example, ours, trial.results, f"{where}: JAX against NumPy")
        if trial.expected is not None:
            _check_results(trial.example, ours, trial.expected, f"{where}: JAX against the oracle")
    for example in cases:
        _check_graph(example)


class _Trial(NamedTuple):
    """An example in one precision: what goes in, what NumPy makes of it, what the oracle says."""

    example: Example
    inputs: list[Any]
    where: str
    results: tuple[Array, ...]
    expected: tuple[Array, ...] | None


def _trials(op_class: type[Op], example: Example) -> Iterator[_Trial]:
    """The example in each of its precisions, after NumPy has run it: types and numbers are as they should be."""
    assert type(example.op) is op_class, f"{op_class.name}: {example} is of another op"
    op, keywords = example.op, {"bodies": example.bodies} if op_class.bodies else {}
    for dtype in example.dtypes if any(_is_float(x) for x in example.inputs) else ("f32",):
        where = f"{example}, in {dtype}"
        inputs: list[Any] = [x.astype(NUMPY[dtype]) if _is_float(x) else x for x in example.inputs]  # type: ignore[union-attr]
        before = [_bytes(x) for x in inputs]
        try:
            types = op.results(*(None if x is None else type_of(x) for x in inputs), **keywords)
            results = run_numpy(op, inputs, example.bodies)
        except (TypeError, ValueError) as e:
            raise AssertionError(f"{where}: {e}") from e
        assert before == [_bytes(x) for x in inputs], f"{where}: an operand was changed"
        given = [*map(type_of, results)]
        assert given == list(types), f"{where}: infers {types}, gives {given}"
        cost = op.cost(*(None if x is None else type_of(x) for x in inputs), **keywords)
        assert cost.flops >= 0 and cost.bytes >= 0, f"{where}: {cost}"  # type: ignore[operator]  # no symbols here
        expected = None
        if example.oracle is not None:
            expected = example.oracle(*(x.astype("f8") if _is_float(x) else x for x in inputs))
            expected = expected if isinstance(expected, tuple) else (expected,)
            _check_results(example, results, expected, f"{where}: NumPy against the oracle")
        yield _Trial(example, inputs, where, results, expected)


def _check_results(example: Example, results: Sequence[Array], expected: Sequence[Array], where: str) -> None:
    for r, e in zip(results, expected, strict=True):
        _check_close(example, r, e, where)


def _check_close(example: Example, result: Array, expected: Array, where: str) -> None:
    if isinstance(result, Packed):
        theirs = expected.planes if isinstance(expected, Packed) else expected
        for name, plane in result.planes.items():
            assert np.array_equal(plane, theirs[name]), f"{where}: plane {name} differs"
        return
    expected = np.asarray(expected)
    assert result.shape == expected.shape, f"{where}: shape {result.shape}, expected {expected.shape}"
    if not _is_float(result):
        assert np.array_equal(result, expected), f"{where}: {result.ravel()[:8]}, expected {expected.ravel()[:8]}"
        return
    info: Any = ml_dtypes.finfo(result.dtype)  # type: ignore[no-untyped-call]
    working = np.finfo("f8" if info.bits == 64 else "f4").eps
    got, want = result.astype("f8"), expected.astype("f8")
    want = np.where(np.abs(want) > float(info.max), np.where(np.abs(got) == np.inf, got, want), want)
    finite = np.isfinite(want)
    same = np.where(np.isnan(want), np.isnan(got), got == want)
    assert same[~finite].all(), f"{where}: {got[~finite][:8]}, expected {want[~finite][:8]}"
    size = np.abs(want) if example.op.elementwise else np.full(want.shape, np.abs(want[finite]).max(initial=0))
    if example.magnitude is not None:
        size = np.full(want.shape, example.magnitude)
    allowed = size * (float(info.eps) / 2 + example.units * working) + float(info.tiny)  # XLA has no subnormals
    error = np.abs(np.where(finite, got, 0) - np.where(finite, want, 0))
    if (error > allowed).any():
        at = np.unravel_index(np.argmax(error / allowed), error.shape)
        raise AssertionError(f"{where}: {got[at]!r} at {[*map(int, at)]}, expected {want[at]!r} ± {allowed[at]:.3g}")


def _check_declarations(example: Example, inputs: list[Any], results: tuple[Array, ...], where: str) -> None:
    op, run = example.op, partial(run_numpy, example.op, bodies=example.bodies)
    if op.commutative:
        swapped = run([inputs[1], inputs[0], *inputs[2:]])
        good = all(np.array_equal(a, b, equal_nan=_is_float(a)) for a, b in zip(swapped, results, strict=True))
        assert good, f"{where}: declares `commutative`, but order matters"
    if op.inplace is not None:
        assert type_of(inputs[op.inplace]) == type_of(results[0]), f"{where}: `inplace` of another type"
        copies = [None if x is None else x.copy() for x in inputs]
        op.overwrite(*copies)
        assert _all_equal([copies[op.inplace]], results[:1]), f"{where}: `overwrite` differs from `eval`"
    rows = results[0].shape[0] if results[0].ndim > 1 else 0
    if op.by_last_axis and rows > 1 and isinstance(inputs[0], np.ndarray):
        some = run([inputs[0][1:], *inputs[1:]])
        for r, s in zip(results, some, strict=True):  # another shape may add up in another order
            _check_close(example, s, r[1:], f"{where}: declares `by_last_axis`, but rows depend on others")
    if op.elementwise and results[0].ndim > 0:
        shape = results[0].shape
        flat = [None if x is None else np.broadcast_to(x, shape).ravel() for x in inputs]
        for r, f in zip(results, run(flat), strict=True):
            _check_close(example, f.reshape(shape), r, f"{where}: declares `elementwise`, but shapes matter")
    for i, r in enumerate(results):
        _check_parts(example, inputs, r, i, f"{where}: `part`")


def _check_parts(example: Example, inputs: list[Any], result: Array, index: int, where: str) -> None:
    """Cut along each axis in turn, a result made of the parts that the op asks for is the result cut so."""
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
            expected = cut(result, box)
            if example.op.reproducible:
                assert type_of(some) == type_of(expected), f"{where}: gives {type_of(some)}, not {type_of(expected)}"
                assert _bytes(some) == _bytes(expected), f"{where}: differs in {box} of {type_of(result)}"
            else:
                _check_close(example, some, expected, where)


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
    fields: dict[str, Any] = {f: op_class.__dataclass_fields__[f].type for f in op_class.fields()}  # type: ignore[attr-defined]
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
            yield Example(op, operands, units=64)


# ------------------------------------------------------------------------------------------------------------- formats


def check_format(format: QuantFormat) -> None:
    """Raise AssertionError unless the format obeys the laws of every format.

    Its bytes read back as the fields that were written; rounding is off by at most a step of a grid of that many
    bits; a group of zeros comes back as zeros; JAX dequantizes to the same numbers; every layout that accepts it
    keeps every bit; a row does not depend on the rows around it; an axis that the group does not divide is refused.
    """
    name = format.name
    doc = type(format).__doc__ or ""
    assert doc, f"{name} has no docstring"
    stored: list[tuple[str, Packed]] = []
    for what, x in _samples(format.group or 64).items():
        where = f"{name}, {what}"
        before = x.tobytes()
        packed = Packed.quantize(np, x, name)
        assert x.tobytes() == before, f"{where}: quantize changed its operand"
        _check_bytes(format, packed, where)
        back = packed.dequantize(np)
        assert back.dtype == np.float32 and back.shape == x.shape, f"{where}: dequantizes to {type_of(back)}"
        groups = x.reshape(*x.shape[:-1], -1, format.group_size(x.shape[-1]))
        largest = np.abs(groups).max(axis=-1, keepdims=True)
        step = largest / 2.0 ** (sum(f.bits for f in format.fields) - 1) * (1 + 2**-8) + 2.0**-24  # f16's smallest
        error = np.abs(back.reshape(groups.shape) - groups)
        assert (error <= step).all(), f"{where}: rounding is off by {np.nanmax(error / step):.3g} steps"
        zero = (groups == 0).all(axis=-1)
        assert (back.reshape(groups.shape)[zero] == 0).all(), f"{where}: a group of zeros is not zero"
        _check_rows(packed, x, where)
        stored += _check_layouts(format, packed, where)
    _check_jax(stored)
    if format.group > 1:
        try:
            format.check(format.group + 1)
        except FormatError:
            return
        raise AssertionError(f"{name}: accepts an axis of {format.group + 1}, which groups do not divide")


def _samples(group: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((6, 3 * group)).astype("f4")
    zeros = normal.copy()
    zeros[1], zeros[2, :group], zeros[3, ::2] = 0, 0, 0
    outlier = normal * np.float32(0.01)
    outlier[:, :: group // 2] = 50
    scales = 10.0 ** rng.integers(-3, 4, (6, 3 * group))
    return {
        "normal numbers": normal,
        "zeros": zeros,
        "outliers": outlier,
        "many magnitudes": (normal * scales).astype("f4"),
        "one sign": -np.abs(normal),
        "three axes": normal.reshape(2, 3, -1),
    }


def _check_bytes(format: QuantFormat, packed: Packed, where: str) -> None:
    data = packed.planes["bytes"]
    inputs = packed.shape[-1]
    good = data.dtype == np.uint8 and data.shape == (*packed.shape[:-1], format.row_bytes(inputs))
    assert good, f"{where}: bytes are {type_of(data)}, not rows of {format.row_bytes(inputs)}"
    if format.group:
        assert format.row_bytes(inputs) * 8 == format.bits * inputs, f"{where}: {format.bits} bits are not those bytes"
    fields = packed.unpack(np)
    assert list(fields) == [f.name for f in format.fields], f"{where}: fields are {list(fields)}"
    again = LAYOUTS[""].pack(np, format, fields, packed.shape)["bytes"]
    assert np.array_equal(again, data), f"{where}: bytes, fields, bytes are not the same bytes"


def _check_rows(packed: Packed, x: np.ndarray, where: str) -> None:
    halves = [Packed.quantize(np, part, packed.format).planes["bytes"] for part in (x[:1], x[1:])]
    same = np.array_equal(np.concatenate(halves), packed.planes["bytes"])
    assert same, f"{where}: rows quantized apart are not the rows quantized together"


def _check_layouts(format: QuantFormat, packed: Packed, where: str) -> Iterator[tuple[str, Packed]]:
    fields = packed.unpack(np)
    for name, layout in LAYOUTS.items():
        if layout.accepts(format, packed.shape) is not None:
            continue
        moved = packed.relayout(np, name)
        for k, f in moved.unpack(np).items():
            assert _bytes(f) == _bytes(fields[k]), f"{where}: layout {name!r} loses bits of {k}"
        again = moved.relayout(np, "").planes["bytes"]
        assert np.array_equal(again, packed.planes["bytes"]), f"{where}: layout {name!r} and back is another array"
        if layout.by_rows:
            leading = {k: p.shape[: packed.ndim - 1] for k, p in moved.planes.items()}
            good = all(shape == packed.shape[:-1] for shape in leading.values())
            assert good, f"{where}: layout {name!r} says `by_rows`, but its planes begin with {leading}"
        yield f"{where}: JAX dequantizes layout {name!r} to other numbers", moved


def _check_jax(stored: list[tuple[str, Packed]]) -> None:
    import jax

    def traced(planes: list[Any]) -> list[Array]:
        return [p.with_planes(a, p.shape).dequantize(jax.numpy) for (_, p), a in zip(stored, planes, strict=True)]

    results = jax.jit(traced)([p.planes for _, p in stored])
    for (fault, p), ours in zip(stored, results, strict=True):
        assert np.array_equal(np.asarray(ours), p.dequantize(np), equal_nan=True), fault


# ------------------------------------------------------------------------------------------------------- architectures


def check_architecture(
    architecture: type[Architecture], config: Mapping[str, Any], backend: str = "numpy", within: float = 2e-5
) -> None:
    """Raise AssertionError unless the architecture obeys the laws of every architecture, for this config.

    No checkpoint is needed: the shapes of its tensors are those that it asks for, the numbers are made up. Keep the
    config small. Its graphs verify, and their text reads back equal; a tensor too many or one too few is an error
    that names it; the default pipeline changes no output by more than `within` of the largest. Padding changes
    nothing, and where it attends causally, so do caches: the whole sequence at once, prefill and decode, chunks, and
    sequences of different lengths agree token by token.
    """
    name = architecture.__name__
    assert architecture.names, f"{name} has no names: no config.json would find it"
    types = parameters(architecture, Config(config))
    module = build_module(architecture.names[0], Config(config), types, MemoryWeights(_made_up(types)))
    verify(module)
    text = str(module)
    again = parse(text, module.constants())
    assert again == module and str(again) == text, f"{name}: its text does not read back equal"
    for tensor in types:
        _check_refused(architecture, config, {k: t for k, t in types.items() if k != tensor}, tensor)
    _check_refused(architecture, config, types | {"one_too_many": Type("f32", (1,))}, "one_too_many")

    plain, optimized = make_backend(backend, module), make_backend(backend, _passed(module, "default"))
    ids, counts = np.random.default_rng(1).integers(0, 8, (3, 7)).astype("i4"), [7, 4, 1]
    graph = "encoder" if "encoder" in module.graphs else "forward"
    expected = _forward(plain, module, graph, ids, counts)
    for k, after in _forward(optimized, module, graph, ids, counts).items():
        for b, n in enumerate(counts):
            alone = _forward(plain, module, graph, ids[b : b + 1, :n], [n])[k][0]
            rows = slice(None) if alone.ndim < 2 else slice(n)
            _check_near(alone, expected[k][b, rows], within, f"{name}: {k} of sequence {b}, alone and padded")
            _check_near(after[b, rows], expected[k][b, rows], within, f"{name}: {k}, after and before optimization")
    decoder = module.graphs.get("decoder") or module.graphs["forward"]
    if any(isinstance(node.op, Attention) and node.op.causal for node in decoder):
        _check_steps(name, module, decoder.name, backend, ids, counts, within)


def _made_up(types: Mapping[str, Type]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {k: t.sizes for k, t in types.items()}
    return {
        k: (rng.standard_normal(s) / s[-1] ** 0.5 if len(s) > 1 else rng.random(s) + 0.5).astype("f4")
        for k, s in sizes.items()
    }


def _check_refused(
    architecture: type[Architecture], config: Mapping[str, Any], types: Mapping[str, Type], tensor: str
) -> None:
    try:
        build_module(architecture.names[0], Config(config), types)
    except LoadError as e:
        assert repr(tensor) in str(e), f"{architecture.__name__}: {tensor} is not named in the message: {e}"
        return
    raise AssertionError(f"{architecture.__name__}: loads with {tensor} too many or too few")


def _passed(module: Module, pipeline: str) -> Module:
    context = Context(copy_module(module))
    for pass_ in parse_pipeline(pipeline):
        context.run(pass_)
    return context.module


def _forward(
    backend: Backend, module: Module, graph: str, ids: np.ndarray, counts: Sequence[int], **fixed: Array
) -> dict[str, np.ndarray]:
    given = {"ids": ids, "count": np.array(counts, "i4"), **fixed}
    results = backend(graph, {v.name: given[v.name] for v in module.graphs[graph].inputs})
    return {k: backend.to_numpy(r) for k, r in results.items()}


def _check_steps(
    name: str, module: Module, graph: str, backend: str, ids: np.ndarray, counts: Sequence[int], within: float
) -> None:
    """The whole sequence at once against every way to feed it into caches, with and without the other passes."""
    sequences = [row[:n].tolist() for row, n in zip(ids, counts, strict=True)]
    plain = make_backend(backend, module)
    encoded = _encoded(plain, module, ids[:, ::-1], [3, 7, 5])
    expected = _forward(plain, module, graph, ids, counts, **encoded)["logits"]
    for pipeline in ("insert-kv-cache", "default,stateful"):
        stateful = _passed(module, pipeline)
        runner = make_backend(backend, stateful)
        fixed = _encoded(runner, stateful, ids[:, ::-1], [3, 7, 5])
        for how, steps in _feedings(counts).items():
            for (b, i), row in logits_by_steps(runner, stateful.graphs[graph], sequences, steps, fixed).items():
                _check_near(row, expected[b, i], within, f"{name}: token {i} of sequence {b}, fed by {how}, {pipeline}")


def _feedings(counts: Sequence[int]) -> dict[str, list[list[int]]]:
    """Ways to feed sequences of these lengths: for each step, how many tokens of each sequence."""
    longest = max(counts)
    return {
        "all at once": [list(counts)],
        "one token a step": [[int(n > i) for n in counts] for i in range(longest)],
        "chunks of 3": [[min(3, max(0, n - i)) for n in counts] for i in range(0, longest, 3)],
        "prefill, then one a step": [[(n + 1) // 2 for n in counts]]
        + [[int(n - (n + 1) // 2 > i) for n in counts] for i in range(longest // 2)],
    }


def _encoded(backend: Backend, module: Module, ids: np.ndarray, counts: Sequence[int]) -> dict[str, Array]:
    """What a decoder reads of its encoder, by the decoder's names."""
    if "encoder" not in module.graphs:
        return {}
    count = np.array(counts, "i4")
    results = backend("encoder", {"ids": np.ascontiguousarray(ids), "count": count})
    names = {v.name for v in module.graphs["decoder"].inputs}
    found = {n: r for k, r in results.items() for n in (k, f"encoder_{k}") if n in names}
    return found | {"encoder_count": count}


def logits_by_steps(
    backend: Backend,
    graph: Graph,
    sequences: Sequence[Sequence[int]],
    steps: Sequence[Sequence[int]],
    fixed: Mapping[str, Array] | None = None,
) -> dict[tuple[int, int], np.ndarray]:
    """Feed sequences into a graph with caches: `steps` says how many tokens of each sequence go in together.

    Gives the logits that come out by (sequence, token): every token's or, after last-row, those of the last in each
    step. `fixed` are an encoder's results.
    """
    past = np.zeros(len(sequences), "i4")
    capacity = backend.length(max(map(len, sequences)))
    sizes = {str(graph.inputs[0].shape[0]): len(sequences), str(CAPACITY): capacity}
    state = {v.name: backend.zeros(v.type.bind(sizes)) for v in graph.inputs if v.name in graph.outputs}
    found = {}
    for step in steps:
        ids = np.zeros((len(sequences), backend.length(max(step))), "i4")
        for row, tokens, at, n in zip(ids, sequences, past, step, strict=True):
            row[:n] = tokens[at : at + n]
        last = graph.find_input("count") is not None
        counts = {"count": np.array(step, "i4")} if last else {}
        results = backend(graph.name, {"ids": ids, "past": past, **counts, **state, **(fixed or {})})
        state = {k: results[k] for k in state}
        logits = backend.to_numpy(results["logits"])
        for b, n in enumerate(step):
            for i in range(max(n - 1, 0) if last else 0, n):
                found[b, int(past[b]) + i] = logits[b, 0 if last else i]
        past = past + np.array(step, "i4")
    return found


def _check_near(ours: np.ndarray, theirs: np.ndarray, within: float, where: str) -> None:
    error, largest = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    assert error <= within * largest, f"{where}: {error / largest:.2e} of the largest apart, more than {within:.0e}"


# -------------------------------------------------------------------------------------------------------------- common


def _is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind not in "iub"


def _bytes(x: Any) -> Any:
    if isinstance(x, Packed):
        return {k: _bytes(p) for k, p in x.planes.items()}
    return None if x is None else np.asarray(x).tobytes()


def _all_equal(a: Sequence[Array], b: Sequence[Array]) -> bool:
    return all(_bytes(x) == _bytes(y) for x, y in zip(a, b, strict=True))
