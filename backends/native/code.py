"""Where machine code comes from: an image that a wheel brought or that is kept, or one that is built, once.

A unit of code is a module of `kernels/simd`, or `module:argument` (`linear:q4_0`). Its image is named after what it is
made of, so that an old one is never taken for it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from burnish.backends.native.builders import WITHOUT, CodeError, build, can_build, list_units, meaning
from burnish.backends.native.cpu import InstructionSet
from burnish.backends.native.image import SHIPPED, ImageError, load_image, read_image, write_image
from burnish.ir.format import FORMATS

__all__ = [
    "Built", "CodeError", "Progress", "addresses", "bind", "build_all", "cache_folder", "file_name", "keep", "prepare",
]  # fmt: skip

Progress = Callable[[str, int, int], None]

PACKAGE = Path(__file__).parents[2]
SIMD = "burnish.backends.kernels.simd"
#: an import, and what of it, of a module that code is made of
IMPORT = re.compile(
    r"^from (burnish\.(?:backends\.kernels|backends\.native\.image|ir\.parts)[\w.]*) import (\([^)]*\)|.*)", re.M
)
_addresses: dict[object, dict[str, int]] = {}
_tables: list[object] = []  # code may read them until the process ends
_lock = threading.Lock()


def addresses(unit: str, isa: InstructionSet) -> dict[str, int]:
    """The address of each function of a unit, which is built where it is not there. Raises CodeError."""
    key = _key(unit, isa)
    if key not in _addresses:
        prepare([unit], isa)
    return _addresses[key]


def prepare(units: Iterable[str], isa: InstructionSet, progress: Progress | None = None) -> None:
    """Load these units; those that are missing are built, as many at once as there are cores. Raises CodeError."""
    with _lock:
        for unit, image in _images([u for u in dict.fromkeys(units) if _key(u, isa) not in _addresses], isa, progress):
            _addresses[_key(unit, isa)] = _load(image)


def bind(unit: str, isa: InstructionSet, words: Sequence[int]) -> dict[str, int]:
    """The address of each function of a unit that reads a table of its own, of these words. Raises CodeError."""
    table = (ctypes.c_int64 * len(words))(*words)
    _tables.append(table)
    with _lock:
        return next(_load(image, ctypes.addressof(table)) for _, image in _images([unit], isa))


def _images(
    units: Iterable[str], isa: InstructionSet, progress: Progress | None = None
) -> Iterable[tuple[str, bytes]]:
    """The image of each, those that are there first."""
    found = {unit: _find(unit, isa) for unit in units}
    there = {unit: image for unit, image in found.items() if image is not None}
    missing = [unit for unit in found if unit not in there]
    if not missing:
        return there.items()
    if not can_build():
        raise CodeError(
            f"there is no machine code of {', '.join(missing)} for {isa.name}, and Numba, which makes it, is not "
            f"installed: pip install 'burnish[kernels]'; or {WITHOUT}"
        )

    def tell() -> None:
        if progress is not None:
            progress("building kernels", sum(unit in there for unit in missing), len(missing))

    def done(unit: str, image: bytes) -> None:
        keep(unit, isa, image)
        there[unit] = image
        tell()

    tell()
    build(missing, isa, done)
    return there.items()


def cache_folder() -> Path | None:
    """Where images are kept: burnish/kernels in XDG_CACHE_HOME, or in ~/.cache; None for a user without a home."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (cache if cache.is_absolute() else Path.home() / ".cache") / "burnish" / "kernels"
    except RuntimeError:
        return None


def keep(unit: str, isa: InstructionSet, image: bytes) -> Path | None:
    """Put an image where later processes find it, and say where; None where it cannot be kept, which is no error."""
    if (folder := cache_folder()) is None:
        return None
    path = folder / isa.name / file_name(unit, isa, _compiler())
    try:
        write_image(path, image)
    except OSError:
        return None
    return path


def _key(unit: str, isa: InstructionSet) -> object:
    return unit, isa.name, FORMATS.get(unit.partition(":")[2])


def _find(unit: str, isa: InstructionSet) -> bytes | None:
    try:  # it lies among sources: whoever may write it may write them
        return read_image(SHIPPED / isa.name / file_name(unit, isa), private=False)
    except (OSError, ImageError):
        pass
    try:
        if (folder := cache_folder()) is None:
            return None
        return read_image(folder / isa.name / file_name(unit, isa, _compiler()))
    except (OSError, ImageError):
        return None


def _load(image: bytes, bound: int = 0) -> dict[str, int]:
    try:
        return load_image(image, bound)
    except OSError as e:
        raise CodeError(f"machine code cannot be run here: {e.strerror}; {WITHOUT}") from None


def file_name(unit: str, isa: InstructionSet, compiler: str = "") -> str:
    """The name of a unit's image: of its sources, the format that it is for, the instruction set; and of the compiler,
    for one that does not come with the sources.
    """
    module = unit.partition(":")[0]
    sources = _sources(f"{SIMD}.{module}"), _sources("burnish.backends.native.build")
    what = repr((sources, compiler, unit, isa.name, isa.lanes, isa.cpu, isa.extras, meaning(unit)))
    return f"{unit.replace(':', '.')}-{hashlib.sha256(what.encode()).hexdigest()[:20]}.bin"


@functools.cache
def _sources(module: str) -> str:
    """The digest of a module, and of those that code is made of which it imports, one through the other."""
    found: dict[str, bytes] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in found and (source := _source(name)) is not None:
            found[name], imports = source
            todo += imports
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


@functools.cache
def _source(name: str) -> tuple[bytes, list[str]] | None:
    """The digest of a module, and what it may import; None for what is no module."""
    try:
        text = PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py").read_bytes()
    except OSError:
        return None
    imports = []
    for module, names in IMPORT.findall(text.decode()):
        imports += [module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))]
    return hashlib.sha256(text).digest(), imports


@functools.cache
def _compiler() -> str:
    """The versions of Numba and LLVM, of which neither is imported."""
    found = [find_spec(package) for package in ("numba", "llvmlite")]
    files = [Path(spec.origin).with_name("_version.py") for spec in found if spec is not None and spec.origin]
    return "".join(f.read_text() for f in files if f.is_file())


class Built(NamedTuple):
    """An image that was built and written."""

    unit: str
    cpu: str
    size: int  # bytes
    file: Path


def build_all(isa: InstructionSet, folder: Path | None = None, progress: Progress | None = None) -> list[Built]:
    """Build every unit that there is, into a folder as a wheel has it (`SHIPPED`), or else into the user's cache.

    Raises CodeError, and OSError where a file cannot be written.
    """
    if not can_build():
        raise CodeError("machine code is made by Numba, which is not installed: pip install 'burnish[kernels]'")
    into, compiler = (folder, "") if folder is not None else (cache_folder(), _compiler())
    if into is None:
        raise OSError("there is no home to keep machine code in; say where with -o")
    units, built, into = list_units(isa), list[Built](), into / isa.name
    what = f"building kernels for {isa.name}"

    def done(unit: str, image: bytes) -> None:
        file = into / file_name(unit, isa, compiler)
        write_image(file, image)
        built.append(Built(unit, isa.name, file.stat().st_size, file))
        if progress is not None:
            progress(what, len(built), len(units))

    if progress is not None:
        progress(what, 0, len(units))
    build(units, isa, done)
    return sorted(built)
