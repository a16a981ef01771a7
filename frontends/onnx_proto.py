"""ONNX files as protobuf: read, and refused at once where they hold what is not supported."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from burnish.frontends.config import LoadError, shown
from burnish.frontends.onnx_ops import NEWEST, OLDEST, TRANSLATIONS

__all__ = ["read_proto", "version_of"]

_LARGEST = (1 << 31) - 1  # bytes; what protobuf can hold
_DOMAINS = ("", "ai.onnx")  # ONNX's own operators


def read_proto(path: Path) -> Any:
    """The ModelProto of a file. Raises LoadError, also where the library that reads it is not installed."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as e:
        raise LoadError(f"{path}: reading it needs {e.name}: pip install 'burnish[onnx]'") from None
    try:
        if path.stat().st_size > _LARGEST:
            raise LoadError(f"{path}: {path.stat().st_size} bytes are more than the format allows")
        proto = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as e:
        raise LoadError(f"{path}: {e.strerror or e}") from None
    except DecodeError:
        raise LoadError(f"{path}: is not an ONNX model, or is cut short") from None
    if not proto.HasField("graph") or not proto.graph.node:
        raise LoadError(f"{path}: holds no graph")
    _check_names(proto.graph, path)
    _check_operators(proto, path)
    return proto


def version_of(proto: Any) -> int:
    """That of ONNX's own operators; 0 where it is not said."""
    return next((int(o.version) for o in proto.opset_import if o.domain in _DOMAINS), 0)


def _check_names(graph: Any, path: Path) -> None:
    """Names are text, and an initializer's is its own."""
    for name in _names(graph):
        if not isinstance(name, str) or "\0" in name:  # protobuf gives bytes where they are not UTF-8
            raise LoadError(f"{path}: is damaged: the name {shown(name)} is not text")
    if graph.sparse_initializer:
        raise LoadError(f"{path}: has sparse initializers, which are not supported")
    known: set[str] = set()
    for tensor in graph.initializer:
        if tensor.name in known:
            raise LoadError(f"{path}: has two initializers called {shown(tensor.name)}")
        known.add(tensor.name)


def _names(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (a.name for a in node.attribute)
        yield from chain.from_iterable((p.key, p.value) for p in node.metadata_props)
    for info in chain(graph.input, graph.output):
        yield from (info.name, *(d.dim_param for d in info.type.tensor_type.shape.dim))
    yield from (t.name for t in graph.initializer)
    yield from chain.from_iterable((p.key, p.value) for p in graph.metadata_props)


def _check_operators(proto: Any, path: Path) -> None:
    """All that is not supported, at once."""
    version = version_of(proto)
    if not OLDEST <= version <= NEWEST:
        raise LoadError(f"{path}: its operators are of version {version}; {OLDEST} to {NEWEST} are supported")
    if any(i.name == "use_cache_branch" for i in proto.graph.input):
        advice = "load the decoder without that switch (decoder_model.onnx, decoder_with_past_model.onnx)"
        raise LoadError(f"{path}: is two graphs in one, of which the input use_cache_branch picks one: {advice}")
    missing = sorted(
        {
            f"{n.domain}.{n.op_type}".lstrip(".").encode("unicode_escape").decode()
            for n in proto.graph.node
            if n.domain not in _DOMAINS or n.op_type not in TRANSLATIONS
        }
    )
    if missing:
        raise LoadError(f"{path}: has operators that are not supported: {', '.join(missing)[:400]}")
