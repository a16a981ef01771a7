"""The Python doors, one function each; the command line uses these too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from burnish.ir.module import Module
    from burnish.passes.engine import Controller, Observer
    from burnish.runtime.chat import Chat
    from burnish.runtime.executable import Executable
    from burnish.runtime.package import PackageReport
    from burnish.runtime.progress import Progress
    from burnish.runtime.texts import TextModel

__all__ = ["chat", "compile", "executable", "load", "open", "optimize"]


def load(
    source: str | Path,
    plugins: Sequence[str | Path] = (),
    task: str = "",
    verify: bool = False,
    progress: Progress | None = None,
) -> Module:
    """The plain graph of a model: a Hugging Face folder, a `.safetensors` or `.onnx` file, a package, or graph text.

    A `source` that is not there may be the name of a model on the Hugging Face hub, `org/name[@revision][/file]`: what
    is read of it is fetched into the cache of the hub's library, and `progress(what, done, total)` told of its bytes.
    `plugins` are Python files that define further ops, rules, formats, sources and so on. `task` is what the model is
    for, by the names of Hugging Face's pipelines, where its source does not say (an ONNX file, as a rule). `verify`
    reads all weights of a package and compares them with its digests. Raises LoadError, for what a plugin's
    architecture raises too.
    """
    from burnish.runtime.sources import load_source

    return load_source(Path(source), [Path(p) for p in plugins], task, verify, progress)


def optimize(
    module: Module,
    pipeline: str = "default",
    controller: Controller | None = None,
    observers: Sequence[Observer] = (),
) -> Module:
    """A copy of the module with the passes of `pipeline` applied, verified after each; it may name a target.

    Raises PipelineError for a pipeline that cannot be read, PassError for a pass that breaks a promise.
    """
    from burnish.passes.pipelines import run_passes
    from burnish.runtime.targets import read_pipeline

    return run_passes(module.copy(), read_pipeline(pipeline), controller, observers).module


def compile(module: Module, out: str | Path, tokenizer: str | Path | None = None, force: bool = False) -> PackageReport:
    """Write a package: weight-time work done, weights in four kinds of parts, one graph. See docs/package.md.

    `tokenizer` is a `tokenizer.json`, with the chat template beside it. Raises LoadError where `out` is in the way and
    `force` is not given.
    """
    from burnish.runtime.package import write_package
    from burnish.runtime.tokenizer import Tokenizer

    read = Tokenizer.load(Path(tokenizer)) if tokenizer else None
    return write_package(module, Path(out), tokenizer=read, force=force)


def executable(
    module: Module,
    backend: str = "numpy",
    activations: str = "",
    pipeline: str = "default",
    progress: Progress | None = None,
) -> Executable:
    """The module made ready to run on a backend: `forward`, `prefill`, `decode`, `generate`.

    A module that none of the passes of `pipeline` has changed yet, as its facts say, is first optimised with it; ""
    leaves it as it is. `activations` is `int8` or `float`, for all products with quantized weights; unless given,
    int8 just where there is a kernel for it, on a CPU. `progress(what, done, total)` is told how
    far what takes long is: passes here, and whatever the first runs compute and compile.
    """
    from burnish.runtime.executable import Executable
    from burnish.runtime.progress import PassesDone
    from burnish.runtime.targets import read_pipeline

    done, passes = {text.partition("{")[0] for text in module.facts.passes}, read_pipeline(pipeline)
    if passes and done.isdisjoint(p.name for p in passes):
        module = optimize(module, pipeline, observers=[PassesDone(passes, progress)] if progress is not None else ())
    return Executable(module, backend, activations, progress)


def open(
    source: str | Path,
    backend: str = "numpy",
    activations: str = "",
    task: str = "",
    *,
    best: int | None = None,
    scores: str = "",
    group: str = "simple",
    unanswerable: bool = False,
    cut: bool = False,
    language: str = "",
) -> TextModel:
    """A model with its tokenizer, for texts: `model(texts)`, `model.embed(texts)`, `model.generate(texts)`.

    `source`, `backend`, `activations` and `task` are those of `load` and `executable`; the rest is what `burnish run`
    calls `--best`, `--scores`, `--group`, `--unanswerable`, `--cut` and `--language`. Raises LoadError; ValueError for
    a language that is no token.
    """
    from burnish.runtime.answers import Wanted
    from burnish.runtime.sources import tokenizer_of
    from burnish.runtime.texts import TextModel, in_language

    module, tokenizer = load(source, task=task), tokenizer_of(Path(source))
    if language:
        module.facts = in_language(module.facts, tokenizer, language)
    wanted = Wanted(best, scores, group, unanswerable)
    return TextModel(executable(module, backend, activations), tokenizer, wanted, cut)


def chat(source: str | Path, system: str = "", backend: str = "numpy", **variables: object) -> Chat:
    """A conversation with a model: `send(text)` gives its answer, in pieces as they come.

    `variables` are what its chat template may know beside the messages. Raises LoadError for a model without a
    tokenizer or a chat template.
    """
    from burnish.frontends.config import LoadError
    from burnish.runtime.chat import Chat
    from burnish.runtime.sources import no_tokenizer, tokenizer_of

    if (tokenizer := tokenizer_of(Path(source))) is None:
        raise LoadError(f"{source}: {no_tokenizer(Path(source))}")
    return Chat(executable(load(source), backend), tokenizer, system, **variables)
