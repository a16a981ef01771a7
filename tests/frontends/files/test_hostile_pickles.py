"""Pickles that would run code, exhaust memory or time, or lie: each is refused with one message, and nothing is run."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from burnish.frontends.config import LoadError
from burnish.frontends.files.torch import read_torch
from burnish.ir.weights import StoredWeights

PROTO = b"\x80\x02"
DATA = bytes(range(48))  # of storage "0": f32[12]
#: bytes of Python's own memory that a file of a few bytes may take: what is read of it, some times
MEMORY = 1 << 20


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(n: int) -> bytes:
    raw = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def named(name: str) -> bytes:
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def storage(key: str = "0", kind: str = "FloatStorage", elements: int = 12) -> bytes:
    return b"(" + text("storage") + named(f"torch.{kind}") + text(key) + text("cpu") + number(elements) + b"tQ"


def tensor(
    sizes: bytes = numbers(3, 4), strides: bytes = numbers(4, 1), offset: bytes = number(0), of: bytes = b""
) -> bytes:
    hooks = named("collections.OrderedDict") + b")R"
    arguments = b"(" + (of or storage()) + offset + sizes + strides + b"\x89" + hooks + b"t"
    return named("torch._utils._rebuild_tensor_v2") + arguments + b"R"


def weights(*entries: bytes) -> bytes:
    """A pickle of a dict with a sound tensor, and further items."""
    return PROTO + b"}(" + text("w") + tensor() + b"".join(entries) + b"u."


def archive(data: bytes, **entries: bytes) -> bytes:
    """As torch.save writes it."""
    out = io.BytesIO()
    files = {"data.pkl": data, "byteorder": b"little", "data/0": DATA, "version": b"3\n"} | entries
    with zipfile.ZipFile(out, "w") as z:
        for name, content in files.items():
            z.writestr(f"w/{name}", content)
    return out.getvalue()


def legacy(
    data: bytes, *, keys: bytes = b"](" + text("0") + b"e.", rest: bytes = struct.pack("<q", 12) + DATA
) -> bytes:
    machine = PROTO + b"}" + text("little_endian") + b"\x88s."
    data = data.replace(number(12) + b"tQ", number(12) + b"NtQ")  # no view
    return (
        PROTO
        + number(0x1950A86A20F9469CFC6C)
        + b"."
        + PROTO
        + number(1001)
        + b"."
        + machine
        + data
        + PROTO
        + keys
        + rest
    )


# --------------------------------------------------------------------------------------------------------- code

RUN = b"(" + text("touch canary") + b"t"
STACKED = b"\x8c\x05posix\x8c\x06system\x93"
CODE: dict[str, bytes] = {
    "a function called": PROTO + named("posix.system") + RUN + b"R.",
    "one that is named on the stack": b"\x80\x04" + STACKED + RUN + b"R.",
    "one beside weights": weights(text("x") + named("posix.system") + RUN + b"R"),
    "one whose result is dropped": PROTO + named("posix.system") + RUN + b"R0" + weights()[2:],
    "eval": PROTO + named("builtins.eval") + b"(" + text("open('canary', 'w').close()") + b"tR.",
    "exec of Python 2": PROTO + named("__builtin__.exec") + b"(" + text("open('canary', 'w').close()") + b"tR.",
    "INST": PROTO + b"(" + text("touch canary") + b"iposix\nsystem\n.",
    "OBJ": PROTO + b"(" + named("posix.system") + text("touch canary") + b"o.",
    "an object and its state": PROTO
    + named("__main__.A")
    + b")\x81}"
    + text("__setstate__")
    + named("posix.system")
    + b"sb"
    + text("touch canary")
    + b"b.",
    "NEWOBJ_EX": b"\x80\x04" + named("subprocess.Popen") + b"(" + text("touch canary") + b"t}\x92.",
    "a registered extension": PROTO + b"\x82\x01.",
    "an attribute of an attribute": b"\x80\x04"
    + named("builtins.getattr")
    + b"("
    + named("builtins.__import__")
    + text("__call__")
    + b"tR.",
    "in place of the size of a tensor": weights(text("x") + tensor(sizes=named("posix.system") + RUN + b"R")),
    "by way of what makes tensors of a class": PROTO
    + b"}"
    + text("w")
    + named("torch._tensor._rebuild_from_type_v2")
    + b"("
    + named("posix.system")
    + named("torch.Tensor")
    + RUN
    + b"}tRs.",
    "a pickle inside of one": weights(text("x") + named("torch.storage._load_from_bytes") + b"(" + text("x") + b"tR"),
    "a class that is no name": PROTO + text("posix.system") + RUN + b"R.",
    "code in place of an outside object": PROTO + named("posix.system") + RUN + b"RQ.",
    "an outside object by a line": PROTO + b"Pstorage\n.",
    "the factory of a dict": PROTO + named("collections.defaultdict") + b"(" + named("posix.system") + b"tR.",
}
#: those that Python's own pickle would have run
RUNS = [
    *("a function called", "one that is named on the stack", "one whose result is dropped", "eval", "INST", "OBJ"),
    *("code in place of an outside object",),
]


@pytest.mark.parametrize("case", RUNS)
def test_pythons_own_would_run_it(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary is one."""
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(pickle.UnpicklingError):
        pickle.loads(CODE[case])
    assert (tmp_path / "canary").exists()


