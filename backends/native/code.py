"""Where machine code comes from: an image that is there already, or one that is built, once, and kept.

A unit of code is a module of `kernels/simd`, or `module:argument` (`linear:q4_0`). Its image is named after what it is
made of, so that an old one is never taken for it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from burnish.backends.kernels.cpu import InstructionSet
from burnish.backends.native.image import ImageError, load_image, read_image, write_image
from burnish.ir.format import FORMATS

__all__ = ["CodeError", "addresses", "cache_folder", "prepare"]

Progress = Callable[[str, int, int], None]

BACKENDS = Path(__file__).resolve().parent.parent
SIMD = "burnish.backends.kernels.simd"


class CodeError(RuntimeError):
    """Code that could not be built."""


def cache_folder() -> Path:
    """Where images are kept: burnish/kernels in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "burnish" / "kernels"


@functools.cache
def addresses(unit: str, isa: InstructionSet) -> dict[str, int]:
    """The address of each function of a unit, which is built where it is not there. Raises CodeError."""
    prepare([unit], isa)
    return load_image(_images[unit, isa.name])


def prepare(units: Iterable[str], isa: InstructionSet, progress: Progress | None = None) -> None:
    """Find the images of these units, and build those that are missing, as many at once as there are cores."""
    missing = [u for u in dict.fromkeys(units) if (u, isa.name) not in _images and not _find(u, isa)]
    if not missing:
        return
    with tempfile.TemporaryDirectory() as folder:
        workers = [missing[i :: len(os.sched_getaffinity(0))] for i in range(len(os.sched_getaffinity(0)))]
        running = [_builder(folder, isa, part) for part in workers if part]
        for done, (process, unit) in enumerate(_finished(running)):
            if progress is not None:
                progress("building kernels", done + 1, len(missing))
            data = read_image(Path(folder) / f"{unit}.bin")
            _images[unit, isa.name] = data
            try:
                write_image(_path(unit, isa), data)
            except OSError:
                pass  # nothing is kept: the next process builds it again
            del process


_images: dict[tuple[str, str], bytes] = {}


def _find(unit: str, isa: InstructionSet) -> bool:
    try:
        _images[unit, isa.name] = read_image(_path(unit, isa))
    except (OSError, ImageError):
        return False
    return True


def _builder(folder: str, isa: InstructionSet, units: Sequence[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "NUMBA_CPU_NAME": isa.cpu, "NUMBA_CPU_FEATURES": isa.extras}
    command = [sys.executable, "-m", "burnish.backends.native.build", folder, isa.name, *units]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finished(running: Sequence[subprocess.Popen[str]]) -> Iterable[tuple[subprocess.Popen[str], str]]:
    for process in running:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            yield process, line.strip()
        if process.wait():
            raise CodeError(f"kernels could not be built: {process.stderr.read().strip()[-2000:]}")


def _path(unit: str, isa: InstructionSet) -> Path:
    return cache_folder() / isa.name / f"{unit}-{_key(unit, isa)}.bin"


@functools.cache
def _key(unit: str, isa: InstructionSet) -> str:
    """What a unit's code is made of: sources, the format that it is for, Numba, the instruction set."""
    module, _, argument = unit.partition(":")
    parts = [repr(isa[:4]), *(_version(package) for package in ("numba", "llvmlite"))]
    parts += [path.read_text() for path in sorted(_sources(f"{SIMD}.{module}") | _sources(f"{__package__}.build"))]
    if argument in FORMATS:
        parts.append(repr({k: v for k, v in vars(type(FORMATS[argument])).items() if not callable(v) and k[0] != "_"}))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


@functools.cache
def _sources(module: str) -> frozenset[Path]:
    """The files of a module and of those of the backends that it imports."""
    found: set[Path] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        path = BACKENDS.joinpath(*name.split(".")[2:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if path in found or not path.is_file():
            continue
        found.add(path)
        text = path.read_text()
        todo += re.findall(r"^\s*from (burnish\.backends\.(?:kernels\.simd|native)[\w.]*) import", text, re.M)
        todo += [f"{a}.{b}" for a, bs in re.findall(r"^from (burnish\.backends\.kernels\.simd) import ([\w, ]+)", text, re.M)
                 for b in re.findall(r"\w+", bs)]
    return frozenset(found)


def _version(package: str) -> str:
    spec = find_spec(package)  # imports neither
    return Path(spec.origin).with_name("_version.py").read_text() if spec is not None and spec.origin else ""
