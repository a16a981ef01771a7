"""The Python doors, one function each; the command line uses these too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from burnish.ir.module import Module

if TYPE_CHECKING:
    from burnish.passes.engine import Controller, Observer
    from burnish.runtime.executable import Executable
    from burnish.runtime.package import PackageReport

__all__ = ["compile", "executable", "load", "optimize"]


def load(source: str | Path, plugins: Sequence[str | Path] = (), task: str = "") -> Module:
    """The plain graph of a model: a Hugging Face folder, a `.safetensors` or `.onnx` file, a package, or graph text.

    `plugins` are Python files that define ops, rules, passes, formats or architectures. `task` is what the model is
    for, by the names of Hugging Face's pipelines, where its source does not say (an ONNX file, as a rule). Raises
    LoadError.
    """
    from burnish.runtime.sources import load_source

    return load_source(Path(source), [Path(p) for p in plugins], task)


def optimize(
    module: Module,
    pipeline: str = "default",
    controller: Controller | None = None,
    observers: Sequence[Observer] = (),
) -> Module:
    """A copy of the module with the passes of `pipeline` applied, verified after each.

    Raises PipelineError for a pipeline that cannot be read, PassError for a pass that breaks a promise.
    """
    from burnish.passes.pipelines import run_passes

    return run_passes(module.copy(), pipeline, controller, observers).module


def compile(module: Module, out: str | Path, tokenizer: str | Path | None = None, force: bool = False) -> PackageReport:
    """Write a package: weight-time work done, weights in four kinds of parts, one graph. See docs/package.md.

    `tokenizer` is a `tokenizer.json`. Raises LoadError where `out` is in the way and `force` is not given.
    """
    from burnish.runtime.package import write_package

    return write_package(module, Path(out), tokenizer=Path(tokenizer) if tokenizer else None, force=force)


def executable(module: Module, backend: str = "numpy", activations: str = "") -> Executable:
    """The module made ready to run on a backend: `forward`, `prefill`, `decode`, `generate`.

    `activations` is `int8` or `float`, for all products with quantized weights; unless given, the NumPy backend takes
    int8 just where it has a kernel for it, and XLA float.
    """
    from burnish.runtime.executable import Executable

    return Executable(module, backend, activations)
