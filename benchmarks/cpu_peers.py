"""Other engines for CPUs beside Burnish, turn by turn in one run, on equal bytes.

    python -m benchmarks.cpu_peers PEERS [--models S,M,minilm] [--threads 1,2,4] [--competitor pinned] [--json OUT]

PEERS is a folder outside of the repository that `python -m benchmarks.peer_models PEERS` fills; README.md beside the
results says how. Each engine is a process that stays. They take turns case by case, so that what else the machine does
falls on all alike; compare the ratios, which are those of turns beside each other. What is not installed is left out,
and why is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import burnish
from burnish.ir.signature import Rows
from burnish.ir.types import NUMPY
from burnish.runtime.measure import Spread, machine, read_bandwidth, weight_bytes

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("peers", type=Path, metavar="PEERS", help="where the models and llama.cpp are")
parser.add_argument("--models", default="S", help="of PEERS/models, separated by commas (default: %(default)s)")
parser.add_argument(
    "--engines", help="the first words of the names of those that run, separated by commas (default: all)"
)
parser.add_argument(
    "--cases", help="BATCHxTOKENS:STEPS,… (default: 1x128:24,1x512:0,1x1024:24; encoders: 1x128,32x128)"
)
parser.add_argument("--threads", default="2", help="how many, or several numbers of them (default: %(default)s)")
parser.add_argument("--repeat", type=int, default=5, help="turns (default: %(default)s)")
parser.add_argument("--starts", type=int, default=3, help="starts of each process (default: %(default)s)")
parser.add_argument("--budget", type=float, default=540, help="seconds, after which no round begins (default: 540)")
parser.add_argument("--competitor", choices=["free", "pinned"], help="a process that spins beside, on one core or any")
parser.add_argument("--json", type=Path, metavar="OUT", help="write all that was measured")

FIRST = "1 16 0\n"  # what a start is asked for


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


class Peer(NamedTuple):
    """An engine with one way to store a model: what it reads of it, in bits a weight and bytes a number of a cache."""

    name: str
    engine: str
    path: str
    bits: float
    cache: int

    def command(self, peers: Path, model: str, threads: int) -> list[str]:
        """The line that starts it."""
        path = str(peers / self.path.format(model=model))
        if self.engine == "llama.cpp":
            return [str(peers / "llama_cpp"), "serve", path, str(threads)]
        return [sys.executable, "-m", "benchmarks.peers", self.engine, path, str(threads)]


#: the first of those that run is what the others are compared with, unless it is Burnish
DECODERS = (
    Peer("llama.cpp q4_0", "llama.cpp", "gguf/{model}-q4_0.gguf", 4.5, 2),
    Peer("burnish q4_0", "burnish", "packages/{model}-q4_0", 4.5, 4),
    Peer("burnish-xla q4_0", "burnish-xla", "packages/{model}-q4_0", 4.5, 4),
    Peer("onnxruntime-genai int4", "onnxruntime-genai", "onnxruntime/{model}-int4", 5, 4),  # scales are f32
    Peer("openvino int4", "openvino", "openvino/{model}-int4", 4.5, 1),
    Peer("llama.cpp q8_0", "llama.cpp", "gguf/{model}-q8_0.gguf", 8.5, 2),
    Peer("burnish q8_0", "burnish", "packages/{model}-q8_0", 8.5, 4),
    Peer("llama.cpp bf16", "llama.cpp", "gguf/{model}-bf16.gguf", 16, 2),
    Peer("burnish bf16", "burnish", "packages/{model}-none", 16, 4),
    Peer("transformers bf16", "transformers-bf16", "models/{model}", 16, 2),
)
ENCODERS = (
    Peer("onnxruntime f32", "onnxruntime", "onnx/{model}-f32.onnx", 32, 0),
    Peer("burnish f32", "burnish", "packages/{model}-none", 32, 0),
    Peer("transformers f32", "transformers", "models/{model}", 32, 0),
    Peer("onnxruntime int8", "onnxruntime", "onnx/{model}-int8.onnx", 8, 0),
    Peer("burnish q8_0", "burnish", "packages/{model}-q8_0", 8.5, 0),
)


@dataclass
class Running:
    """An engine's process, and what it has answered."""

    peer: Peer
    process: subprocess.Popen[str]
    first_token_s: list[float] = field(default_factory=list)
    answers: dict[Case, list[dict[str, float]]] = field(default_factory=dict)

    def ask(self, line: str) -> dict[str, Any]:
        """Its answer to a line. Raises EngineError."""
        assert self.process.stdin is not None and self.process.stdout is not None
        if line:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        said = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(said) if said else {"error": "it ended"}
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer

    def end(self) -> None:
        """Let it end."""
        self.process.communicate()