# ------------------------------------------------------------------------------------------- memory, time and depth

N = 1 << 13  # deeper than recursion goes
PICKLES: dict[str, bytes] = {
    "lists in lists": PROTO + b"]" * N + b"a" * (N - 1) + b".",
    "tuples in tuples": PROTO + b")" + b"\x85" * N + b".",
    "tuples in tuples as a key": PROTO + b"})" + b"\x85" * N + b"Ns.",
    "marks and nothing else": PROTO + b"(" * N,
    "marks in marks": PROTO + b"(" * N + b"t" * N + b".",
    "lists that hold each other twice": PROTO + b"]q\0" + b"](h\0h\0eq\0" * 999 + b".",
    "dicts that hold each other": PROTO + b"}q\0" + (b"}(" + text("a") + b"h\0" + text("b") + b"h\0uq\0") * 99 + b".",
    "a dict inside of itself": PROTO + b"}q\0" + text("model") + b"h\0s.",
    "a place of the memo far away": PROTO + b"]r\xff\xff\xff\xff0.",
    "a place of the memo that is empty": PROTO + b"j\xff\xff\xff\xff.",
    "a text longer than the file": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
    "bytes longer than the file": b"\x80\x04\x8e" + struct.pack("<Q", (1 << 64) - 1) + b"x.",
    "a name that does not end": PROTO + b"c" + b"a" * N,
    "a number of many digits": PROTO + b"\x8b" + struct.pack("<i", N) + b"\xff" * N + b".",
    "a number in letters": PROTO + b"I" + b"9" * N + b"\n.",
    "an opcode that there is not": PROTO + b"\xff.",
    "a protocol of tomorrow": b"\x80\x09N.",
    "nothing on the stack": PROTO + b".",
    "a pair without its other half": PROTO + b"}(" + text("a") + b"u.",
    "an item of what holds none": PROTO + b"NNNs.",
    "an item added to what is no list": PROTO + b"}Na.",
    "a state of what has none": PROTO + b"]Nb.",
    "a key twice": weights(text("w") + tensor()),
    "a text that is not UTF-8": PROTO + b"X\1\0\0\0\xff.",
    "half a pair of surrogates": PROTO + b"X\3\0\0\0\xed\xa0\x80.",
    "the end of the pickle missing": weights()[:-1],
    "half a pickle": weights()[:100],
    "no pickle": b"x" * 100,
    "an empty one": b"",
    "a list of arguments": PROTO + named("collections.OrderedDict") + b"]R.",
    "arguments of another function": PROTO + named("torch._utils._rebuild_tensor_v2") + b")R.",
    "pairs that are none": PROTO + named("collections.OrderedDict") + b"(](NNetR.",
}  # fmt: skip

# -------------------------------------------------------------------------------------------------- tensors that lie

