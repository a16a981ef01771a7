"""Does every pass keep its word? A pipeline run pass by pass, each result held to the pass's exactness.

An exact pass must change no bit. After a rounding pass the error against a float64 run of the plain graph may be four
times the plain graph's own. A lossy pass is not judged: its loss is reported, what it made is compared with the same
graph on dequantized weights, and the passes after it are held to that.

Graphs run as `evaluate` says: a kernel means the same but rounds otherwise, and a pass may change which one runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from burnish.backends.binding import BindError
from burnish.backends.interpreter import Interpreter
from burnish.debug.numbers import error, made_up_inputs, made_up_weights, run_all, run_in_float64, same_bits, units_of
from burnish.ir.module import Module
from burnish.ir.op import Array
from burnish.passes.engine import Context, Controller, Exactness, Observer, Pass
from burnish.runtime.targets import read_pipeline

__all__ = ["FACTOR", "Checker", "Verdict"]

Results = Mapping[str, Array]
FACTOR = 4  # how many times the plain graph's own error a rounding rewrite may have


@dataclass(frozen=True)
class Verdict:
    """What a pass did to the results, all relative to the largest number of an output.

    `error` is what the graph is off from float64 afterwards, and `limit` what it may be (rounding). `loss` is the
    change that a lossy pass made; `error` is then how far its graph is from itself in float64, on dequantized weights.
    """

    pass_text: str
    exactness: Exactness
    applications: int
    fault: str | None  # None where the pass kept its word
    error: float = 0.0
    limit: float = 0.0
    loss: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Its fields, for machines; what is not finite becomes a string."""
        return {k: str(v) if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        done = f"{self.applications} applied" if self.applications else "nothing applied"
        head = f"{'ok' if self.fault is None else 'FAIL':4}  {self.pass_text:28} {self.exactness:8}  {done:15}"
        if self.fault is not None:
            return f"{head}  {self.fault}"
        if not self.applications:
            return head.rstrip()
        if self.exactness == "exact":
            return f"{head}  no bit differs"
        if self.exactness == "lossy":
            return f"{head}  loss {self.loss:.3g}, not judged; error {self.error:.3g} against dequantized weights"
        return f"{head}  error {self.error:.3g} of at most {self.limit:.3g}"


@dataclass
class _Baseline:
    """What the graph of before gives, and how far that is from the truth."""

    exact: dict[str, Array]
    limits: dict[str, float]

    @classmethod
    def of(cls, module: Module, results: Results, given: Mapping[str, Array]) -> _Baseline:
        exact = run_all(module, run_in_float64(module), given)
        return cls(exact, {k: FACTOR * error(x, exact[k]) + units_of(x) for k, x in results.items()})

    def furthest(self, results: Results) -> tuple[float, float, str]:
        """(error, limit, output) where the error is largest beside its limit."""
        found = [(error(results[k], self.exact[k]), limit, k) for k, limit in self.limits.items() if k in results]
        return max(found, key=lambda f: f[0] / f[1] if f[1] else f[0], default=(0.0, 0.0, ""))


class Checker:
    """Holds pipelines over one module to their word, on given inputs or made-up ones.

    `given` are arrays for the inputs of the plain graphs, as `graph.input` or by name alone. A module without a source
    gets made-up weights. The plain graph is run once, however many pipelines are checked. Raises BindError for inputs
    that do not fit.
    """

    def __init__(self, module: Module, given: Mapping[str, Array] | None = None, seed: int = 0) -> None:
        self.module = module.copy()
        if self.module.source is None:
            self.module.source = made_up_weights(self.module, seed)
        invented = made_up_inputs(self.module, seed)
        self.given = invented if given is None else _by_graph(given, invented)
        self.plain = self._run(self.module)
        self.baseline = _Baseline.of(self.module, self.plain, self.given)

    def __call__(
        self, pipeline: str, controller: Controller | None = None, observers: Sequence[Observer] = ()
    ) -> list[Verdict]:
        """A verdict on every pass of a pipeline. Raises PipelineError, PassError."""
        return list(self.verdicts(read_pipeline(pipeline), controller, observers))

    def verdicts(
        self, passes: Sequence[Pass], controller: Controller | None = None, observers: Sequence[Observer] = ()
    ) -> Iterator[Verdict]:
        """A verdict on each pass as it has run. Raises PassError."""
        context = Context(self.module.copy(), observers=observers)
        if controller is not None:
            context.controller = controller
        before, baseline, count = self.plain, self.baseline, 0
        for pass_ in passes:
            context.run(pass_)
            made = len(context.applied) - count
            count += made
            if not made:
                yield Verdict(str(pass_), pass_.exactness, 0, None)
                continue
            after = self._run(context.module)
            verdict = self._verdict(pass_, made, before, after, baseline)
            if verdict.exactness == "lossy" or verdict.fault is not None:  # those that follow start from here
                baseline = _Baseline.of(context.module, after, self.given)
            if verdict.exactness == "lossy":
                verdict = replace(verdict, error=baseline.furthest(after)[0])
            before = after
            yield verdict

    def _verdict(self, pass_: Pass, made: int, before: Results, after: Results, baseline: _Baseline) -> Verdict:
        verdict = Verdict(str(pass_), pass_.exactness, made, None)
        if pass_.exactness == "exact":
            return replace(verdict, fault=_other_bits(before, after))
        if pass_.exactness == "rounding":
            off, limit, name = baseline.furthest(after)
            fault = f"{name}: error {off:.3g} against float64, at most {limit:.3g}" if off > limit else None
            return replace(verdict, fault=fault, error=off, limit=limit)
        loss = max((error(after[k], before[k]) for k in before.keys() & after.keys()), default=0.0)
        fault = None if np.isfinite(loss) else "the results are of another shape, or not finite"
        return replace(verdict, fault=fault, loss=loss)

    def _run(self, module: Module) -> dict[str, Array]:
        return run_all(module, Interpreter(module, kernels={}, check=True), self.given)


def _by_graph(given: Mapping[str, Array], needed: Iterable[str]) -> dict[str, Array]:
    """The arrays for the inputs in `needed`, which are `graph.input`."""
    needed = {key: key if key in given else key.partition(".")[2] for key in needed}
    if set(needed.values()) != set(given):
        raise BindError(f"the model's inputs are {', '.join(needed)}; given are {', '.join(given) or 'none'}")
    return {key: given[name] for key, name in needed.items()}


def _other_bits(before: Results, after: Results) -> str | None:
    for name in before.keys() & after.keys():
        if not same_bits(before[name], after[name]):
            return f"{name}: not the same bits; error {error(after[name], before[name]):.3g}"
    return None
