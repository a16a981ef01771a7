"""Registration by being there: import every module of a package, or a plugin file from anywhere."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["import_all", "load_plugin"]


def import_all(package: str, path: Iterable[str]) -> None:
    """Import every module in `package` (its `__path__` is `path`), so that what it defines is registered."""
    for module in sorted(m.name for m in pkgutil.iter_modules(path)):
        importlib.import_module(f"{package}.{module}")


def load_plugin(file: Path) -> None:
    """Import a Python file that defines ops, rules, passes, formats, layouts or architectures.

    Raises OSError when it cannot be read, and whatever the file itself raises.
    """
    name = f"burnish_plugin_{file.stem}"
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(file.resolve()):
        return
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None:
        raise OSError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
