"""Mutants of what a user may give, tried in a worker process under limits: each ends in a result or in one message.

A kind of mutants is a module with a function `attempt(seed, folder)`, which makes one from its seed alone, in `folder`,
and does with it what a user would. It may raise what the module says is `DOCUMENTED`, and nothing else; it ends within
`CPU` seconds, in `MEMORY` bytes, and writes no file beyond `WRITTEN` bytes. Where a user
would type a command, `ended` runs it.

    python -m tests.fuzzing MODULE FIRST COUNT FOLDER    # a worker: one line of JSON for each mutant
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from burnish.cli import main
from burnish.cli._errors import FAULT

CPU, MEMORY, WRITTEN = 60, 4 << 30, 200 << 20
LONGEST = 30_000  # characters of a message


class OutOfTime(BaseException):
    """A mutant has had its CPU time; no handler of exceptions swallows it."""


def faults(module: str, seeds: range, folder: Path) -> dict[int, str]:
    """Try mutants of a module; what went wrong, by seed: nothing, where all is well.

    A worker that dies is begun anew behind the mutant that killed it.
    """
    found: dict[int, str] = {}
    first = seeds.start
    while first < seeds.stop:
        command = [sys.executable, "-m", "tests.fuzzing", module, str(first), str(seeds.stop - first), str(folder)]
        worker = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
        tried = [json.loads(line) for line in worker.stdout.splitlines() if line.startswith("{")]
        found |= {t["seed"]: t["fault"] for t in tried if t["fault"]}
        first += len(tried)
        if first < seeds.stop:
            found[first] = f"the worker ended with {worker.returncode}: {worker.stderr[-2000:]}"
            first += 1
    return found


def fault_of(attempt: Callable[[int, Path], None], documented: tuple[type[Exception], ...], seed: int, at: Path) -> str:
    """What went wrong with one mutant; "" where nothing did."""
    signal.setitimer(signal.ITIMER_PROF, CPU)
    try:
        attempt(seed, at)
    except documented as e:
        lines = str(e).strip().splitlines() or [""]
        return "" if lines[0] and "crashed" not in lines[0] else f"a message that says nothing: {e!r}"
    except OutOfTime:
        return f"more than {CPU} s of CPU: {traceback.format_exc(limit=-8)}"
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return ""


def ended(*arguments: str) -> int:
    """The exit code of a command line. Raises AssertionError unless it is documented, and comes with a message."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    code = -1
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(list(arguments))
    except SystemExit as e:
        code = int(e.code or 0)
    text, line = err.getvalue(), f"burnish {' '.join(arguments)}"
    assert 0 <= code < FAULT and "Traceback" not in text, f"{line} ended with {code}: {text.strip()}"
    assert code < 2 or text.startswith(("error: ", "note: ")), f"{line} ended with {code} without a message: {text}"
    assert len(text) < LONGEST, f"{line} has much to say: {text[:300]}"
    return code


def every_command(source: Path, out: Path, *more: str) -> dict[str, int]:
    """The exit code of every command that takes a model, `more` where it verifies; `out` is what they may write."""
    s = str(source)
    lines = [
        ("inspect", s, *more),
        ("run", s, "--prompt-ids", "1,2", "--max-new-tokens", "2", *more),
        ("compile", s, "-o", str(out)),
        ("opt", s),
        ("debug", "check", s),
    ]
    codes = {line[0]: ended(*line) for line in lines}
    written = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    assert written <= WRITTEN, f"{written} bytes were written"
    return codes


def _expire(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


def work(module: str, first: str, count: str, folder: str) -> None:
    """Try mutants in this process."""
    mutants = importlib.import_module(module)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (WRITTEN, WRITTEN))
    signal.signal(signal.SIGPROF, _expire)
    for seed in range(int(first), int(first) + int(count)):
        fault = fault_of(mutants.attempt, mutants.DOCUMENTED, seed, Path(folder))
        print(json.dumps({"seed": seed, "fault": fault}), flush=True)


if __name__ == "__main__":
    work(*sys.argv[1:])
