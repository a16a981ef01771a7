"""Does every pass keep its word? A pipeline run pass by pass, each result held to the pass's exactness.

The model reads some texts (`readings.py`): one token, sequences of different lengths, a long one; plain at once, made
stateful in steps, so that decoding is held to a full forward. Inputs and outputs stay what they were (`signatures.py`).
An exact pass must change no bit. After a rounding pass the error against a float64 run of the plain graph may be four
times the plain graph's own. A lossy pass may round: each tensor that it quantizes is held to its format, and with
nothing rounded its graph must be right (`quantized.py`); the passes after it are held to what it made.

Graphs run as `evaluate` says: a kernel means the same but rounds otherwise, and a pass may change which one runs. A
backend, where one is asked for, is held to that as a last pass is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from burnish.backends.backend import Backend
from burnish.backends.binding import BindError
from burnish.backends.interpreter import Interpreter
from burnish.backends.static import Static
from burnish.backends.target import make_backend
from burnish.debug.blocks import BlockError, added_by_blocks
from burnish.debug.numbers import Float64, error, made_up_weights, same_bits, units_of
from burnish.debug.quantized import Held, Watch, held_weights
from burnish.debug.readings import Reading, Results, Steps
from burnish.debug.samples import numbers_in, reading_of, readings_of
from burnish.debug.signatures import Signature
from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.ir.ops.quantization import Quantize
from burnish.passes.engine import Context, Controller, Exactness, Observer, Pass, PassError, Remark
from burnish.runtime.targets import read_pipeline

__all__ = ["FACTOR", "Checker", "Verdict"]

FACTOR = 4  # how many times the plain graph's own error a rounding rewrite may have
PASSED_ON = 0.01  # a block that adds less of the error that leaves it does but pass it on
SHOWN = 3  # of the blocks that add to an error, the worst
ON_BACKEND = 3  # so many readings are given to a backend, which may compile for each size


@dataclass(frozen=True)
class Verdict:
    """What a pass did to the results, all relative to the largest number of an output.

    `error` is what the graph is off from float64 afterwards, and `limit` what it may be (rounding). `loss` is the
    change that a lossy pass made; `error` is then how far its graph is from itself in float64, on dequantized weights.
    `tensors` are those that it quantized; `misfits` are places where a rule fitted but not what it built, which were
    left alone; `blocks` say where an error, or a loss, was made. `backend` is set where no pass is judged, but what ran
    the graph. A fault was seen in the reading of the number `reading`, or in none of them alone.
    """

    pass_text: str
    exactness: Exactness
    applications: int
    fault: str | None  # None where the pass kept its word
    error: float = 0.0
    limit: float = 0.0
    loss: float = 0.0
    tensors: tuple[Held, ...] = ()
    misfits: tuple[Remark, ...] = ()
    backend: str = ""
    reading: int | None = None
    blocks: tuple[BlockError, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Its fields, for machines; what is not finite becomes a string."""
        fields = asdict(self)
        fields["tensors"] = [_finite(asdict(t)) for t in self.tensors]
        fields["blocks"] = [_finite(asdict(b)) for b in self.blocks]
        fields["misfits"] = list(map(str, self.misfits))
        return _finite(fields)

    def __str__(self) -> str:
        done = f"{self.applications} applied" if self.applications else "nothing applied"
        done = "ran" if self.backend else done
        done += f", {len(self.misfits)} left alone: what is built does not fit" if self.misfits else ""
        head = f"{'ok' if self.fault is None else 'FAIL':4}  {self.pass_text:28} {self.exactness:8}  {done:15}"
        if self.fault is not None:
            worst = sorted(self.blocks, key=lambda b: -b.added)[:SHOWN]
            adding = [b for b in worst if b.added > max(self.limit, PASSED_ON * b.total)]
            return "\n".join([f"{head}  {self.fault}", *(f"        {b}" for b in adding)])
        if not self.applications and not self.backend:
            return head.rstrip()
        if self.exactness == "exact":
            return f"{head}  no bit differs"
        if self.exactness == "lossy":
            furthest = max((t.off for t in self.tensors), default=0.0)
            held = f"{len(self.tensors)} tensors at most {furthest:.2f} of what their formats round"
            by = max(self.blocks, key=lambda b: b.added, default=None)
            most = f" ({by.added:.3g} added by {by.block}, the most)" if by is not None else ""
            return f"{head}  loss {self.loss:.3g}{most}; {held if self.tensors else 'nothing that it could be held to'}"
        return f"{head}  error {self.error:.3g} of at most {self.limit:.3g}"


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, float) and not np.isfinite(v) else v for k, v in fields.items()}


