"""The model types, a file for each group of families, with a list TYPES."""

from __future__ import annotations

import importlib
import pkgutil

from tests.parity.model_type import ModelType

TYPES: list[ModelType] = [
    type
    for file in sorted(m.name for m in pkgutil.iter_modules(__path__))
    for type in importlib.import_module(f"{__name__}.{file}").TYPES
]
