"""The compiled package: a folder with one graph, the weights in parts, the tokenizer, and a manifest of it all.

    manifest.json            format, versions of the ops, size and sha256 of every file, what made it
    model.graph              the module's text
    embedding.safetensors    tables of tokens; a tied head of the same format is this tensor
    block_00.safetensors …   what a block reads; behind the graph's name, the stack's, where there are several of them
    lm.safetensors           the rest: the last norm, the head
    constants.safetensors    constants that are too long for the text, by their hash
    tokenizer.json, .txt     the tokenizer as it came; and line by line the bytes of each token in base64
    chat_template.json       the chat template, and the special tokens that it may name, where there is one

A quantized tensor is stored as U8 in its default layout; its type is in the graph. The same module gives the same
bytes, whatever the folder, the number of threads, the processor. Nothing in it depends on a target.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from burnish.frontends.config import LoadError, read_object, shown
from burnish.frontends.files.safetensors import header_of, read_header
from burnish.frontends.source import LARGEST_GRAPH, Source
from burnish.ir.budget import check_disk, check_work
from burnish.ir.format import Packed
from burnish.ir.module import Module
from burnish.ir.op import OPS, Array
from burnish.ir.parser import TextError, parse
from burnish.ir.types import Type, dtype_name
from burnish.ir.verify import VerifyError, verify
from burnish.ir.weights import ReadError, StoredTensor, StoredWeights

if TYPE_CHECKING:  # and imported where a package is written, for many read one and write none
    from burnish.runtime.parts import Tensor
    from burnish.runtime.progress import Progress
    from burnish.runtime.tokenizer import Tokenizer

__all__ = ["PackageReport", "check_apart", "is_package", "read_package", "write_package"]

FORMAT = "burnish-package"
VERSION = 3  # 2: roles and facts in the graph's text; 3: blocks in its scopes
MANIFEST, GRAPH, CONSTANTS = "manifest.json", "model.graph", "constants.safetensors"

Buffer = bytes | memoryview


@dataclass(frozen=True)
class PackageReport:
    """What was written: the bytes of each element type in each part, the number of tensors, the time it took."""

    out: Path
    parts: Mapping[str, Mapping[str, int]]
    tensors: int
    seconds: float

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors."""
        return sum(n for part in self.parts.values() for n in part.values())

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {"out": str(self.out), "parts": self.parts, "tensors": self.tensors, "seconds": round(self.seconds, 3)}

    def text(self) -> str:
        """A line for each part; blocks of a stack that are alike share one."""
        from burnish.runtime.parts import folded

        rows = []
        for name, count, dtypes in folded(self.parts):
            sizes = ", ".join(f"{dtype} {n:,}" for dtype, n in dtypes.items())
            rows.append(f"  {name}: {sizes} bytes" + (" each" if count > 1 else ""))
        return "\n".join([f"{self.out}: {self.tensors} tensors, {self.nbytes:,} bytes, {self.seconds:.1f} s", *rows])


# ------------------------------------------------------------------------------------------------------------- writing


def write_package(
    module: Module,
    out: Path,
    *,
    tokenizer: Tokenizer | None = None,
    made_by: Mapping[str, str] = {},
    force: bool = False,
    progress: Progress | None = None,
) -> PackageReport:
    """Do the weight-time work of every graph, and write what is left as a package. `module` stays as it is.

    `made_by` goes into the manifest; `progress(file, bytes done, bytes in all)` is
    told of each tile. The folder appears when it is complete and reads back as a package, and not before. Raises
    LoadError where `out` is in the way (`force` replaces a package, and nothing else), where a weight cannot be read or
    is not what its source says, or the disk is full; BudgetError, before anything is written, for too much work.
    """
    from burnish.runtime.parts import Plan
    from burnish.runtime.replace_folder import replace_folder

    started = time.perf_counter()
    module = module.copy()
    plan = Plan.of(module)
    total = plan.nbytes
    check_work(t.value for t in plan.tensors)
    try:
        check_disk(total, out)
        _check_source(module)
        with replace_folder(out) as folder:
            _check_place(out, force)
            files = _Files(folder)
            if tokenizer is not None:
                _write_tokenizer(files, tokenizer)
            done = 0
            for part, tensors in plan.parts.items():
                name = f"{part}.safetensors"
                for size in files.each(name, _tensor_pieces(module, tensors)):
                    done += size
                    if progress is not None:
                        progress(name, min(done, total), total)
            plan.carry_out()
            if constants := module.constants():
                header = header_of({sha: Type(dtype_name(c.dtype), c.shape) for sha, c in constants.items()})
                files.write(CONSTANTS, header, *map(_raw, constants.values()))
            files.write(GRAPH, str(module).encode())
            files.write(MANIFEST, _manifest(module, files.written, made_by))
            read_package(folder)  # by the rules that hold for all who read it
    except ReadError as e:
        raise LoadError(str(e)) from e
    except OSError as e:
        raise LoadError(f"{out}: cannot be written: {e}") from None
    return PackageReport(out, plan.sizes, len(plan.tensors), time.perf_counter() - started)


