"""What `torch.save` writes: a pickle that says what the tensors are, and their bytes behind it, as they lie.

Format: `torch/serialization.py` and `torch/_utils.py`, the zip archives of 1.6 and later and the stream before that.
Nothing is run, and no tensor is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from burnish.frontends.config import LARGEST, LoadError, shown
from burnish.frontends.files.unpickler import Calls, Inert, Name, Record, read_pickle
from burnish.frontends.files.window import Window, opened
from burnish.frontends.files.zip import Entry, check_stored, read_zip
from burnish.frontends.on_disk import begins_as
from burnish.ir.types import NUMPY, Type
from burnish.ir.weights import StoredTensor

__all__ = ["read_torch"]

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
#: what is expanded, or has several names, may come to more than the file has
_SHARED, _TIMES = 1 << 26, 8

_STORED = {
    "torch.DoubleStorage": "f64",
    "torch.FloatStorage": "f32",
    "torch.HalfStorage": "f16",
    "torch.BFloat16Storage": "bf16",
    "torch.LongStorage": "i64",
    "torch.IntStorage": "i32",
    "torch.ShortStorage": "i16",
    "torch.CharStorage": "i8",
    "torch.ByteStorage": "u8",
    "torch.BoolStorage": "bool",
}
_BYTES = "torch.storage.UntypedStorage"
#: the types that have no storage of their own
_TYPES = {f"torch.uint{bits}": f"u{bits}" for bits in (16, 32, 64)}
#: what training saves around a model's weights
_WRAPPERS = ("state_dict", "model", "model_state_dict", "module")
#: what it puts before all of their names: data-parallel and sharded training, and torch.compile
_PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")
_ALONE = "save the weights alone: `torch.save(model.state_dict(), …)`"


class _Storage(NamedTuple):
    """The key of a range of bytes, how many elements of what type it has, and where in it a view of it begins."""

    key: str
    dtype: str
    elements: int
    start: int = 0


@dataclass(eq=False)
class _Tensor(Record):
    storage: _Storage
    dtype: str
    offset: Any
    sizes: Any
    strides: Any


def read_torch(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name, out of what training wraps around them. Raises LoadError."""
    with opened(path) as (file, size):
        start = file.read(512)
        if start.startswith(b"PK\3\4"):
            saved, places = _zipped(path, file, size)
        elif start.startswith(b"\x80"):
            saved, places = _stream(path, file, size)
        elif start[257:262] == b"ustar":
            raise LoadError(f"{path}: is of PyTorch before 0.4 (a tar archive), which is not read: save it again")
        else:
            raise LoadError(f"{path}: {begins_as(start) or 'is nothing that torch.save writes'}")
    tensors = {n: _stored(path, n, t, places) for n, t in _named(path, saved).items()}
    whole = sum(math.prod(t.type.sizes) * NUMPY[t.type.dtype].itemsize for t in tensors.values())
    if whole > _SHARED + _TIMES * size:
        raise LoadError(f"{path}: its tensors come to {whole} bytes, all but {size} of which are the same")
    return tensors


# ------------------------------------------------------------------------------------------------------ the two formats


def _zipped(path: Path, file: BinaryIO, size: int) -> tuple[Any, Mapping[str, Entry]]:
    """What was saved, and where each of its storages lies."""
    entries = read_zip(path, file, size)
    prefix = next(iter(entries), "").partition("/")[0] + "/"
    inside = {n.removeprefix(prefix): e for n, e in entries.items() if n.startswith(prefix)}
    if "constants.pkl" in inside or any(n.startswith("code/") for n in inside):
        raise LoadError(f"{path}: is TorchScript, a program with weights, which is not read: {_ALONE}")
    check_stored(path, entries)
    if "data.pkl" not in inside or len(inside) < len(entries):
        raise LoadError(f"{path}: is a zip archive, but none that torch.save writes")

    def window(entry: Entry) -> Window:
        return Window(path, file, entry.offset, entry.offset + entry.size, LARGEST)

    if (order := inside.get("byteorder")) is not None and window(order).take(order.size) != b"little":
        raise LoadError(f"{path}: its bytes are in another order than little-endian, which is not read")
    places = {n.removeprefix("data/"): e for n, e in inside.items() if n.startswith("data/")}
    storages: dict[str, _Storage] = {}
    saved = read_pickle(window(inside["data.pkl"]), _CALLS, lambda id: _storage(path, id, storages))
    for key, storage in storages.items():
        length, place = storage.elements * _size_of(storage.dtype), places.get(key)
        if place is not None and place.size != length and storage.dtype in NUMPY:
            raise LoadError(f"{path}: storage {shown(key)} has {place.size} bytes, but its pickle says {length}")
    return saved, places


