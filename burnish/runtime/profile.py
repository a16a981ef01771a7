"""Where the time goes: each node's time to its op's kind, nothing to "the rest"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from burnish.ir.graph import Node
from burnish.ir.op import Array

__all__ = ["TimeShare"]


@dataclass
class TimeShare:
    """A probe of the interpreter. The seconds of all kinds add up to the wall time less the probe's own cost."""

    seconds: dict[tuple[str, str], float] = field(default_factory=dict)  # (kind, op) -> seconds
    calls: dict[tuple[str, str], int] = field(default_factory=dict)
    wall: float = 0.0
    own: float = 0.0
    runs: int = 0

    def node(self, node: Node, inputs: Sequence[Array | None], outputs: Sequence[Array], seconds: float) -> None:
        """Add a node's time to its op and kind."""
        key = (node.op.kind, node.op.name)
        self.seconds[key] = self.seconds.get(key, 0.0) + seconds
        self.calls[key] = self.calls.get(key, 0) + 1

    def finished(self, wall: float, own: float) -> None:
        """Add up a run."""
        self.wall, self.own, self.runs = self.wall + wall, self.own + own, self.runs + 1

    @property
    def by_kind(self) -> dict[str, float]:
        """Seconds by kind, most first."""
        kinds: dict[str, float] = {}
        for (kind, _), s in self.seconds.items():
            kinds[kind] = kinds.get(kind, 0.0) + s
        return dict(sorted(kinds.items(), key=lambda item: -item[1]))

    @property
    def unaccounted(self) -> float:
        """The wall time less the probe's own and every node's: 0, but for rounding."""
        return self.wall - self.own - sum(self.seconds.values())

    def text(self) -> str:
        """A table: kinds with their shares, the ops within, the probe's own cost."""
        total = sum(self.seconds.values()) or 1.0
        lines = []
        for kind, s in self.by_kind.items():
            lines.append(f"{kind:24} {1e3 * s:10.2f} ms {100 * s / total:6.1f} %")
            ops = [(op, t) for (k, op), t in self.seconds.items() if k == kind]
            for op, t in sorted(ops, key=lambda item: -item[1]):
                lines.append(f"  {op:22} {1e3 * t:10.2f} ms {100 * t / total:6.1f} %  {self.calls[kind, op]:6} x")
        lines.append(f"{'sum':24} {1e3 * total:10.2f} ms of {1e3 * self.wall:.2f}; the probe took {1e3 * self.own:.2f}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """The same for machines, in seconds."""
        return {
            "kinds": self.by_kind,
            "ops": {op: s for (_, op), s in sorted(self.seconds.items(), key=lambda item: -item[1])},
            "wall": self.wall,
            "probe": self.own,
            "runs": self.runs,
        }
