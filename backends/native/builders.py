"""Processes that compile units of code: `build` answers in them."""

from __future__ import annotations

import os
import pickle
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from burnish.backends.native.cpu import InstructionSet
from burnish.backends.native.threads import cores
from burnish.ir.format import FORMATS

__all__ = ["WITHOUT", "CodeError", "build", "can_build", "list_units", "meaning"]

MOST = 8  # processes at once: each holds about 200 MB
WITHOUT = "BURNISH_CPU=none runs on NumPy alone"
Meaning = Mapping[str, Any] | None


class CodeError(RuntimeError):
    """Machine code that could not be had."""


def can_build() -> bool:
    """Whether Numba is there."""
    return find_spec("numba") is not None


def meaning(unit: str) -> Meaning:
    """What a unit's argument stands for: a format, as far as code depends on it."""
    format = FORMATS.get(unit.partition(":")[2])
    return None if format is None else {k: getattr(format, k) for k in ("group", "run", "zero", "parts", "block")}


def build(units: Iterable[str], isa: InstructionSet, done: Callable[[str, bytes], None]) -> None:
    """Compile units, as many at once as there are cores; `done` is told each with its image. Raises CodeError.

    However it ends, no process is left.
    """
    todo = list(units)
    builders: list[_Builder] = []
    with selectors.DefaultSelector() as selector:
        try:
            for _ in range(min(len(todo), cores(), MOST)):
                builders.append(builder := _Builder(isa))
                builder.ask(todo.pop(0))
                assert builder.process.stdout is not None
                selector.register(builder.process.stdout, selectors.EVENT_READ, builder)
            while selector.get_map():
                for key, _ in selector.select():
                    unit, image = key.data.unit, key.data.answer()
                    if todo:
                        key.data.ask(todo.pop(0))
                    else:
                        selector.unregister(key.fileobj)
                    done(unit, image)
        finally:
            for builder in builders:
                builder.end()


def list_units(isa: InstructionSet) -> list[str]:
    """Every unit that there is. Raises CodeError."""
    builder = _Builder(isa)
    try:
        builder.ask("")
        return list(builder.answer())
    finally:
        builder.end()


class _Builder:
    """A process, and what it was asked for."""

    def __init__(self, isa: InstructionSet) -> None:
        self.isa, self.unit = isa, ""
        # what it prints goes to memory, not to a pipe that may be full
        self.errors = os.fdopen(os.memfd_create("errors"), "r+b")
        here = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
        here |= {
            "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path),
            "NUMBA_CPU_NAME": isa.cpu,
            "NUMBA_CPU_FEATURES": isa.extras,
        }
        # -P, and "/": neither modules nor settings of Numba's are taken from wherever the user happens to be
        command = [sys.executable, "-P", "-m", "burnish.backends.native.build", isa.name]
        pipe = subprocess.PIPE
        try:
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, env=here, cwd="/")
        except OSError as e:
            self.errors.close()
            raise CodeError(f"the compiler of kernels does not start: {e}; {WITHOUT}") from None

    def ask(self, unit: str) -> None:
        """Request a unit, or "" for a list of all."""
        assert self.process.stdin is not None
        self.unit = unit
        try:
            self.process.stdin.write(pickle.dumps((unit, meaning(unit))))
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # `answer` says why

    def answer(self) -> Any:
        """What comes back."""
        assert self.process.stdout is not None
        try:
            answer, error = pickle.load(self.process.stdout)
        except (EOFError, pickle.UnpicklingError):
            answer, error = None, self._last_words()
        if answer is None:
            what = f"{self.unit or 'a list of kernels'} cannot be built for {self.isa.name}"
            raise CodeError(f"{what}; {WITHOUT}. The compiler says:\n{error.strip()[-2000:]}")
        return answer

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip()[-1500:]
        return f"{said}\nit ended with " + (f"signal {-code}" if code < 0 else f"exit code {code}")

    def end(self) -> None:
        """Leave nothing of it."""
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            try:
                if stream is not None:
                    stream.close()
            except BrokenPipeError:
                pass
        self.process.wait()