@dataclass
class _Baseline:
    """What the readings come to in truth, and how far a right graph may be from that: by output, over all readings."""

    exact: list[Results]
    limits: dict[str, float]

    @classmethod
    def of(cls, module: Module, results: Sequence[Results], readings: Sequence[Reading]) -> _Baseline:
        exact = [reading(Float64(module)) for reading in readings]
        baseline = cls(exact, {})
        baseline.limits = {
            name: FACTOR * max(off for _, off in baseline.errors(results, name)) + units_of(x.array)
            for name, x in (results[0] if results else {}).items()
        }
        return baseline

    def errors(self, results: Sequence[Results], name: str) -> Iterator[tuple[int, float]]:
        """(reading, error) of one output."""
        for i, (exact, made) in enumerate(zip(self.exact, results, strict=False)):
            if name in exact and name in made:
                yield i, error(*made[name].beside(exact[name]))

    def furthest(self, results: Sequence[Results]) -> tuple[float, float, str, int]:
        """(error, limit, output, reading) where the error is largest beside its limit."""
        found = [(e, limit, name, i) for name, limit in self.limits.items() for i, e in self.errors(results, name)]
        return max(found, key=lambda f: f[0] / f[1] if f[1] else f[0], default=(0.0, 0.0, "", 0))

    def extended(self, module: Module, results: Sequence[Results], readings: Sequence[Reading]) -> _Baseline:
        """With what a pass has added to the results, states, as that graph itself has them in float64."""
        if not results or set(results[0]) == set(self.limits):
            return self
        own = _Baseline.of(module, results, readings)
        limits = {k: self.limits.get(k, limit) for k, limit in own.limits.items()}
        return _Baseline(
            [
                mine | {k: r for k, r in theirs.items() if k in self.limits}
                for mine, theirs in zip(own.exact, self.exact, strict=True)
            ],
            limits,
        )