class EngineError(Exception):
    """An engine that does not run, and why."""


def start(command: Sequence[str], cores: Sequence[int], peer: Peer) -> Running:
    """An engine that has made a first token, on these cores. Raises EngineError."""
    began = time.perf_counter()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    except OSError as e:
        raise EngineError(f"{command[0]}: {e.strerror}") from None
    running = Running(peer, process)
    try:
        running.ask("")
        running.ask(FIRST)
    except (EngineError, BrokenPipeError) as e:
        process.kill()
        process.communicate()
        raise EngineError(str(e)) from None
    running.first_token_s.append(time.perf_counter() - began)
    return running


@contextmanager
def competitor(kind: str | None, core: int) -> Iterator[None]:
    """Within: a process that spins, on that core or wherever it is put."""
    if kind is None:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    if kind == "pinned":
        os.sched_setaffinity(process.pid, [core])
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Model(NamedTuple):
    """What an engine has to read for a token: numbers of weights, and of a cache for each token behind."""

    name: str
    generates: bool
    weights: int
    cache: int

    @classmethod
    def of(cls, peers: Path, name: str) -> Model:
        """Of the folder in PEERS/models."""
        module = burnish.load(peers / "models" / name)
        weights = sum(entry.type.nbytes // entry.type.elements for entry in list(module.weights.values())[:1])
        numbers, cache = weight_bytes(module) // weights, 0
        if module.facts.makes_text:
            main = burnish.executable(module).stateful.module.main
            assert main is not None
            rows = [v for v in main.states.values() if isinstance(v.role, Rows)]
            cache = sum(v.type.bind({"B": 1, "C": 1}).nbytes // NUMPY[v.dtype].itemsize for v in rows)
        return cls(name, module.facts.makes_text, numbers, cache)

    def bytes_of(self, peer: Peer, tokens: float) -> float:
        """The bytes that a step reads behind so many tokens."""
        return self.weights * peer.bits / 8 + self.cache * tokens * peer.cache


def measure(options: argparse.Namespace, model: Model, threads: int, budget: float) -> dict[str, Any]:
    """All engines of a model with one number of threads."""
    began, cores = time.monotonic(), sorted(os.sched_getaffinity(0))
    own = cores[:threads]
    limit = read_bandwidth(min(threads, len(cores)))
    peers = [
        p
        for p in (DECODERS if model.generates else ENCODERS)
        if options.engines is None or any(p.name.startswith(e) for e in options.engines.split(","))
    ]
    cases = default_cases(model) if options.cases is None else [Case.parse(c) for c in options.cases.split(",")]
    left_out: dict[str, str] = {}
    running: dict[str, Running] = {}
    with ExitStack() as stack:
        stack.enter_context(competitor(options.competitor, cores[0]))
        for turn in range(options.starts):
            for peer in peers if turn % 2 == 0 else peers[::-1]:
                if peer.name in left_out:
                    continue
                before = running.pop(peer.name, None)
                if before is not None:
                    before.end()
                try:
                    now = start(peer.command(options.peers, model.name, threads), own, peer)
                except EngineError as e:
                    left_out[peer.name] = str(e)
                    continue
                now.first_token_s += before.first_token_s if before else []
                running[peer.name] = now
        for engine in running.values():
            stack.callback(engine.end)
        order = [running[p.name] for p in peers if p.name in running]
        rounds = 0
        while rounds < options.repeat and (rounds == 0 or time.monotonic() - began < budget):
            for case in cases:
                for engine in order if rounds % 2 == 0 else order[::-1]:
                    answer = engine.ask(f"{case.batch} {case.tokens} {case.steps}\n")
                    engine.answers.setdefault(case, []).append(answer)
            rounds += 1
    setting = {"model": model.name, "machine": machine(), "threads": threads, "competitor": options.competitor or ""}
    return {
        "setting": {**setting, "rounds": rounds, "read_gb_s": round(limit.most / 1e9, 1)},
        "left_out": left_out,
        "engines": {e.peer.name: summary(e, model, limit.most, base_of(order)) for e in order},
    }


def default_cases(model: Model) -> list[Case]:
    """What is asked unless one says."""
    if model.generates:
        return [Case(1, 128, 24), Case(1, 512, 0), Case(1, 1024, 24)]
    return [Case(1, 128, 0), Case(32, 128, 0)]


def base_of(order: Sequence[Running]) -> Running:
    """What the others are compared with: the first that is not ours."""
    return next((e for e in order if not e.peer.name.startswith("burnish")), order[0])


def summary(engine: Running, model: Model, limit: float, base: Running) -> dict[str, Any]:
    """What an engine did, beside another's turns."""
    found: dict[str, Any] = {}
    for case, answers in engine.answers.items():
        for phase, count in (("prefill", case.batch * case.tokens), ("decode", case.steps)):
            if not count:
                continue
            line = phase_summary(answers, base.answers[case], phase, count)
            if phase == "decode":
                reads = model.bytes_of(engine.peer, case.tokens + case.steps / 2)
                line["share_of_bandwidth"] = reads * line["tokens_per_s"]["median"] / limit
            found[name_of(case, phase)] = line
    first = Spread.of(engine.first_token_s)
    memory = max(a["memory"] for answers in engine.answers.values() for a in answers)
    ratio = Spread.of(base.first_token_s).median / first.median
    return {**found, "first_token": {"seconds": first._asdict(), "ratio": ratio}, "memory_bytes": memory}


def phase_summary(
    answers: Sequence[Mapping[str, float]], others: Sequence[Mapping[str, float]], phase: str, count: int
) -> dict[str, Any]:
    """Tokens a second, the ratios to another engine's turns beside these, and the cores that were used."""
    seconds = f"{phase}_s"
    return {
        "tokens_per_s": Spread.of(count / a[seconds] for a in answers)._asdict(),
        "ratio": Spread.of(b[seconds] / a[seconds] for a, b in zip(answers, others, strict=True))._asdict(),
        "cores": Spread.of(a[f"{phase}_cpu_s"] / a[seconds] for a in answers).median,
    }


def name_of(case: Case, phase: str) -> str:
    """pp128, tg@1024, 32xpp128."""
    batch = f"{case.batch}x" if case.batch > 1 else ""
    return f"{batch}pp{case.tokens}" if phase == "prefill" else f"tg@{case.tokens}"


def table(found: Mapping[str, Any]) -> str:
    """A table of one run, and one of the ratios."""
    s = found["setting"]
    beside = f", beside a {s['competitor']} process that spins" if s["competitor"] else ""
    engines, left = found["engines"], found["left_out"]
    lines = [
        f"{s['model']}: {s['machine']}; {s['threads']} threads{beside}; {s['read_gb_s']} GB/s; {s['rounds']} rounds",
        *(f"left out: {name}: {why}" for name, why in left.items()),
    ]
    if not engines:
        return "\n".join(lines)
    columns = [c for c in next(iter(engines.values())) if c not in ("first_token", "memory_bytes")]
    for column in columns:
        lines.append(f"\n{column:24}{'tokens/s':>10}{'least':>10}{'most':>10}{'ratio':>8}{'cores':>7}{'of memory':>11}")
        for name, engine in engines.items():
            line = engine[column]
            speed = "".join(f"{line['tokens_per_s'][k]:10.1f}" for k in ("median", "least", "most"))
            share = f"{line['share_of_bandwidth']:11.0%}" if "share_of_bandwidth" in line else ""
            lines.append(f"{name:24}{speed}{line['ratio']['median']:8.2f}{line['cores']:7.2f}{share}")
    lines.append(f"\n{'first token':24}{'seconds':>10}{'least':>10}{'most':>10}{'ratio':>8}   memory MB")
    for name, engine in engines.items():
        first = engine["first_token"]
        times = "".join(f"{first['seconds'][k]:10.2f}" for k in ("median", "least", "most"))
        lines.append(f"{name:24}{times}{first['ratio']:8.2f}{engine['memory_bytes'] / 1e6:12.0f}")
    base = next((n for n in engines if not n.startswith("burnish")), next(iter(engines)))
    lines.append(f"\n{'times ' + base:24}" + "".join(f"{c:>10}" for c in [*columns, "start"]))
    for name, engine in engines.items():
        ratios = [engine[c]["ratio"]["median"] for c in columns] + [engine["first_token"]["ratio"]]
        lines.append(f"{name:24}" + "".join(f"{r:10.2f}" for r in ratios))
    return "\n".join(lines)


def main() -> None:
    """Measure each model with each number of threads, and print."""
    options = parser.parse_args()
    models = [Model.of(options.peers, name) for name in options.models.split(",")]
    threads = [int(n) for n in options.threads.split(",")]
    runs = []
    for model in models:
        for count in threads:
            runs.append(measure(options, model, count, options.budget / len(models) / len(threads)))
            print(table(runs[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
