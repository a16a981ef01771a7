"""Registration by being there: import every module of a package, or a plugin file from anywhere."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from burnish.ir.registry import PLUGIN, Registry

__all__ = ["import_all", "line_in_plugin", "load_plugin"]


def import_all(package: str, path: Iterable[str]) -> None:
    """Import every module in `package` (its `__path__` is `path`), so that what it defines is registered."""
    for module in sorted(m.name for m in pkgutil.iter_modules(path)):
        importlib.import_module(f"{package}.{module}")


def load_plugin(file: Path) -> ModuleType:
    """Import a Python file that defines whatever a `Registry` holds: ops, rules, formats, kernels, targets, sources, …

    A file is known by its content: the same again, wherever it lies, changes nothing. Where it fails, nothing of it
    stays. Raises OSError when it cannot be read, and whatever the file itself raises.
    """
    content = file.read_bytes()
    name = PLUGIN + hashlib.sha256(content).hexdigest()
    if name in sys.modules:
        return sys.modules[name]
    saved = Registry.snapshot()
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(file.resolve())
    try:
        # Not through an importer, which would take a cached file of the same second and size for the mended one.
        exec(compile(content, module.__file__, "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        Registry.restore(saved)
        raise
    return module


def line_in_plugin(error: BaseException) -> str | None:
    """The file and the innermost line of a plugin in which an error, or what caused it, was raised; else None."""
    found: str | None = None
    while True:
        for frame, line in traceback.walk_tb(error.__traceback__):
            if str(frame.f_globals.get("__name__", "")).startswith(PLUGIN):
                found = f"plugin {frame.f_code.co_filename}, line {line}"
        if error.__cause__ is None:
            return found
        error = error.__cause__