class Checker:
    """Holds pipelines over one module to their word, on what the module is given to read.

    `given` are arrays for the inputs of the plain graphs, as `graph.input` or by name alone, in place of made-up ones;
    `sizes` are those of symbols. A module without a source gets made-up weights. With `backend`, a target's name, its
    passes follow each pipeline, and what it makes of the graph is judged too. Raises BindError for inputs that do not
    fit.
    """

    def __init__(
        self,
        module: Module,
        given: Mapping[str, Array] | None = None,
        seed: int = 0,
        sizes: Mapping[str, int] | None = None,
        backend: str = "",
    ) -> None:
        self.module, self.seed, self.sizes, self.backend = module.copy(), seed, sizes, backend
        if self.module.source is None:
            self.module.source = made_up_weights(self.module, seed)
        self.given = None if given is None else reading_of(self.module, given)
        self.readings: list[Reading] = []
        self._prepared: dict[str, None] = {}
        self._numbers = numbers_in(self.module)
        self._begin()

    def __call__(
        self, pipeline: str, controller: Controller | None = None, observers: Sequence[Observer] = ()
    ) -> list[Verdict]:
        """A verdict on every pass of a pipeline. Raises PipelineError, PassError."""
        return list(self.verdicts(self.passes(pipeline), controller, observers))

    def passes(self, pipeline: str) -> list[Pass]:
        """Those of a pipeline, with those of the backend behind them unless they are there. Raises PipelineError."""
        own = [str(p) for p in read_pipeline(self.backend)] if self.backend else []
        passes = read_pipeline(pipeline)
        there = [str(p) for p in passes[len(passes) - len(own) :]]
        return passes if own == there else passes + read_pipeline(self.backend)

    def verdicts(
        self,
        passes: Sequence[Pass],
        controller: Controller | None = None,
        observers: Sequence[Observer] = (),
        by_block: bool = False,
    ) -> Iterator[Verdict]:
        """A verdict on each pass as it has run, up to one after which nothing runs. Raises PassError.

        With `by_block`, those with an error or a loss say which blocks made it.
        """
        self.prepare(passes)
        context = Context(self.module.copy(), observers=observers)
        if controller is not None:
            context.controller = controller
        before, baseline, count, static = self.plain, self.baseline, 0, Static()
        told: set[Remark] = set()
        for pass_ in passes:
            old = context.module.copy() if by_block or pass_.exactness == "lossy" else None
            signature = Signature.of(context.module)
            context.run(pass_)
            made = context.applied[count:]
            count += len(made)
            misfits = tuple(r for r in context.remarks if r.misfit and r not in told)
            told.update(misfits)
            verdict = Verdict(str(pass_), pass_.exactness, len(made), None, misfits=misfits)
            if not made:
                yield verdict
                continue
            restructured = any(a.restructures for a in made)
            fault = signature.fault(Signature.of(context.module), restructured)
            after, broken = self._run(Interpreter(context.module, static, {}, True))
            if broken is not None:
                yield replace(verdict, fault=fault or broken, reading=None if fault else len(after))
                return
            if fault is None:
                verdict = self._verdict(verdict, before, after, baseline, old, context.module)
            else:
                verdict = replace(verdict, fault=fault)
            if by_block and old is not None and (verdict.fault is not None or verdict.exactness == "lossy"):
                verdict = replace(verdict, blocks=self._by_block(old, context.module, verdict.reading))
            before = after
            if verdict.fault is not None:
                yield verdict  # before what is needed only for those that follow
            if verdict.exactness == "lossy" or verdict.fault is not None:  # they start from here
                baseline = _Baseline.of(context.module, after, self.readings)
            elif restructured:
                baseline = baseline.extended(context.module, after, self.readings)
            if verdict.fault is None:
                lossy = verdict.exactness == "lossy"
                yield replace(verdict, error=baseline.furthest(after)[0]) if lossy else verdict
        if self.backend:
            yield self._on_backend(context.module, baseline)

    def prepare(self, passes: Sequence[Pass]) -> None:
        """Have the numbers that these passes bring into the graph straddled by what is read."""
        text = ",".join(map(str, passes))
        if text in self._prepared or self.given is not None:
            return
        self._prepared[text] = None
        context, found = Context(self.module.copy()), set(self._numbers)
        try:
            for pass_ in passes:
                context.run(pass_)
                found |= numbers_in(context.module)
        except PassError:
            pass  # the check itself will meet it
        if found != self._numbers:
            self._numbers = found
            self._begin()

    def focused(self, reading: int) -> Checker:
        """One that has but this reading, and judges it as this one does: to look for a fault that it shows."""
        checker = copy(self)
        checker.readings, checker.plain = [self.readings[reading]], [self.plain[reading]]
        checker.baseline = replace(self.baseline, exact=[self.baseline.exact[reading]])
        return checker

    def _begin(self) -> None:
        """Let the plain graph read all that it takes."""
        made = readings_of(self.module, self.seed, self.sizes, self._numbers) if self.given is None else [self.given]
        backend, self.readings, self.plain = Interpreter(self.module, kernels={}, check=True), [], []
        refused: BindError | None = None
        for reading in made:
            try:
                self.plain.append(reading(backend))
                self.readings.append(reading)
            except BindError as e:
                refused = refused or e
        if not self.readings and refused is not None:
            raise refused
        self.baseline = _Baseline.of(self.module, self.plain, self.readings)

    def _run(self, backend: Backend, most: int | None = None) -> tuple[list[Results], str | None]:
        """The results of the readings, or what went wrong."""
        results: list[Results] = []
        for reading in self.readings[:most]:
            try:
                results.append(reading(backend))
            except BindError as e:
                return results, f"{reading.name}: refused, as it was not before: {e}"
            except Exception as e:
                return results, f"{reading.name}: fails, as it did not before: {type(e).__name__}: {e}"
        return results, None

    def _verdict(
        self,
        verdict: Verdict,
        before: Sequence[Results],
        after: Sequence[Results],
        baseline: _Baseline,
        old: Module | None,
        new: Module,
    ) -> Verdict:
        if verdict.exactness == "exact":
            return self._exact(verdict, before, after)
        if verdict.exactness == "rounding":
            off, limit, name, i = baseline.furthest(after)
            fault = self._beyond(off, limit, name, i, before, after) if off > limit else None
            return replace(verdict, fault=fault, error=off, limit=limit, reading=None if fault is None else i)
        assert old is not None
        pairs = [a[k].beside(b[k]) for b, a in zip(before, after, strict=True) for k in b if k in a]
        loss = max((error(x, y) for x, y in pairs if x.dtype.kind not in "iub"), default=0.0)
        verdict = replace(verdict, loss=loss)
        if not np.isfinite(loss):
            return replace(verdict, fault="the results are of another shape, or not finite")
        return self._quantized(verdict, old, new, baseline)

    def _quantized(self, verdict: Verdict, old: Module, new: Module, baseline: _Baseline) -> Verdict:
        """Each tensor held to its format, and the graph to the one of before, but for rounding."""
        held, stands_for = held_weights(old, new)
        watch = Watch()
        for reading in self.readings[:2]:
            reading(Interpreter(new, kernels={}), watch)
        tensors = (*held, *watch.worst.values())
        verdict = replace(verdict, tensors=tensors)
        if faults := [f for t in tensors if (f := t.fault) is not None]:
            return replace(verdict, fault="; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" * (len(faults) > 4)))
        if not tensors:
            return verdict
        unrounded = [reading(Float64(new, stands_for, True)) for reading in self.readings]
        if any(isinstance(n.op, Quantize) for g in old.every_graph for n in g):
            baseline = replace(baseline, exact=[reading(Float64(old, unrounded=True)) for reading in self.readings])
        off, limit, name, i = baseline.furthest(unrounded)
        if off > limit:
            fault = f"{name}, {self.readings[i].name}: error {off:.3g} with nothing rounded, at most {limit:.3g}"
            return replace(verdict, fault=fault, reading=i)
        return verdict

    def _by_block(self, old: Module, new: Module, reading: int | None) -> tuple[BlockError, ...]:
        read = self.readings[min(1, len(self.readings) - 1) if reading is None else reading]
        return tuple(added_by_blocks(old, new, read.first if isinstance(read, Steps) else read))

    def _on_backend(self, module: Module, baseline: _Baseline) -> Verdict:
        verdict = Verdict(f"backend {self.backend}", "rounding", 0, None, backend=self.backend)
        results, broken = self._run(make_backend(self.backend, module), ON_BACKEND)
        if broken is not None:
            return replace(verdict, fault=broken, reading=len(results))
        off, limit, name, i = baseline.furthest(results)
        fault = f"{name}, {self.readings[i].name}: error {off:.3g} against float64, at most {limit:.3g}"
        if off <= limit:
            return replace(verdict, error=off, limit=limit)
        return replace(verdict, error=off, limit=limit, fault=fault, reading=i)

    def _exact(self, verdict: Verdict, before: Sequence[Results], after: Sequence[Results]) -> Verdict:
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            for name in old:
                if name in new and not same_bits(*(pair := new[name].beside(old[name]))):
                    what = f"{name}, {self.readings[i].name}: not the same bits; error {error(*pair):.3g}"
                    return replace(verdict, fault=what + _exchanged(name, old, new), reading=i)
        return verdict

    def _beyond(
        self, off: float, limit: float, name: str, i: int, before: Sequence[Results], after: Sequence[Results]
    ) -> str:
        what = f"{name}, {self.readings[i].name}: error {off:.3g} against float64, at most {limit:.3g}"
        return what + _exchanged(name, before[i], after[i])


def _exchanged(name: str, old: Results, new: Results) -> str:
    """Where an output has what another had."""
    if name not in new:
        return ""
    x = new[name].array
    others = (k for k, r in old.items() if k != name and r.array.shape == x.shape and error(x, r.array) < 1e-3)
    other = next(others, None)
    return f"; it has what {other} had" if other else ""
