"""What benchmarks/cpu_peers.py makes of what engines answered: figures, ratios, a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from burnish.runtime.measure import Spread

__all__ = ["Case", "Turns", "summary", "table"]

Answer = Mapping[str, float]  # see `benchmarks.peers`


class Case(NamedTuple):
    """So many texts of so many tokens, and steps after them."""

    batch: int
    tokens: int
    steps: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """Of "32x128:24"; without a number of steps there are none. Raises ValueError for anything else."""
        batch, _, rest = text.partition("x")
        tokens, _, steps = rest.partition(":")
        return cls(int(batch), int(tokens), int(steps or 0))

    @property
    def phases(self) -> dict[str, tuple[str, int]]:
        """What is measured of it: under which name, which phase, of how many tokens."""
        batch = f"{self.batch}x" if self.batch > 1 else ""
        phases = {f"{batch}pp{self.tokens}": ("prefill", self.batch * self.tokens)}
        return phases | ({f"tg@{self.tokens}": ("decode", self.steps)} if self.steps else {})


@dataclass
class Turns:
    """What an engine has answered, turn by turn, and how long its starts took."""

    first_token_s: list[float] = field(default_factory=list)
    answers: dict[Case, list[Answer]] = field(default_factory=dict)


def summary(turns: Turns, beside: Turns | None, bytes_of: Callable[[float], float], limit: float) -> dict[str, Any]:
    """An engine's figures, and how many times as fast it was as another in the turns beside.

    `bytes_of(tokens)` is what a step reads behind so many tokens, `limit` the bytes a second that memory gives.
    """
    phases: dict[str, Any] = {}
    for case, answers in turns.answers.items():
        for name, (phase, count) in case.phases.items():
            seconds = [a[f"{phase}_s"] for a in answers]
            line: dict[str, Any] = {
                "tokens_per_s": Spread.of(count / s for s in seconds)._asdict(),
                "cores": Spread.of(a[f"{phase}_cpu_s"] / s for a, s in zip(answers, seconds, strict=True)).median,
            }
            if beside is not None:
                theirs = [a[f"{phase}_s"] for a in beside.answers[case]]
                line["ratio"] = Spread.of(t / s for s, t in zip(seconds, theirs, strict=True))._asdict()
            if phase == "decode":
                reads = bytes_of(case.tokens + case.steps / 2)
                line["share_of_bandwidth"] = reads * line["tokens_per_s"]["median"] / limit
            phases[name] = line
    first = Spread.of(turns.first_token_s)
    start: dict[str, Any] = {"seconds": first._asdict()}
    if beside is not None:
        start["ratio"] = Spread.of(beside.first_token_s).ratio(first)._asdict()
    memory = max(a["memory"] for answers in turns.answers.values() for a in answers)
    return {"phases": phases, "start": start, "memory_bytes": memory}


def table(found: Mapping[str, Any]) -> str:
    """What a run found, as tables: the figures, and the ratios of those that have another beside them."""
    s, engines = found["setting"], found["engines"]
    competitor = f", beside a process that spins ({s['competitor']})" if s["competitor"] else ""
    machine = f"{s['machine']}; {s['threads']} threads{competitor}; {s['read_gb_s']} GB/s"
    lines = [
        f"{s['model']}: {machine}; {s['rounds']} rounds",
        *(f"left out: {name}: {why}" for name, why in found["left_out"].items()),
    ]
    phases = list(dict.fromkeys(phase for engine in engines.values() for phase in engine["phases"]))
    for phase in phases:
        lines.append(f"\n{phase:24}{'tokens/s':>10}{'least':>10}{'most':>10}{'ratio':>8}{'cores':>7}{'bandwidth':>11}")
        for name, engine in engines.items():
            line = engine["phases"][phase]
            share = f"{line['share_of_bandwidth']:11.0%}" if "share_of_bandwidth" in line else ""
            lines.append(f"{name:24}{_spread(line['tokens_per_s'], 1)}{_ratio(line):>8}{line['cores']:7.2f}{share}")
    if engines:
        lines.append(
            f"\n{'start to first token':24}{'seconds':>10}{'least':>10}{'most':>10}{'ratio':>8}{'memory MB':>11}"
        )
    for name, engine in engines.items():
        start = engine["start"]
        lines.append(f"{name:24}{_spread(start['seconds'], 2)}{_ratio(start):>8}{engine['memory_bytes'] / 1e6:11.0f}")
    if beside := {name: e for name, e in engines.items() if "beside" in e and e["beside"] != name}:
        lines.append(f"\n{'times as fast':24}" + "".join(f"{p:>10}" for p in [*phases, "start"]) + "  as")
    for name, engine in beside.items():
        each = [*(engine["phases"][p] for p in phases), engine["start"]]
        lines.append(f"{name:24}" + "".join(f"{_ratio(line):>10}" for line in each) + f"  {engine['beside']}")
    return "\n".join(lines) + "\n"


def _spread(spread: Mapping[str, float], digits: int) -> str:
    return "".join(f"{spread[k]:10.{digits}f}" for k in ("median", "least", "most"))


def _ratio(line: Mapping[str, Any]) -> str:
    return f"{line['ratio']['median']:.2f}" if "ratio" in line else "-"
