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
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import burnish
from benchmarks.peer_report import Case, Turns, summary, table
from burnish.ir.signature import Rows
from burnish.ir.types import NUMPY
from burnish.runtime.measure import machine, read_bandwidth, weight_bytes

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


class Peer(NamedTuple):
    """An engine with one way to store a model, and the name of that which it is compared with.

    What it reads, `bits` a weight and `cache` bytes a number of the cache, is what its share of the bandwidth is of.
    """

    name: str
    engine: str
    path: str
    bits: float
    cache: int
    beside: str

    def command(self, peers: Path, model: str, threads: int) -> list[str]:
        """The line that starts it."""
        path = str(peers / self.path.format(model=model))
        if self.engine == "llama.cpp":
            return [str(peers / "llama_cpp"), "serve", path, str(threads)]
        return [sys.executable, "-m", "benchmarks.peers", self.engine, path, str(threads)]


DECODERS = (
    Peer("llama.cpp q4_0", "llama.cpp", "gguf/{model}-q4_0.gguf", 4.5, 2, "llama.cpp q4_0"),
    Peer("burnish q4_0", "burnish", "packages/{model}-q4_0", 4.5, 4, "llama.cpp q4_0"),
    Peer("burnish-xla q4_0", "burnish-xla", "packages/{model}-q4_0", 4.5, 4, "llama.cpp q4_0"),
    Peer("onnxruntime-genai int4", "onnxruntime-genai", "onnxruntime/{model}-int4", 5, 4, "llama.cpp q4_0"),
    Peer("openvino int4", "openvino", "openvino/{model}-int4", 4.5, 1, "llama.cpp q4_0"),
    Peer("llama.cpp q8_0", "llama.cpp", "gguf/{model}-q8_0.gguf", 8.5, 2, "llama.cpp q8_0"),
    Peer("burnish q8_0", "burnish", "packages/{model}-q8_0", 8.5, 4, "llama.cpp q8_0"),
    Peer("llama.cpp bf16", "llama.cpp", "gguf/{model}-bf16.gguf", 16, 2, "llama.cpp bf16"),
    Peer("burnish bf16", "burnish", "packages/{model}-none", 16, 4, "llama.cpp bf16"),
    Peer("transformers f32", "transformers", "models/{model}", 32, 4, "llama.cpp bf16"),  # in bf16 AVX2 takes minutes
)
ENCODERS = (
    Peer("onnxruntime f32", "onnxruntime", "onnx/{model}-f32.onnx", 32, 0, "onnxruntime f32"),
    Peer("burnish f32", "burnish", "packages/{model}-none", 32, 0, "onnxruntime f32"),
    Peer("transformers f32", "transformers", "models/{model}", 32, 0, "onnxruntime f32"),
    Peer("onnxruntime int8", "onnxruntime", "onnx/{model}-int8.onnx", 8, 0, "onnxruntime int8"),
    Peer("burnish q8_0", "burnish", "packages/{model}-q8_0", 8.5, 0, "onnxruntime int8"),
)


@dataclass
class Running:
    """An engine's process, which stands still but for its turns: threads that spin when their work is done would take
    a core from the next.
    """

    process: subprocess.Popen[str]
    turns: Turns

    def ask(self, line: str) -> dict[str, Any]:
        """Its answer to a line. Raises EngineError."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise EngineError("it ended") from None
        said = self.process.stdout.readline()
        self.process.send_signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(said) if said else {"error": "it ended"}
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer

    def end(self) -> None:
        """Let it end."""
        self.process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):
            self.process.communicate()


class EngineError(Exception):
    """An engine that does not run, and why."""


def start(command: Sequence[str], cores: Sequence[int], turns: Turns) -> Running:
    """An engine that has made a first token, on these cores; the time that it took is added. Raises EngineError."""
    environment = {k: x for k, x in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # as what is installed starts
    began, all_cores = time.perf_counter(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # which a process has of its parent
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
    except OSError as e:
        raise EngineError(f"{command[0]}: {e.strerror}") from None
    finally:
        os.sched_setaffinity(0, all_cores)
    running = Running(process, turns)
    try:
        running.ask("")
        running.ask(FIRST)
    except EngineError as e:
        process.kill()
        process.communicate()
        raise EngineError(str(e)) from None
    turns.first_token_s.append(time.perf_counter() - began)
    return running


@contextmanager
def competitor(kind: str | None, core: int) -> Iterator[subprocess.Popen[bytes] | None]:
    """Within: a process that spins, on that core or wherever it is put."""
    if kind is None:
        yield None
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    if kind == "pinned":
        os.sched_setaffinity(process.pid, [core])
    try:
        yield process
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
    turns = {p.name: Turns() for p in peers}
    running: dict[str, Running] = {}
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        stack.callback(lambda: [engine.end() for engine in running.values()])
        stack.enter_context(competitor(options.competitor, cores[0]))
        for number in range(options.starts):
            for peer in peers if number % 2 == 0 else peers[::-1]:
                if peer.name in running:
                    running.pop(peer.name).end()
                if peer.name in left_out:
                    continue
                try:
                    command = peer.command(options.peers, model.name, threads)
                    running[peer.name] = start(command, own, turns[peer.name])
                except EngineError as e:
                    left_out[peer.name] = str(e)
        rounds, order = 0, [p.name for p in peers if p.name in running]
        while rounds < options.repeat and (rounds == 0 or time.monotonic() - began < budget):
            for case in cases:
                for name in order[:] if rounds % 2 == 0 else order[::-1]:
                    try:
                        answer = running[name].ask(f"{case.batch} {case.tokens} {case.steps}\n")
                    except EngineError as e:
                        left_out[name] = f"{case}: {e}"
                        order.remove(name)
                        continue
                    turns[name].answers.setdefault(case, []).append(answer)
            rounds += 1
    setting = {"model": model.name, "machine": machine(), "threads": threads, "competitor": options.competitor or ""}
    engines = {}
    for peer in peers:
        if peer.name in order:
            beside = turns[peer.beside] if peer.beside in order else None
            found = summary(turns[peer.name], beside, partial(model.bytes_of, peer), limit.most)
            engines[peer.name] = found | ({} if beside is None else {"beside": peer.beside})
    setting |= {"rounds": rounds, "read_gb_s": round(limit.most / 1e9, 1)}
    return {"setting": setting, "left_out": left_out, "engines": engines}


def default_cases(model: Model) -> list[Case]:
    """What is asked unless one says."""
    if model.generates:
        return [Case(1, 128, 24), Case(1, 512, 0), Case(1, 1024, 24)]
    return [Case(1, 128, 0), Case(32, 128, 0)]


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