TENSORS: dict[str, bytes] = {
    "a size out of bounds": tensor(sizes=numbers(4, 4)),
    "a stride out of bounds": tensor(strides=numbers(5, 1)),
    "a stride of the last byte's neighbour": tensor(sizes=numbers(2), strides=numbers(12)),
    "a stride of a petabyte": tensor(strides=numbers(1 << 47, 1)),
    "an offset out of bounds": tensor(offset=number(1)),
    "an offset of 2**63": tensor(offset=number(1 << 63)),
    "an offset before the start": tensor(offset=number(-1)),
    "a stride that runs backwards": tensor(strides=numbers(-4, 1), offset=number(8)),
    "a size less than nothing": tensor(sizes=numbers(-3, -4)),
    "sizes that overflow 64 bits": tensor(sizes=numbers(1 << 40, 1 << 40), strides=numbers(0, 0)),
    "expanded to a terabyte": tensor(sizes=numbers(1 << 38), strides=numbers(0)),
    "a size that is a truth value": tensor(sizes=b"\x88\x88\x86", strides=numbers(1, 1)),
    "a size that is a fraction": tensor(sizes=b"G?\xf0\0\0\0\0\0\0K\1\x86"),
    "sizes that are a list": tensor(sizes=b"](K\3K\4e"),
    "more strides than sizes": tensor(strides=numbers(4, 1, 1)),
    "nine axes": tensor(sizes=numbers(*[1] * 9), strides=numbers(*[1] * 9)),
    "a storage that is not there": tensor(of=storage("1")),
    "a storage longer than its bytes": tensor(of=storage(elements=13)),
    "a storage shorter than its bytes": tensor(of=storage(elements=11)),
    "a storage of 2**62 elements": tensor(of=storage(elements=1 << 62)),
    "a storage of less than nothing": tensor(of=storage(elements=-12)),
    "a storage of another type": tensor(of=storage(kind="DoubleStorage", elements=6)) + text("y") + tensor(),
    "a storage of a type that there is not": tensor(of=storage(kind="FancyStorage")),
    "a storage outside of the archive": tensor(of=storage("../../data.pkl")),
    "a storage that is a text": tensor(of=text("0")),
    "a tensor of a tensor": tensor(of=tensor()),
    "a type that the storage has not": named("torch._utils._rebuild_tensor_v3")
    + b"("
    + storage("0", "ComplexFloatStorage", 1 << 40)
    + number(0)
    + numbers(1 << 20)
    + numbers(1)
    + b"\x89N"
    + named("torch.uint16")
    + b"}tR",
}

# -------------------------------------------------------------------------------------------------- archives that lie


def with_entry(name: str, content: bytes, **how: int) -> bytes:
    """A sound archive with another entry, of another `flag_bits` and so on."""
    out = io.BytesIO(archive(weights()))
    with zipfile.ZipFile(out, "a") as z:
        info = zipfile.ZipInfo(name)
        info.compress_type = how.get("compress_type", zipfile.ZIP_STORED)
        z.writestr(info, content)
    return out.getvalue()


def changed(find: bytes, by: bytes, last: bool = True) -> bytes:
    """Torch's archive, or ours, with bytes exchanged."""
    raw = torchs() if find.startswith(b"PK") else SOUND
    at = raw.rindex(find) if last else raw.index(find)
    return raw[:at] + by + raw[at + len(by) :]


def entry(raw: bytes, name: str, at: int, format: str, value: int) -> bytes:
    """A field of an entry in the directory, by its place there."""
    start = raw.rindex(name.encode()) - 46 + at
    return raw[:start] + struct.pack(format, value) + raw[start + struct.calcsize(format) :]


def end(raw: bytes, at: int, format: str, value: int) -> bytes:
    """A field of the end of the directory."""
    start = len(raw) - 22 + at
    return raw[:start] + struct.pack(format, value) + raw[start + struct.calcsize(format) :]


def twice() -> bytes:
    raw = with_entry("w/data/1", DATA)
    return raw.replace(b"w/data/1", b"w/data/0")


def torchs() -> bytes:
    out = io.BytesIO()
    torch.save({"w": torch.ones(3)}, out)
    return out.getvalue()


def wide_end(at: int, value: int) -> bytes:
    """Torch's archive, with another field of the end of zip64."""
    raw = torchs()
    start = raw.rindex(b"PK\6\6") + at
    return raw[:start] + struct.pack("<Q", value) + raw[start + 8 :]


