"""GGUF files that lie, or are damaged: one clear LoadError each, in little memory."""

import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from burnish.frontends.config import LoadError
from burnish.frontends.gguf_file import GgufFile, read_gguf
from burnish.frontends.gguf_names import architecture_of, config_of
from burnish.frontends.tokenizers.gguf import gguf_tokenizer

U32, STRING, ARRAY = 4, 8, 9
F32, Q4_0 = 0, 2
HUGE = (1 << 64) - 1


def text(value: bytes | str, length: int | None = None) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def key(name: bytes | str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, n: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, n) + items


def tensor(name: bytes | str, dims: tuple[int, ...], kind: int = F32, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


KEYS = [
    key("general.architecture", STRING, text("llama")),
    key("llama.block_count", U32, struct.pack("<I", 1)),
    key("llama.rope.freq_base", 6, struct.pack("<f", 1e4)),
    key("yes", 7, b"\1"),
    key("texts", ARRAY, array(STRING, 2, text("a") + text("é"))),
    key("numbers", ARRAY, array(5, 2, struct.pack("<2i", 1, -1))),
]
TENSORS = [tensor("a", (3,)), tensor("b", (32, 2), Q4_0, 32), tensor("c", (), F32, 96)]
DATA = 128  # bytes


def header(
    keys: list[bytes] = KEYS,
    tensors: list[bytes] = TENSORS,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
) -> bytes:
    counts = (len(tensors) if tensor_count is None else tensor_count, len(keys) if key_count is None else key_count)
    raw = magic + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    return raw + bytes(-len(raw) % 32)


SOUND = header() + bytes(DATA)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "model.gguf"


def refused(path: Path, raw: bytes) -> str:
    """The message: one line that says where."""
    path.write_bytes(raw)
    with pytest.raises(LoadError) as e:
        read_gguf(path)
    message = str(e.value)
    assert "\n" not in message and len(message) < 1000 and str(path) in message
    return message


def test_the_sound_file_reads(path) -> None:
    path.write_bytes(SOUND)
    assert [str(t.type) for t in read_gguf(path).tensors.values()] == ["f32[3]", "q4_0[2, 32]", "f32[]"]


def test_every_truncation(path) -> None:
    for kept in range(len(header()) + 100):  # the last tensor ends there
        assert "is the file whole?" in (message := refused(path, SOUND[:kept])) or "is it whole?" in message


@pytest.mark.parametrize(
    "change", [lambda b: 0, lambda b: 0xFF, lambda b: b ^ 1, lambda b: b ^ 0x80], ids="0 ff ^1 ^80".split()
)
def test_every_byte_of_the_header_changed(path, change) -> None:
    """Each file is refused, or says something else that is sound."""
    refusals = 0
    for i, byte in enumerate(header()):
        path.write_bytes(SOUND[:i] + bytes([change(byte)]) + SOUND[i + 1 :])
        try:
            file = read_gguf(path)
        except LoadError as e:
            refusals += 1
            assert "\n" not in str(e) and str(path) in str(e)
            continue
        for t in file.tensors.values():
            assert 24 < t.offset <= t.offset + t.type.nbytes <= len(SOUND)  # fewer tensors: a shorter header
        for read in (architecture_of, config_of, gguf_tokenizer):
            try:
                read(file)
            except LoadError as e:
                assert str(path) in str(e)
    assert refusals > 20


CASES = {
    "nothing": (b"", "a GGUF header needs 4 bytes, but 0 are left"),
    "another file": (b"PK\3\4" + bytes(100), "does not begin with GGUF"),
    "version 1": (header(version=1), "is of GGUF version 1; supported are 2 and 3"),
    "version 0": (header(version=0), "is of GGUF version 0"),
    "version 4": (header(version=4), "is of GGUF version 4"),
    "big-endian": (header(version=3 << 24), "is a big-endian GGUF file"),
    "too many tensors": (header(tensor_count=HUGE), "says that it has 18446744073709551615 tensors; at most 65536"),
    "more tensors than bytes": (header(tensor_count=1000), "a table of 1000 tensors needs 24000 bytes, but"),
    "too many keys": (header(key_count=1 << 40), "says that it has 1099511627776 metadata keys; at most 65536"),
    "more keys than bytes": (header(key_count=1000), "a table of 1000 metadata keys needs 13000 bytes"),
    "a key too long": (header([text("a", HUGE)]), "a metadata key needs 18446744073709551615 bytes"),
    "a key of no bytes": (header([key("", U32, bytes(4))]), "a metadata key '' must have 1 to 65535 bytes"),
    "a key of too many": (header([key("k" * 65536, U32, bytes(4))]), "must have 1 to 65535 bytes"),
    "a key twice": (header([*KEYS, KEYS[0]]), "the metadata key 'general.architecture' occurs twice"),
    "a key that is not UTF-8": (header([key(b"\xff\xfe", U32, bytes(4))]), "a metadata key is not UTF-8"),
    "half a pair": (header([key(b"\xed\xa0\x80", U32, bytes(4))]), "a metadata key is not UTF-8"),
    "a string that is not UTF-8": (header([key("k", STRING, text(b"a\xc3"))]), "metadata 'k' is not UTF-8"),
    "a string too long": (
        header([key("k", STRING, text("a", 1 << 62))]),
        "metadata 'k' needs 4611686018427387904 bytes",
    ),
    "a type that is none": (header([key("k", 13, bytes(8))]), "metadata 'k' is of type 13, which GGUF does not have"),
    "2 for a truth value": (header([key("k", 7, b"\2")]), "'k' has a truth value that is neither 0 nor 1"),
    "2 among truth values": (
        header([key("k", ARRAY, array(7, 3, b"\0\2\1"))]),
        "'k' has a truth value that is neither",
    ),
    "an array of arrays": (header([key("k", ARRAY, array(ARRAY, 1))]), "metadata 'k' is an array of arrays"),
    "an array of no type": (header([key("k", ARRAY, array(99, 1))]), "metadata 'k' is of type 99"),
    "strings without end": (header([key("k", ARRAY, array(STRING, HUGE))]), "metadata 'k' needs 147573952589676412920"),
    "numbers without end": (header([key("k", ARRAY, array(12, HUGE))]), "metadata 'k' needs 147573952589676412920"),
    "an alignment of 0": (header([key("general.alignment", U32, bytes(4))]), "must be a power of two from 8 to 2^20"),
    "an alignment of 48": (
        header([key("general.alignment", U32, b"0\0\0\0")]),
        "a power of two from 8 to 2^20, not 48",
    ),
    "an alignment of 2 GB": (header([key("general.alignment", U32, b"\0\0\0\x80")]), "from 8 to 2^20, not 2147483648"),
    "an alignment of true": (header([key("general.alignment", 7, b"\1")]), "general.alignment must be an integer"),
    "split in none": (header([key("split.count", U32, bytes(4))]), "is one of 0 parts"),
    "split in text": (header([key("split.count", STRING, text("two"))]), "split.count must be an integer"),
    "split in a list": (header([key("split.count", ARRAY, array(0, 30, bytes(30)))]), "split.count must be an integer"),
    "a tensor twice": (header(tensors=[TENSORS[0]] * 2), "tensor 'a' occurs twice"),
    "a name of no bytes": (header(tensors=[tensor("", (3,))]), "the name of a tensor '' must have 1 to 64 bytes"),
    "a name of 65": (header(tensors=[tensor("é" + "n" * 63, (3,))]), "must have 1 to 64 bytes"),
    "a name not UTF-8": (header(tensors=[tensor(b"\xff", (3,))]), "the name of a tensor is not UTF-8"),
    "five axes": (header(tensors=[tensor("t", (1,) * 5)]), "tensor 't' has 5 axes; GGUF has at most 4"),
    "axes without end": (header(tensors=[text("t") + b"\xff" * 12]), "tensor 't' has 4294967295 axes"),
    "a negative size": (header(tensors=[tensor("t", (HUGE,))]), "too large for any file"),
    "a size that overflows": (header(tensors=[tensor("t", (1 << 47,) * 4)]), "tensor 't' ends at byte 1569"),
    "a type that ggml lost": (
        header(tensors=[tensor("t", (3,), 4)]),
        "tensor 't' is of ggml's type 4, which is not known",
    ),
    "a type that is no type": (
        header(tensors=[tensor("t", (3,), 1 << 31)]),
        "ggml's type 2147483648, which is not known",
    ),
    "half a block": (
        header(tensors=[tensor("t", (48, 2), Q4_0)]),
        r"'t' is of type q4_0, but its shape is [2, 48]: q4_0",
    ),
    "blocks without axes": (header(tensors=[tensor("t", (), Q4_0)]), "'t' is of type q4_0, but its shape is []"),
    "an odd offset": (
        header(tensors=[tensor("t", (3,), F32, 8)]),
        "'t' begins at byte 8 of the data, no multiple of 32",
    ),
    "an offset past the end": (header(tensors=[tensor("t", (3,), F32, 1 << 40)]), "tensor 't' ends at byte 1099511628"),
    "an offset without end": (
        header(tensors=[tensor("t", (3,), F32, HUGE - 31)]),
        "tensor 't' ends at byte 1844674407370",
    ),
    "tensors at one place": (header(tensors=[tensor("t", (3,)), tensor("u", (3,))]), "tensors 't' and 'u' overlap"),
    "tensors in each other": (header(tensors=[tensor("t", (16,)), tensor("u", (1,), F32, 32)]), "'t' and 'u' overlap"),
}


@pytest.mark.parametrize("case", CASES)
def test_headers(path, case) -> None:
    raw, message = CASES[case]
    assert message in refused(path, raw + bytes(DATA) if len(raw) > 100 else raw)


def test_empty_tensors_may_lie_anywhere(path) -> None:
    path.write_bytes(header(tensors=[tensor("t", (0, 5)), tensor("u", (3,)), tensor("v", (0,))]) + bytes(DATA))
    assert len(read_gguf(path).tensors) == 3


@pytest.mark.parametrize("what", ["nothing", "a folder", "a pipe", "a dangling link"])
def test_what_is_no_file(path, what) -> None:
    match what:
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "a dangling link":
            path.symlink_to("nowhere")
    with pytest.raises(LoadError, match=r"model.gguf: (is not a file|No such file)"):
        read_gguf(path)


# -------------------------------------------------------------------------------------------------------------- memory


def measured(path: Path, raw: bytes) -> tuple[GgufFile | str, int]:
    """What was read, or the message, and the most memory that it took."""
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        found: GgufFile | str = read_gguf(path)
    except LoadError as e:
        found = str(e)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found, most


LARGE = {
    "strings of one letter": [key("k", ARRAY, array(STRING, 100_000, text("я") * 100_000))],
    "empty strings": [key("k", ARRAY, array(STRING, 100_000, text("") * 100_000))],
    "numbers": [key("k", ARRAY, array(0, 1_000_000, bytes(1_000_000)))],
    "one string": [key("k", STRING, text("я" * 500_000))],
}


@pytest.mark.parametrize("case", LARGE)
def test_memory_is_a_small_multiple_of_the_header(path, case) -> None:
    """A string of one letter is 10 bytes of file, and in Python an object of 76 and a pointer."""
    raw = header(LARGE[case])
    found, most = measured(path, raw + bytes(DATA))
    assert isinstance(found, GgufFile) and most < 10 * len(raw) + (1 << 16)


@pytest.mark.parametrize("kind", [0, 7, STRING, 12])
def test_a_length_that_nothing_backs_takes_no_memory(path, kind) -> None:
    with path.open("wb") as f:
        raw = header([key("k", ARRAY, array(kind, 1 << 30))])
        f.write(raw)
        f.truncate(1 << 36)  # a hole: the file is as large as it says
    tracemalloc.start()
    with pytest.raises(LoadError, match="metadata 'k' ends behind the 67108864 bytes of header that are read"):
        read_gguf(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 16
    tracemalloc.stop()


# ------------------------------------------------------------------------------------------------- what metadata mean

VALUES = [
    0,
    -1,
    1 << 63,
    1.5,
    float("nan"),
    float("inf"),
    1e300,
    True,
    "",
    "x",
    (),
    ("a",),
    np.array([]),
    np.zeros(2),
    np.arange(99),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_of_any_kind_are_refused_or_passed_on(path, value) -> None:
    """A config's own reader checks the fields again: nothing but LoadError comes out here."""
    names = "vocab_size attention.head_count attention.key_length attention.value_length rope.freq_base expert_count"
    names += (
        " rope.dimension_count rope.scaling.type rope.scaling.factor rope.scaling.attn_factor attention.causal other"
    )
    sound = {"general.architecture": "llama", "llama.embedding_length": 64, "llama.attention.head_count": 4}
    named = [f"llama.{n}" for n in names.split()] + [
        "general.type",
        "general.architecture",
        "tokenizer.ggml.eos_token_id",
    ]
    refusals = 0
    for name in named:
        try:
            config = config_of(GgufFile(path, sound | {"llama.rope.dimension_count": 8, name: value}, {}))
        except LoadError as e:
            refusals += 1
            assert str(path) in str(e) and len(str(e)) < 500 and "\n" not in str(e)
        else:
            assert all(not isinstance(v, np.ndarray | tuple) for v in config.values())
    assert refusals >= 5