def _stream(path: Path, file: BinaryIO, size: int) -> tuple[Any, Mapping[str, Entry]]:
    """The same of five pickles and the storages, one after another."""
    window = Window(path, file, 0, size, LARGEST)
    storages: dict[str, _Storage] = {}
    if read_pickle(window, _CALLS) != _MAGIC or read_pickle(window, _CALLS) != _VERSION:
        raise LoadError(f"{path}: is a pickle, but none that torch.save writes: {_ALONE}")
    machine = read_pickle(window, _CALLS)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise LoadError(f"{path}: its bytes are in another order than little-endian, which is not read")
    saved = read_pickle(window, _CALLS, lambda id: _storage(path, id, storages))
    keys = read_pickle(window, _CALLS)
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or len(set(keys)) < len(keys):
        raise LoadError(f"{path}: its list of storages is damaged")
    places: dict[str, Entry] = {}
    for key in keys:
        storage = storages.get(key)
        if storage is None or window.number(8) != storage.elements:
            raise LoadError(f"{path}: storage {shown(key)} is none that its pickle has, or has another size there")
        if storage.dtype not in NUMPY:
            raise LoadError(f"{path}: storage {shown(key)} is of {shown(storage.dtype)}, which is not supported")
        length = storage.elements * _size_of(storage.dtype)
        places[key] = Entry(window.skip(length), length)
    if window.at != size:
        raise LoadError(f"{path}: {size - window.at} bytes follow the last storage")
    return saved, places


def _storage(path: Path, id: Any, found: dict[str, _Storage]) -> Any:
    """The storage that a pickle refers to, or the class: it says the code of modules so.

    Of one key, all must say the same but where a view begins.
    """
    view = None
    if isinstance(id, tuple) and len(id) == 6:
        *id, view = id
    match id:
        case ["storage", Name(kind), str(key), str(), int(elements)] if 0 <= elements < 1 << 48:
            storage = _Storage(key, "u8" if kind == _BYTES else _STORED.get(kind, kind), elements)
        case ["module", Name() as cls, *_]:
            return cls
        case _:
            raise LoadError(f"{path}: its pickle refers to what is no storage")
    if found.setdefault(storage.key, storage) != storage:
        raise LoadError(f"{path}: its pickle says two things of storage {shown(storage.key)}")
    if view is None:
        return storage
    match view:
        case (_, int(start), int(length)) if 0 <= start <= start + length <= elements:
            return storage._replace(elements=start + length, start=start)
    raise LoadError(f"{path}: a view of storage {shown(storage.key)} is not inside of it")


def _size_of(dtype: str) -> int:
    return NUMPY[dtype].itemsize if dtype in NUMPY else 1


# ------------------------------------------------------------------------------------------------- what a pickle builds


def _plain(storage: Any, offset: Any, sizes: Any, strides: Any, *more: Any) -> Any:
    """A tensor of the type of its storage; `more` is whether it has a gradient, hooks, and what its bits mean."""
    if not isinstance(storage, _Storage):
        raise TypeError
    if any(more[2:]):
        return Inert("a view that is negated or conjugated")
    return _Tensor(storage, storage.dtype, offset, sizes, strides)


def _of_type(storage: Any, offset: Any, sizes: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *more: Any) -> Any:
    """The same of a type of its own, in a storage of bytes."""
    if not isinstance(storage, _Storage) or storage.dtype != "u8" or not isinstance(dtype, Name):
        raise TypeError
    return _Tensor(storage, _TYPES.get(dtype.text, dtype.text), offset, sizes, strides)


def _first(tensor: Any, *more: Any) -> Any:
    return tensor


def _of_class(function: Any, cls: Any, arguments: Any, state: Any) -> Any:
    """A tensor of a subclass, made by a function and its arguments."""
    made = _CALLS.get(function.text) if isinstance(function, Name) else None
    if made is None or made is _of_class or not isinstance(arguments, tuple):
        raise TypeError
    return made(*arguments)


def _dict(*pairs: Any) -> dict[Any, Any]:
    found = {k: v for k, v in pairs[0] if isinstance(k, str)} if pairs else {}
    if pairs and len(found) < len(pairs[0]):
        raise ValueError
    return found


def _inert(what: str) -> Any:
    return lambda *arguments: Inert(what)


