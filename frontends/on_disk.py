"""What people have on disk that is not read: what it is, by its name or its first bytes, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["TENSORFLOW", "begins_as", "listed", "not_there", "other_case", "tokenizer_there", "unreadable"]

_SAVE = "load it with transformers and `save_pretrained` it, which writes model.safetensors"
TENSORFLOW = f"TensorFlow's weights, which are not read: {_SAVE} (version 4, `from_tf=True`)"
_TOKENIZER = "`AutoTokenizer.from_pretrained(…).save_pretrained(…)` of transformers writes a tokenizer.json"

#: what a folder may hold in place of weights that are read: patterns of names (the first that fits counts), what that
#: is, and what to do
_KINDS: Sequence[tuple[tuple[str, ...], str, str]] = (
    (
        ("adapter_config.json", "adapter_model.*"),
        "an adapter (LoRA) without its base model",
        "merge them with peft: `merge_and_unload`, then `save_pretrained`",
    ),
    (
        ("*.incomplete", "*.part", "*.partial", "*.crdownload", "*.aria2", "*.tmp"),
        "a download that has not ended",
        "fetch the rest",
    ),
    (("*.gguf",), "GGUF files", "give one of them in place of the folder"),
    (("*.onnx", "onnx/*.onnx"), "ONNX files", "give one of them in place of the folder"),
    (
        ("*.safetensors",),
        "safetensors files of other names than model.safetensors",
        "give the one that is meant in place of the folder",
    ),
    (
        ("*.bin", "*.pt", "*.pth", "*.ckpt"),
        "PyTorch files of other names than pytorch_model.bin",
        "give the one that is meant in place of the folder",
    ),
    (
        ("*.h5", "*.keras", "saved_model.pb"),
        "TensorFlow's weights, which are not read",
        f"{_SAVE} (version 4, `from_tf=True`)",
    ),
    (
        ("*.msgpack",),
        "Flax files of other names than flax_model.msgpack",
        "give the one that is meant in place of the folder",
    ),
    (
        ("*.pdparams",),
        "Paddle files of other names than model_state.pdparams",
        "give the one that is meant in place of the folder",
    ),
    (
        ("*.npz",),
        "NumPy files of other names than weights.npz",
        "give the one that is meant in place of the folder",
    ),
    (
        ("*.mlpackage", "*.tflite", "*.engine", "openvino_model.*"),
        "a form that is not read",
        "get safetensors",
    ),
)
_TOKENIZERS = """
    tokenizer.model spiece.model sentencepiece.bpe.model spm.model source.spm vocab.txt vocab.json tekken.json
    tiktoken.model qwen.tiktoken bpe.codes
""".split()
#: what a file begins with that is not what its name says
_STARTS: Sequence[tuple[bytes, str]] = (
    (b"version https://git-lfs", "is a pointer of git-lfs, not the file itself: `git lfs pull` fetches that"),
    (b"<!DOCTYPE", "is a web page, not the file: download it again"),
    (b"<!doctype", "is a web page, not the file: download it again"),
    (b"<html", "is a web page, not the file: download it again"),
    (b"PK\x03\x04", "is a zip archive, as PyTorch writes them: name it pytorch_model.bin"),
    (b"\x80\x02", "is a pickle, as PyTorch writes them: name it pytorch_model.bin"),
    (b"GGUF", "is a GGUF file: name it .gguf"),
)


def begins_as(start: bytes) -> str:
    """What a file is that begins so, and what to do; "" where nothing is known of that."""
    return "is empty" if not start else next((what for magic, what in _STARTS if start.startswith(magic)), "")


def unreadable(path: Path) -> str:
    """What is at `path`, that nothing reads, and what to do; "" where nothing is known of it."""
    if path.is_file():
        return next((f"is {w}; {do}" for globs, w, do in _KINDS if any(path.match(g) for g in globs)), "")
    if path.name.startswith("models--"):
        return _snapshot(path)
    for globs, what, do in _KINDS:
        if found := sorted(str(p.relative_to(path)) for glob in globs for p in path.glob(glob)):
            return f"holds {what}: {listed(found)}; {do}"
    inside = sorted(p.parent.name for p in path.glob("*/config.json"))
    return f"holds folders with a config.json: {listed(inside)}; give one of them" if inside else ""


def not_there(path: Path) -> str:
    """What to do about a path at which there is nothing: it may be a model's name on a hub, or written otherwise."""
    if near := other_case(path):
        return f"there is no such file or folder, but there is {near}"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name := path.as_posix()):
        return f"there is nothing of that name in {path.parent}; a model on the Hugging Face hub would be hf://{name}"
    return "there is no such file or folder"


def other_case(path: Path) -> str:
    """The name of a file beside it that differs from `path` in small and large letters alone; "" where none does."""
    parent = path.parent
    names = (p.name for p in parent.iterdir()) if parent.is_dir() else iter(())
    return next((n for n in names if n != path.name and n.lower() == path.name.lower()), "")


def tokenizer_there(path: Path, why: str = "") -> str:
    """What there is in place of a tokenizer for a model at `path`, and what to do; `why` it is not read."""
    folder = path if path.is_dir() else path.parent
    found = [n for n in _TOKENIZERS if (folder / n).exists()]
    if not found:
        return "there is no tokenizer.json beside the model: put one there; `burnish run` takes --prompt-ids instead"
    reason = f" ({why})" if why else ""
    return f"there is no tokenizer.json beside the model, and {listed(found)} is not read{reason}: {_TOKENIZER}"


def _snapshot(kept: Path) -> str:
    """What a cache's folder of one model holds; "" where there is none."""
    found = sorted((kept / "snapshots").glob("*/"), key=lambda p: p.stat().st_mtime)
    return f"holds it in {found[-1]}: give that" if found else ""


def listed(names: Sequence[str], most: int = 5) -> str:
    """Some of the names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
