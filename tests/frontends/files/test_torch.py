"""What torch writes, in its newer and its older format, is read to the bit; what cannot be is refused by name."""

from __future__ import annotations

import collections
import io
import json
import shutil
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import burnish
from burnish.frontends.config import LoadError
from burnish.frontends.files.torch import read_torch
from burnish.ir.types import NUMPY
from burnish.ir.weights import StoredWeights
from tests import models

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
TYPES = {
    **{"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "bool": torch.bool},
    **{"i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8},
    **{"u16": torch.uint16, "u32": torch.uint32, "u64": torch.uint64},
}


def saved(value: Any, file: Path, zipped: bool = True, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that typed storages are deprecated
        torch.save(value, file, _use_new_zipfile_serialization=zipped, **options)
    return file


def refused(file: Path) -> str:
    with pytest.raises(LoadError) as e:
        read_torch(file)
    text = str(e.value)
    assert text.startswith(f"{file}: ") and "\n" not in text and len(text) < 2000
    return text


def assert_same(file: Path, expected: dict[str, torch.Tensor]) -> None:
    """All of the tensors, whole and by rows, to the bit; none is read to know its type."""
    tensors = read_torch(file)
    source = StoredWeights(tensors)
    assert list(tensors) == list(expected)
    for name, tensor in expected.items():
        assert TYPES[tensors[name].type.dtype] == tensor.dtype and tensors[name].type.sizes == tuple(tensor.shape)
        wanted = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        assert source.read(name).tobytes() == wanted.tobytes(), name
        for i in range(tensor.shape[0] if tensor.dim() else 0):
            box = (slice(i, i + 1), *(slice(0, d) for d in tensor.shape[1:]))
            part = tensor[i].detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            assert source.read_part(name, box).tobytes() == part.tobytes(), (name, i)


# ------------------------------------------------------------------------------------------------- what torch writes


@FORMATS
def test_every_type(zipped: bool, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 256, (3, 5 * 8), dtype=torch.uint8, generator=generator)
    tensors = {name: (bits % 2 == 1) if name == "bool" else bits.clone().view(dtype) for name, dtype in TYPES.items()}
    assert_same(saved(tensors, tmp_path / "w.pt", zipped), tensors)


@FORMATS
def test_every_way_to_lie(zipped: bool, tmp_path: Path) -> None:
    base = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    tensors = {
        "whole": base,
        "transposed": base.permute(3, 1, 0, 2),
        "rows of it": base[1:, 1],
        "columns of it": base[..., 2:4],
        "every other one": base[:, ::2, 1::2, ::3],
        "expanded": base[0, 0, 0].expand(3, 2, 5),
        "expanded behind": base[:, :1, :, :1].expand(2, 3, 4, 2),
        "one number": base[1, 2, 3, 4],
        "no numbers": base[:, :0],
        "windows that overlap": torch.as_strided(base, (6, 4, 3), (2, 1, 3), 7),
        "one row, of any stride": torch.as_strided(base, (1, 4), (1000, 5)),
        "a parameter": torch.nn.Parameter(base[0].clone()),
        "frozen": torch.nn.Parameter(base[1].t() if base[1].dim() == 2 else base[1].mT, requires_grad=False),
    }
    assert_same(saved(tensors, tmp_path / "w.pt", zipped), tensors)


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(zipped: bool, protocol: int, tmp_path: Path) -> None:
    tensors = {"x" * 300: torch.randn(3), "π": torch.randn(2, 2).t(), "p": torch.nn.Parameter(torch.ones(2))}
    assert_same(saved(tensors, tmp_path / "w.pt", zipped, pickle_protocol=protocol), tensors)


@FORMATS
def test_hooks_attributes_and_classes_of_tensors(zipped: bool, tmp_path: Path) -> None:
    attributed = torch.nn.Parameter(torch.ones(2))
    attributed.note = "x"  # saved by another function
    buffer = torch.nn.Buffer(torch.arange(3.0))
    tensors = collections.OrderedDict(a=attributed, b=buffer, c=torch.ones(3).as_subclass(Marked))
    tensors._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    assert_same(saved(tensors, tmp_path / "w.pt", zipped), tensors)


def test_tied_weights_are_one_range_of_bytes(tmp_path: Path) -> None:
    table = torch.randn(5, 4)
    for zipped in (True, False):
        tensors = read_torch(saved({"a": table, "b": table, "c": table[2:]}, tmp_path / "w.pt", zipped))
        assert tensors["a"] == tensors["b"]
        assert tensors["c"].offset == tensors["a"].offset + 2 * 4 * 4


def test_many_tensors(tmp_path: Path) -> None:
    tensors = {f"{i}": torch.tensor([i]) for i in range(1 << 10)}
    assert_same(saved(tensors, tmp_path / "w.pt"), tensors)


def test_more_bytes_than_a_plain_zip_archive_has(tmp_path: Path) -> None:
    """Torch's own archive, its first storage made 5 GiB of nothing: sizes and offsets are those of zip64."""
    more, file = 5 << 30, tmp_path / "w.pt"
    saved({"a": torch.zeros(2), "b": torch.arange(3.0)}, tmp_path / "small.pt")
    with zipfile.ZipFile(tmp_path / "small.pt") as z:
        contents = {i.filename.partition("/")[2]: z.read(i) for i in z.infolist()}
    # BININT1 for the elements of the storage and for the size of the tensor
    long = b"\x8a\x05" + (more // 4).to_bytes(5, "little")
    contents["data.pkl"] = contents["data.pkl"].replace(b"K\x02tq", long + b"tq").replace(b"K\x02\x85", long + b"\x85")
    with file.open("wb") as f:
        directory = b""
        for name, content in contents.items():
            raw, size, at = f"w/{name}".encode(), more if name == "data/0" else len(content), f.tell()
            f.write(struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, 0, 0, len(raw), 0) + raw)
            f.write(content) if size == len(content) else f.seek(size, 1)
            wide = struct.pack("<HHQQQ", 1, 24, size, size, at)
            fields = (45, 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(raw), 24 + 4, 0, 0, 0, 0, 0xFFFFFFFF)
            directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", *fields) + raw + wide
        start, count = f.tell(), len(contents)
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), start)
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + len(directory), 1)
        f.write(directory + end + locator)
        f.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0))
    tensors = read_torch(file)
    assert tensors["a"].type.sizes == (more // 4,) and tensors["b"].offset > more
    assert StoredWeights(tensors).read("b").tolist() == [0.0, 1.0, 2.0]
    assert torch.load(file, mmap=True, weights_only=True)["b"].tolist() == [0.0, 1.0, 2.0]


# -------------------------------------------------------------------------------------------------------- whole models

MODELS = {
    "llama": lambda: models.llama(tie_word_embeddings=True),
    "bert": models.bert,
    "t5": models.t5,
    "gpt2": lambda: models.made("GPT2LMHeadModel", n_embd=32, n_layer=2, n_head=2, vocab_size=96, n_positions=32),
}


@pytest.fixture(params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return models.saved(MODELS[request.param](), tmp_path / "safe")


def pickled(folder: Path, to: Path, zipped: bool = True, shards: int = 0) -> Path:
    """The checkpoint as older versions of transformers wrote it: what torch.load gives, for its oracle."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"))
    cls = getattr(__import__("transformers"), json.loads((folder / "config.json").read_text())["architectures"][0])
    state = cls.from_pretrained(folder).state_dict()
    if not shards:
        saved(state, to / "pytorch_model.bin", zipped)
        return to
    places, files = list({t.data_ptr() for t in state.values()}), {}
    for i in range(shards):
        part = {n: t for n, t in state.items() if places.index(t.data_ptr()) % shards == i}  # tied ones together
        file = f"pytorch_model-{i + 1:05}-of-{shards:05}.bin"
        saved(part, to / file, zipped)
        files |= dict.fromkeys(part, file)
    (to / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return to


@FORMATS
@pytest.mark.parametrize("shards", [0, 3])
def test_a_model_is_that_of_its_safetensors(folder: Path, zipped: bool, shards: int, tmp_path: Path) -> None:
    safe, module = burnish.load(folder), burnish.load(pickled(folder, tmp_path / "bin", zipped, shards))
    assert module == safe and str(module) == str(safe) and module.facts == safe.facts
    assert module.source.bytes_read == 0
    for name in safe.weights:
        assert module.source.read(name).tobytes() == safe.source.read(name).tobytes()


def test_safetensors_go_before_pickles(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"no pickle")
    assert burnish.load(folder).weights


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "last.ckpt", "pytorch_model.bin", "W.BIN"])
def test_a_bare_file(name: str, tmp_path: Path) -> None:
    folder = pickled(models.saved(models.llama(), tmp_path / "safe"), tmp_path / "bin")
    file = (folder / "pytorch_model.bin").rename(folder / name)
    assert burnish.load(file) == burnish.load(tmp_path / "safe")


def test_one_shard_and_shards_that_do_not_fit(tmp_path: Path) -> None:
    folder = pickled(models.saved(models.llama(), tmp_path / "safe"), tmp_path / "bin", shards=2)
    first, second = sorted(folder.glob("*.bin"))
    with pytest.raises(LoadError, match="is one of several files of a model: give its folder"):
        burnish.load(first)
    shutil.copy(first, second)
    with pytest.raises(LoadError, match="is in another shard too"):
        burnish.load(folder)
    second.unlink()
    with pytest.raises(LoadError, match=r"1 of its 2 files are not there: pytorch_model-00002-of-00002\.bin"):
        burnish.load(folder)


# --------------------------------------------------------------------------------------------- what training wraps

STATE = {"layer.weight": torch.ones(2, 2), "layer.bias": torch.zeros(2)}
BESIDE = {
    "epoch": 3,
    "loss": 0.5,
    "rng": np.random.default_rng(0).bit_generator.state,
    "rng_state": torch.get_rng_state(),
    "step": torch.tensor(3),
    "numbers": np.arange(9),
    "number": np.float64(1.5),
    "classes": {torch.float32, torch.Size([1])},
    "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.99)}]},
    "device": torch.device("cpu"),
    "queue": collections.deque([1]),
    "by name": collections.defaultdict(list, {"x": [1]}),
}


class Marked(torch.Tensor):
    """A class of its own, of which nothing need be known."""


class Settings:
    """Of a trainer."""


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "module"])
def test_weights_among_what_training_keeps(key: str, protocol: int, tmp_path: Path) -> None:
    file = saved({**BESIDE, "settings": Settings(), key: STATE}, tmp_path / "w.pt", pickle_protocol=protocol)
    assert_same(file, STATE)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "_fsdp_wrapped_module."]
)
def test_what_training_puts_before_names(prefix: str, tmp_path: Path) -> None:
    named = {prefix + n: t for n, t in STATE.items()}
    assert_same(saved({"model": {"module": named}}, tmp_path / "w.pt"), STATE)
    one = {f"{prefix}a": torch.ones(1), "b": torch.ones(1)}  # not all: it may be a module's own name
    assert_same(saved(one, tmp_path / "w.pt"), one)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": STATE, "state_dict": STATE}, "which weights are meant under state_dict and model; save the weights"),
        ({"net": STATE, "ema": STATE}, "which weights are meant beside 'net', 'ema'"),
        ({}, "which weights are meant in it"),
        ([torch.ones(2)], "which weights are meant in it"),
        (torch.ones(2), "which weights are meant in it"),
        ({**STATE, "module": STATE}, "has tensors, and further ones under module"),
        (Settings(), "holds an object, '.*Settings', in place of weights by name"),
        (torch.nn.Linear(2, 2), r"holds an object, 'torch\.nn\.modules\.linear\.Linear', in place of weights"),
        ({**STATE, "x": Settings()}, "'x' is .*Settings, which is not read"),
    ],
)
def test_what_is_ambiguous_or_no_weights(value: Any, message: str, tmp_path: Path) -> None:
    for zipped in (True, False):
        with pytest.raises(LoadError, match=message):
            read_torch(saved(value, tmp_path / "w.pt", zipped))


# ------------------------------------------------------------------------------------------------- refused by name


REFUSED: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "quantized": (lambda: torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8), "is a quantized tensor"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "is a sparse tensor, which is not read"),
    "sparse by rows": (lambda: torch.eye(4).to_sparse_csr(), "is a sparse tensor"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "is a nested tensor"),
    "meta": (lambda: torch.ones(2, device="meta"), "is a tensor of the meta device"),
    "float8": (lambda: torch.ones(2).to(torch.float8_e4m3fn), r"is of 'torch\.float8_e4m3fn', which is not supported"),
    "another float8": (lambda: torch.ones(2).to(torch.float8_e5m2), r"is of 'torch\.float8_e5m2'"),
    "complex": (lambda: torch.ones(2, dtype=torch.complex64), r"is of 'torch\.ComplexFloatStorage'"),
    "negated": (lambda: torch.ones(2, dtype=torch.complex64).conj().imag, "is a view that is negated or conjugated"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of what is deprecated, or to come
@pytest.mark.parametrize("case", REFUSED)
def test_tensors_that_are_not_read(case: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    for beside in ({"w": torch.ones(1)}, {}):
        with pytest.raises(LoadError, match=f"w.pt: .*'x' {message}"):
            read_torch(saved(beside | {"x": make()}, tmp_path / "w.pt"))


def test_torchscript_and_the_oldest_format_are_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "w.pt")
    assert "is TorchScript, a program with weights, which is not read" in refused(tmp_path / "w.pt")
    with tarfile.open(tmp_path / "w.pt", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert "is of PyTorch before 0.4 (a tar archive), which is not read" in refused(tmp_path / "w.pt")


def test_the_table_of_types_is_all_that_there_are() -> None:
    assert set(TYPES) == set(NUMPY)