_CALLS: Calls = {
    "collections.OrderedDict": _dict,
    "collections.defaultdict": lambda *factory: {},
    "torch._utils._rebuild_tensor": _plain,
    "torch._utils._rebuild_tensor_v2": _plain,
    "torch._utils._rebuild_tensor_v3": _of_type,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _of_class,
    "torch._utils._rebuild_qtensor": _inert("a quantized tensor"),
    "torch._utils._rebuild_sparse_tensor": _inert("a sparse tensor"),
    "torch._utils._rebuild_sparse_csr_tensor": _inert("a sparse tensor"),
    "torch._utils._rebuild_nested_tensor": _inert("a nested tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": _inert("a tensor of the meta device, without data"),
    "torch._utils._rebuild_wrapper_subclass": _inert("a tensor of a class of its own"),
} | {  # what lies beside the weights when training is saved
    name: _inert(name)
    for name in """
        torch.Size torch.device torch.serialization._get_layout _codecs.encode argparse.Namespace
        numpy.core.multiarray._reconstruct numpy._core.multiarray._reconstruct numpy.dtype
        numpy.core.multiarray.scalar numpy._core.multiarray.scalar collections.Counter collections.deque
        builtins.set builtins.frozenset builtins.bytearray builtins.complex
        __builtin__.set __builtin__.frozenset __builtin__.bytearray __builtin__.complex
    """.split()
}


# ------------------------------------------------------------------------------------------------------ tensors by name


def _named(path: Path, saved: Any) -> dict[str, _Tensor]:
    """The weights in what was saved: the dict that holds tensors, which training may have wrapped."""
    while not _has_tensors(saved) or _has_but_training(saved):
        if isinstance(saved, Inert):
            raise LoadError(f"{path}: holds an object, {shown(saved.what)}, in place of weights by name; {_ALONE}")
        inside = saved if isinstance(saved, dict) else {}
        wrapped = [k for k in _WRAPPERS if isinstance(inside.get(k), dict)]
        if not wrapped and any(isinstance(v, Record) for v in inside.values()):
            break
        if len(wrapped) != 1:
            keys = ", ".join(shown(k) for k in [*inside][:10] if isinstance(k, str))
            what = f"under {' and '.join(wrapped)}" if wrapped else f"beside {keys}" if keys else "in it"
            raise LoadError(f"{path}: cannot tell which weights are meant {what}; {_ALONE}")
        saved = inside.pop(wrapped[0])  # taken out, so that a dict inside of itself comes to an end
    if within := [k for k in _WRAPPERS if _has_tensors(saved.get(k))]:
        raise LoadError(f"{path}: has tensors, and further ones under {within[0]}; {_ALONE}")
    found: dict[str, _Tensor] = {}
    for name, value in saved.items():
        if isinstance(value, _Tensor) and isinstance(name, str):
            found[name] = value
        elif isinstance(value, Record):
            what = value.what if isinstance(value, Inert) else "a tensor without a name"
            raise LoadError(f"{path}: {shown(name) if isinstance(name, str) else 'a key'} is {what}, which is not read")
    for prefix in _PREFIXES * 2:
        if all(n.startswith(prefix) for n in found):
            found = {n.removeprefix(prefix): t for n, t in found.items()}
    return found


def _has_tensors(saved: Any) -> bool:
    return isinstance(saved, dict) and any(isinstance(v, _Tensor) for v in saved.values())


def _has_but_training(saved: Mapping[Any, Any]) -> bool:
    """Whether the tensors lie beside wrapped ones, under single words: a state of random numbers, a count of steps."""
    words = all("." not in str(k) for k, v in saved.items() if isinstance(v, _Tensor))
    return words and any(_has_tensors(saved.get(k)) for k in _WRAPPERS)


def _stored(path: Path, name: str, tensor: _Tensor, places: Mapping[str, Entry]) -> StoredTensor:
    where, (key, _, elements, start) = f"{path}: tensor {shown(name)}", tensor.storage
    if tensor.dtype not in NUMPY:
        raise LoadError(f"{where} is of {shown(tensor.dtype)}, which is not supported")
    sizes, strides, offset = tensor.sizes, tensor.strides, tensor.offset
    if not all(map(_counts, (sizes, strides, (offset,)))) or len(sizes) != len(strides) or len(sizes) > 8:
        raise LoadError(f"{where}: its sizes, strides and offset are not such")
    place, item = places.get(key), NUMPY[tensor.dtype].itemsize
    if place is None:
        raise LoadError(f"{where}: its data, storage {shown(key)}, is not in the file (the meta device has none)")
    span = 0 if 0 in sizes else 1 + sum((d - 1) * s for d, s in zip(sizes, strides, strict=True))
    reach = start + offset + span
    held = elements * _size_of(tensor.storage.dtype) // item
    if reach > held:
        raise LoadError(f"{where}: needs the first {reach} elements of storage {shown(key)}, which has {held}")
    row_major, behind = True, 1
    for d, s in zip(reversed(sizes), reversed(strides), strict=True):
        row_major &= d == 1 or s == behind
        behind *= d
    at = place.offset + (start + offset) * item
    return StoredTensor(path, at, Type(tensor.dtype, sizes), None if row_major or 0 in sizes else strides)


def _counts(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(d, int) and not isinstance(d, bool) and 0 <= d < 1 << 48 for d in x)