SOUND = archive(weights())
DIRECTORY = struct.unpack("<I", SOUND[-6:-2])[0]
ARCHIVES: dict[str, Callable[[], bytes]] = {
    "a bomb of zeros": lambda: with_entry("w/data/1", bytes(1 << 24), compress_type=zipfile.ZIP_DEFLATED),
    "a bomb that calls itself stored": lambda: entry(
        with_entry("w/data/1", bytes(1 << 24), compress_type=zipfile.ZIP_DEFLATED), "w/data/1", 10, "<H", 0
    ),
    "an encrypted entry": lambda: entry(SOUND, "w/data/0", 8, "<H", 1),
    "a name twice": twice,
    "data that is another's": lambda: entry(SOUND, "w/version", 42, "<I", SOUND.index(b"w/data.pkl") - 30),
    "an entry inside of another": lambda: entry(SOUND, "w/data.pkl", 20, "<Q", (600 << 32) | 600),
    "an entry longer than the file": lambda: entry(SOUND, "w/version", 20, "<Q", (1 << 31 << 32) | 1 << 31),
    "an entry that reaches into the directory": lambda: entry(SOUND, "w/version", 20, "<Q", (3 << 32) | 3),
    "an entry behind the end": lambda: entry(SOUND, "w/version", 42, "<I", 1 << 30),
    "an entry that is not where it should be": lambda: entry(SOUND, "w/version", 42, "<I", 7),
    "an entry of two sizes": lambda: entry(SOUND, "w/data/0", 20, "<I", 40),
    "an entry of another name": lambda: changed(b"w/data/0", b"w/data/9", last=False),
    "a name that is not UTF-8": lambda: SOUND.replace(b"w/version", b"w/v\xffrsion"),
    "fewer entries than there are": lambda: end(SOUND, 10, "<H", 3),
    "more entries than there are": lambda: end(SOUND, 10, "<H", 9),
    "a directory that is elsewhere": lambda: end(SOUND, 16, "<I", DIRECTORY - 8),
    "a directory that is longer": lambda: end(SOUND, 12, "<I", 1 << 30),
    "something before it": lambda: b"PK\3\4" + SOUND,
    "something behind it": lambda: SOUND + b"more",
    "a comment": lambda: end(SOUND, 20, "<H", 4) + b"more",
    "the last byte missing": lambda: SOUND[:-1],
    "its end missing": lambda: SOUND[:-40],
    "its beginning alone": lambda: SOUND[:64],
    "an end of zip64 that says otherwise": lambda: wide_end(32, 9),
    "an end of zip64 that is elsewhere": lambda: changed(b"PK\6\7", b"PK\6\7" + bytes(4) + b"\x09"),
    "other bytes first": lambda: archive(weights(), byteorder=b"big"),
    "an order of bytes without end": lambda: archive(weights(), byteorder=b"l" * 100),
    "no pickle": lambda: SOUND.replace(b"w/data.pkl", b"w/date.pkl"),
    "two of them": lambda: with_entry("v/data.pkl", weights()),
    "another kind of archive": lambda: with_entry("readme.txt", b"hello"),
    "nothing in it": lambda: b"PK\5\6" + bytes(18),
    "a storage that is gone": lambda: SOUND.replace(b"w/data/0", b"w/data/7"),
}

# --------------------------------------------------------------------------------------------------- streams that lie

STREAMS: dict[str, Callable[[], bytes]] = {
    "the last byte missing": lambda: legacy(weights())[:-1],
    "the storages missing": lambda: legacy(weights(), rest=b""),
    "half of the pickle": lambda: legacy(weights())[:120],
    "bytes behind the end": lambda: legacy(weights()) + b"more",
    "a storage longer than it says": lambda: legacy(weights(), rest=struct.pack("<q", 13) + DATA + bytes(4)),
    "a storage of 2**62 elements": lambda: legacy(weights(), rest=struct.pack("<q", 1 << 62) + DATA),
    "a storage of less than nothing": lambda: legacy(weights(), rest=struct.pack("<q", -12) + DATA),
    "a storage twice": lambda: legacy(
        weights(), keys=b"](" + text("0") * 2 + b"e.", rest=(struct.pack("<q", 12) + DATA) * 2
    ),
    "a storage that no tensor has": lambda: legacy(weights(), keys=b"](" + text("1") + b"e."),
    "no storage": lambda: legacy(weights(), keys=b"].", rest=b""),
    "storages that are no list": lambda: legacy(weights(), keys=b"}."),
    "storages that are no texts": lambda: legacy(weights(), keys=b"](Ne."),
    "code in place of storages": lambda: legacy(weights(), keys=named("posix.system") + RUN + b"R."),
    "code in place of the version": lambda: PROTO + number(0x1950A86A20F9469CFC6C) + b"." + CODE["a function called"],
    "other bytes first": lambda: legacy(weights()).replace(b"little_endian\x88", b"little_endian\x89"),
    "another version": lambda: legacy(weights()).replace(number(1001), number(1002)),
    "a pickle of torch's by pickle.dumps": lambda: pickle.dumps({"w": [1.0]}, 2),
    "a view out of bounds": lambda: legacy(
        weights(text("x") + tensor(of=storage()[:-2] + b"(" + text("v") + number(6) + number(7) + b"ttQ"))
    ),
}  # fmt: skip

