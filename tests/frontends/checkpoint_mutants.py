"""Checkpoints that chance has damaged, run: see `tests/fuzzing.py`."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzzing import ended

DOCUMENTED = ()

VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 3, 7, 1 << 31, 1 << 70, -(1 << 70)),
    *(0.5, -0.0, 1e-30, 1e30, float("nan"), float("inf")),
    *("", "x", "2", "true", "LlamaForCausalLM", "../../etc/passwd", "x" * 100_000, "\0", "\ud800", "é"),
    *([], {}, [[]], [None], [1, "a"], [2] * 1000, {"": {}}, {"a": [{"b": None}]}, {"rope_type": "linear"}),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each (container, key) in a JSON value."""
    found: list[tuple[Any, Any]] = []
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        found += [(value, key), *places(value[key])]
    return found


def change_json(rng: random.Random, text: bytes) -> bytes:
    """A value, a key or a type of JSON changed, taken out, moved, or given twice."""
    value = json.loads(text)
    found = places(value)
    if not found:
        return text
    at, key = rng.choice(found)
    match rng.randrange(6):
        case 0 | 1 | 2:
            at[key] = rng.choice(VALUES)
        case 3:
            del at[key]
        case 4 if isinstance(at, dict):
            at[rng.choice(["", "a", f"{key}x", "hidden_size", "type", "\ud800"])] = at.pop(key)
        case _:
            other, there = rng.choice(found)
            at[key] = json.loads(json.dumps(other.get(there) if isinstance(other, dict) else None))
    raw = json.dumps(value).encode()
    return raw.replace(b"{", b'{"a":1,"a":2,', 1) if rng.random() < 0.03 else raw


def change_bytes(rng: random.Random, raw: bytes) -> bytes:
    """Bytes flipped, cut, put in, or all others."""
    at = rng.randrange(len(raw) + 1)
    match rng.randrange(7):
        case 0:
            return raw[:at]
        case 1:
            return raw[:at] + rng.randbytes(rng.randrange(1, 20)) + raw[at:]
        case 2:
            return rng.choice(
                [b"", b"\xef\xbb\xbf" + raw, b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04"]
            )
        case 3:
            return rng.choice([b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000, b"null", b"[]", b"{}", b'"a"'])
        case 4:
            return raw.decode("latin-1").encode("utf-16")
    flipped = bytearray(raw)
    for _ in range(min(len(raw), rng.choice([1, 1, 5, 50]))):
        flipped[rng.randrange(min(len(raw), rng.choice([64, 4096, len(raw)])))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def change_header(rng: random.Random, raw: bytes) -> bytes:
    """The header of a safetensors file changed as JSON, its length right or not."""
    (size,) = struct.unpack("<Q", raw[:8])
    header = change_json(rng, raw[8 : 8 + size])
    length = (
        len(header) if rng.random() < 0.9 else rng.choice([0, 1, len(header) - 1, len(raw), 1 << 40, (1 << 64) - 1])
    )
    return struct.pack("<Q", length) + header + raw[8 + size :]


def mutate(rng: random.Random, folder: Path) -> str:
    """Damage some file of a model's folder; what was done."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if not files:
        return "nothing is left"
    file = rng.choice(files)
    raw, what = file.read_bytes(), rng.random()
    if what < 0.06:
        file.unlink()
        if rng.random() < 0.5:
            file.mkdir() if rng.random() < 0.5 else file.symlink_to(file.name)
        return f"{file.name} is gone"
    if what < 0.1:
        file.write_bytes(rng.choice(files).read_bytes())
        return f"{file.name} is another file"
    kind: Callable[[random.Random, bytes], bytes] = change_bytes
    if what < 0.8:
        kind = change_header if file.suffix == ".safetensors" else change_json
    try:
        file.write_bytes(kind(rng, raw))
    except (ValueError, struct.error, RecursionError):  # damaged before: no JSON
        file.write_bytes(change_bytes(rng, raw))
    return f"{kind.__name__} of {file.name}"


def attempt(seed: int, folder: Path) -> None:
    """Damage a copy of one of the models in `folder`/models, and run it."""
    rng, work = random.Random(seed), folder / "mutant"
    model = rng.choice(sorted(p for p in (folder / "models").iterdir() if p.is_dir()))
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(model, work)
    done = [mutate(rng, work) for _ in range(rng.choice([1, 1, 1, 2, 4]))]
    prompt = ("--prompt", "the city") if (work / "tokenizer.json").exists() else ("--prompt-ids", "5,6")
    code = ended("run", str(work), *prompt, "--max-new-tokens", "2")
    assert code in (0, 1, 2, 3), f"{model.name}, {'; '.join(done)}: {code}"