def check_apart(source: Path, out: Path) -> None:
    """Raise LoadError where writing a package to `out` would replace its own source, or a folder that holds it."""
    mine, theirs = Path(os.path.realpath(out)), Path(os.path.realpath(source))
    if mine == theirs or mine in theirs.parents:
        raise LoadError(f"{out}: is, or holds, the source {source}; choose another name")


def _check_source(module: Module) -> None:
    """Raise LoadError where the data of weights or constants is not here, or is not what its source says."""
    if isinstance(module.source, StoredWeights):
        module.source.verify()  # or what is damaged would be written with digests that say it is sound
    if module.source is None and module.weights:
        raise LoadError("graph text holds no weights: compile the model that it was made of, with the same --pipeline")
    if unknown := next((literal for literal in module.literals() if not literal.has_data), None):
        raise LoadError(f"constant {unknown.sha} has no data: the graph was read from text alone")


def _check_place(out: Path, force: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not is_package(out):
        raise LoadError(f"{out}: is there already, and is not a package; choose another name")
    if not force:
        raise LoadError(f"{out}: is there already; replace it with --force, or choose another name")


class _Files:
    """Writes the files of a package, and notes the size and the digest of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: dict[str, dict[str, int | str]] = {}

    def write(self, name: str, *pieces: Buffer) -> None:
        """A file made of these pieces."""
        for _ in self.each(name, pieces):
            pass

    def each(self, name: str, pieces: Iterable[Buffer]) -> Iterator[int]:
        """The same, piece by piece: the size of each."""
        digest, size = hashlib.sha256(), 0
        with (self.folder / name).open("xb") as f:
            for piece in pieces:
                digest.update(piece)
                size += (written := _put(f, piece))
                yield written
        self.written[name] = {"bytes": size, "sha256": digest.hexdigest()}


def _put(file: BinaryIO, piece: Buffer) -> int:
    """The one place that writes: tests make it fail, at each piece in turn."""
    return file.write(piece)


def _tensor_pieces(module: Module, tensors: Sequence[Tensor]) -> Iterator[Buffer]:
    from burnish.runtime.weight_time import tiles

    assert module.source is not None
    yield header_of({t.name: t.value.type for t in tensors})
    for t in tensors:
        yield from map(_raw, tiles(t.value, module.source))


def _raw(x: Array) -> memoryview:
    stored = x.planes["bytes"] if isinstance(x, Packed) else x
    return np.ascontiguousarray(stored).reshape(-1).view(np.uint8).data


def _write_tokenizer(files: _Files, tokenizer: Tokenizer) -> None:
    from burnish.runtime.token_bytes import token_bytes

    try:
        tokens = token_bytes(tokenizer.text)
    except Exception as e:  # of settings that the library does not look at
        raise LoadError(f"{tokenizer.where}: is not a tokenizer: {e}") from None
    files.write("tokenizer.json", tokenizer.text.encode())
    files.write("tokenizer.txt", b"".join(base64.b64encode(t) + b"\n" for t in tokens))
    if tokenizer.chat is not None:
        files.write("chat_template.json", json.dumps(tokenizer.chat.as_json(), indent=1).encode() + b"\n")


def _manifest(module: Module, files: Mapping[str, Any], made_by: Mapping[str, str]) -> bytes:
    ops = {node.op.name: node.op.version for graph in module.every_graph_and_guard for node in graph}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "made_by": dict(sorted(made_by.items())),
        "ops": dict(sorted(ops.items())),
        "files": dict(sorted(files.items())),
    }
    return _sealed(manifest)


def _sealed(manifest: Mapping[str, Any]) -> bytes:
    """The manifest's file, which ends with the digest of what stands before."""
    text = json.dumps(manifest, indent=1)
    return json.dumps({**manifest, "sha256": hashlib.sha256(text.encode()).hexdigest()}, indent=1).encode() + b"\n"


# ------------------------------------------------------------------------------------------------------------- reading


class Package(Source):
    """A folder that `write_package` made."""

    name = "package"
    form = f"a folder with a {MANIFEST}"

    def matches(self, path: Path) -> bool:
        return (path / MANIFEST).exists()

    def load(self, path: Path) -> Module:
        return read_package(path)


def is_package(path: Path) -> bool:
    """Whether a folder says that it is a package; `read_package` finds out whether it is a sound one."""
    try:
        return read_object(path / MANIFEST).get("format") == FORMAT
    except LoadError:
        return False


def read_package(folder: Path) -> Module:
    """The module of a package. Its weights are read from the files as they are asked for.

    The manifest must be as it was written, every file there, of its size and (but for the weights) its digest, the
    graph sound, and the tensors just those of its table. The weights' digests are compared by `StoredWeights.verify`,
    for that takes as long as reading them. Raises LoadError.
    """
    files = _checked_files(folder)
    tensors: dict[str, StoredTensor] = {}
    for name in files:
        if _is_part(name):
            found, _ = read_header(folder / name)
            if twice := sorted(found.keys() & tensors.keys()):
                raise LoadError(f"{folder / name}: tensor {shown(twice[0])} is in another part too")
            tensors |= found
    module = _read_graph(folder, _read_constants(folder / CONSTANTS) if CONSTANTS in files else {})
    for name, entry in module.weights.items():
        stored = tensors.get(name)
        if stored is None:
            raise LoadError(f"{folder}: tensor {shown(name)} of {GRAPH} is in none of the parts")
        if entry.type.layout or stored.type != entry.type.storage:
            raise LoadError(f"{stored.path}: tensor {shown(name)} is {stored.type}, but {GRAPH} says {entry.type}")
    if extra := sorted(tensors.keys() - module.weights.keys()):
        raise LoadError(f"{tensors[extra[0]].path}: tensor {shown(extra[0])} is not in {GRAPH}")
    digests = {folder / name: entry["sha256"] for name, entry in files.items() if _is_part(name)}
    module.source = StoredWeights({n: replace(tensors[n], type=e.type) for n, e in module.weights.items()}, digests)
    _check_seal(folder / MANIFEST)
    return module


def _is_part(name: str) -> bool:
    return name.endswith(".safetensors") and name != CONSTANTS


def _checked_files(folder: Path) -> Mapping[str, Any]:
    where = folder / MANIFEST
    manifest = read_object(where)
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        found = f"{shown(manifest.get('format'))} {shown(manifest.get('version'))}"
        raise LoadError(f"{where}: the format is {found}; this is read: {FORMAT} {VERSION}. Compile the model again")
    ops, files = manifest.get("ops"), manifest.get("files")
    if not isinstance(ops, dict) or not isinstance(files, dict) or GRAPH not in files:
        raise LoadError(f"{where}: must list the ops, and the files with {GRAPH} among them")
    for name, version in ops.items():
        known = OPS.get(name)
        if known is None:
            raise LoadError(f"{where}: op {shown(name)} is not known; give the --plugin that defines it")
        if version != known.version:
            raise LoadError(
                f"{where}: op {name} has version {shown(version)} there, {known.version} here: compile the model again"
            )
    for name, entry in files.items():
        if Path(name).name != name or name in ("", ".", "..") or not name.isprintable():
            raise LoadError(f"{where}: names the file {shown(name)}, which is none of the package's folder")
        if not isinstance(entry, dict) or not {"bytes", "sha256"} <= entry.keys():
            raise LoadError(f"{where}: file {shown(name)} needs bytes and sha256")
        _check_file(folder / name, entry, digest=not _is_part(name))
    return files


def _check_seal(path: Path) -> None:
    manifest = read_object(path)
    if (seal := manifest.pop("sha256", None)) is None:
        raise LoadError(f"{path}: has no sha256 of itself, as those of version 0.1: compile the model again")
    if path.read_bytes() != _sealed(manifest):
        raise LoadError(f"{path}: its own sha256 is not {shown(seal)}: the package is damaged or changed")


def _check_file(path: Path, entry: Mapping[str, Any], digest: bool) -> None:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise LoadError(f"{path}: is not a file")
        if status.st_size != entry["bytes"]:
            raise LoadError(f"{path}: has {status.st_size} bytes, not {shown(entry['bytes'])}: the package is damaged")
        if digest:
            with path.open("rb") as f:
                if hashlib.file_digest(f, "sha256").hexdigest() != entry["sha256"]:
                    raise LoadError(f"{path}: its sha256 is not that of {MANIFEST}: the package is damaged or changed")
    except OSError as e:
        raise LoadError(f"{path}: {e.strerror or e}") from None


def _read_constants(path: Path) -> dict[str, np.ndarray]:
    tensors, _ = read_header(path)
    source = StoredWeights(tensors)
    return {name: source.read(name) for name in tensors}


def _read_graph(folder: Path, constants: Mapping[str, np.ndarray]) -> Module:
    path = folder / GRAPH
    if path.stat().st_size > LARGEST_GRAPH:
        raise LoadError(f"{path}: {path.stat().st_size} bytes are too many for a graph")
    try:
        module = parse(path.read_text("utf-8"), constants)
        verify(module)
    except (TextError, UnicodeDecodeError) as e:
        raise LoadError(f"{path}: {e}") from e
    except VerifyError as e:
        raise LoadError(f"{path}: {e.line}") from e
    for literal in module.literals():
        if not literal.has_data:
            raise LoadError(f"{folder / CONSTANTS}: constant {literal.sha} is missing")
    return module