CASES: dict[str, bytes] = {
    **{f"code: {n}": archive(p) for n, p in CODE.items()},
    **{f"code, legacy: {n}": legacy(p) for n, p in CODE.items()},
    **{f"pickle: {n}": archive(p) for n, p in PICKLES.items()},
    **{f"tensor: {n}": archive(weights(text("x") + t)) for n, t in TENSORS.items()},
    **{f"archive: {n}": make() for n, make in ARCHIVES.items()},
    **{f"stream: {n}": make() for n, make in STREAMS.items()},
    "neither": b"hello",
    "nothing": b"",
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_and_nothing_is_run(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.bin"
    file.write_bytes(CASES[case])
    tracemalloc.start()
    try:
        with pytest.raises(LoadError) as e:
            read_torch(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(e.value)
    assert message.startswith(f"{file}: ") and "\n" not in message and len(message) < 1000
    assert not (tmp_path / "canary").exists()
    opcodes = min(len(CASES[case]), 1 << 21)
    assert peak < MEMORY + 200 * opcodes  # an object and its place in lists for each


def test_the_files_that_the_cases_are_made_of_are_sound(tmp_path: Path) -> None:
    """Torch reads them as we do."""
    for raw in (SOUND, legacy(weights()), torchs()):
        (tmp_path / "w.bin").write_bytes(raw)
        assert list(read_torch(tmp_path / "w.bin")) == ["w"]
    for raw in (SOUND, legacy(weights())):
        (tmp_path / "w.bin").write_bytes(raw)
        assert torch.load(tmp_path / "w.bin", weights_only=True)["w"].numpy().tobytes() == DATA


def test_a_view_of_a_storage_as_torch_once_wrote_it(tmp_path: Path) -> None:
    view = storage()[:-2] + b"(" + text("v") + number(6) + number(6) + b"ttQ"
    one = tensor(sizes=numbers(2), strides=numbers(1), offset=number(1), of=view)
    (tmp_path / "w.bin").write_bytes(legacy(weights(text("x") + one)))
    tensors = read_torch(tmp_path / "w.bin")
    assert tensors["x"].offset == tensors["w"].offset + 7 * 4
    loaded = torch.load(tmp_path / "w.bin", weights_only=True)
    assert loaded["x"].tolist() == loaded["w"].flatten()[7:9].tolist()


@pytest.mark.parametrize("raw", [SOUND, legacy(weights())], ids=["zip", "legacy"])
def test_a_byte_that_is_another_is_refused_or_reads_what_is_in_the_file(raw: bytes, tmp_path: Path) -> None:
    for at in range(len(raw)):
        (tmp_path / "w.bin").write_bytes(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :])
        try:
            tensors = read_torch(tmp_path / "w.bin")
        except LoadError as e:
            assert str(e).startswith(f"{tmp_path / 'w.bin'}: ")
        else:
            for name in tensors:
                StoredWeights(tensors).read(name)


def test_opcodes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.frontends.files.unpickler._MOST", 1000)
    file = tmp_path / "w.bin"
    for nothings, message in ((997, "cannot tell which weights are meant"), (998, "longer than the 1000 opcodes")):
        file.write_bytes(archive(PROTO + b"N" * nothings + b"}."))
        with pytest.raises(LoadError, match=message):
            read_torch(file)


def test_bytes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.frontends.files.torch.LARGEST", 1000)
    (tmp_path / "w.bin").write_bytes(archive(weights(text("x" * 1000) + b"N")))
    with pytest.raises(LoadError, match="longer than the 1000 bytes that are read"):
        read_torch(tmp_path / "w.bin")


def test_what_is_no_file(tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "gone.bin"):
        with pytest.raises(LoadError, match=str(file)):
            read_torch(file)
