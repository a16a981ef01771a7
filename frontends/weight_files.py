"""Files of weights: the forms that there are, and which of them counts in a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from burnish.frontends.config import LoadError, read_object, shown
from burnish.frontends.files.msgpack import read_msgpack
from burnish.frontends.files.npz import read_npz
from burnish.frontends.files.paddle import read_paddle
from burnish.frontends.files.safetensors import read_header
from burnish.frontends.files.torch import read_torch
from burnish.frontends.on_disk import listed, other_case, unreadable
from burnish.ir.weights import StoredTensor

__all__ = [
    "INDEX",
    "consolidated",
    "form_of",
    "has_weights",
    "is_weights",
    "read_weights",
    "weights_in",
    "weights_named",
]

INDEX = ".index.json"


class Form(NamedTuple):
    """A form of files: what they are called in a folder, how others of them end, and what reads one.

    Names of tensors are joined by dots, whatever an index of the form writes.
    """

    name: str
    endings: tuple[str, ...]
    read: Callable[[Path], dict[str, StoredTensor]]
    separator: str = "."
    #: how its tensors are stored: the name of a container
    container: str = ""
    #: whether all files of it have the matrices of products alike
    uniform: bool = True


#: the first that a folder has is read, whatever else it has
FORMS = (
    Form("model.safetensors", (".safetensors",), lambda path: read_header(path)[0]),
    Form("pytorch_model.bin", (".bin", ".pt", ".pth", ".ckpt"), read_torch),
    Form("flax_model.msgpack", (".msgpack",), read_msgpack, "/"),
    Form("model_state.pdparams", (".pdparams",), read_paddle, container="paddle"),
    Form("weights.npz", (".npz",), read_npz, uniform=False),
)


def is_weights(path: Path) -> bool:
    """Whether it is a file of weights, by its name."""
    return path.is_file() and any(path.suffix.lower() in form.endings for form in FORMS)


def weights_named(is_there: Callable[[str], bool]) -> tuple[Form, str] | None:
    """Which file counts of a folder's, by what `is_there`: one with all weights, or the index of several."""
    names = ((form, f"{form.name}{end}") for form in FORMS for end in ("", INDEX))
    return next(((form, name) for form, name in names if is_there(name)), None)


def has_weights(folder: Path) -> bool:
    """Whether a folder has files that `weights_in` reads."""
    return weights_named(lambda name: (folder / name).exists()) is not None


def consolidated(names: Iterable[str]) -> list[str]:
    """Those of a folder's files that are Meta's or Mistral's own weights, in their order."""
    return sorted(n for n in names if n.startswith("consolidated") and n.endswith((".pth", ".safetensors")))


def form_of(path: Path) -> Form:
    """The form of a file that `is_weights`."""
    return next(form for form in FORMS if path.suffix.lower() in form.endings)


def read_weights(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file that `is_weights`. Raises LoadError."""
    if re.search(r"-\d{5}-of-\d{5}\.", path.name):
        raise LoadError(f"{path}: is one of several files of a model: give its folder, {path.parent}")
    return form_of(path).read(path)


def weights_in(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of the one file or, where there is no such, of those that its index names, as transformers has it.

    Raises LoadError, saying what the folder holds in place of weights.
    """
    found = weights_named(lambda name: os.path.lexists(folder / name))
    if found is not None:
        form, file = found[0], folder / found[1]
        if not file.exists():
            raise LoadError(f"{file}: is a link to a file that is not there, {os.readlink(file)}; fetch it again")
        return _sharded(folder, file, form) if file.name.endswith(INDEX) else form.read(file)
    names = [f"{form.name}{end}" for form in FORMS for end in ("", INDEX)]
    near = next(((other, name) for name in names if (other := other_case(folder / name))), None)
    what = f"holds {near[0]}, in other letters than {near[1]}: rename it" if near else unreadable(folder)
    raise LoadError(f"{folder}: {what or f'holds none of {listed(names)}'}")


def _sharded(folder: Path, index: Path, form: Form) -> dict[str, StoredTensor]:
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(f, str) for f in shards.values()):
        raise LoadError(f"{index}: needs a weight_map from tensor names to files")
    shards = {name.replace(form.separator, "."): file for name, file in shards.items()}
    files = list(dict.fromkeys(shards.values()))
    for file in files:
        # A name, not a path: a file may be a link into a cache, but its name never leads out of the folder.
        if Path(file).name != file or file in ("", ".", "..") or "\0" in file:
            raise LoadError(f"{index}: names the file {shown(file)}, which is not one of the model's folder")
    if gone := [f for f in files if not (folder / f).exists()]:
        raise LoadError(f"{index}: {len(gone)} of its {len(files)} files are not there: {listed(gone)}; fetch the rest")
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        found = form.read(folder / file)
        if twice := [n for n in found if n in tensors]:
            raise LoadError(f"{folder / file}: tensor {shown(twice[0])} is in another shard too")
        tensors |= found
    if lost := [n for n, file in shards.items() if n not in tensors or tensors[n].path != folder / file]:
        raise LoadError(f"{index}: tensor {shown(lost[0])} is not in {shards[lost[0]]}")
    return tensors
