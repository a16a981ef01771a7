"""Mutants of graph texts and of packages, each put to every command: `python -m tests.fuzz texts 0 500`.

One process does them all, within limits of memory and of file sizes; a command that takes longer than SECONDS is
interrupted. A line of JSON for each fault, and one at the end that counts exit codes. Seeds make it repeatable.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from burnish.cli import FAULT, main

MEMORY, WRITTEN, SECONDS = 4 << 30, 200 << 20, 60
DOCUMENTED = (0, 1, 2, 3, 4, 5, 6)
GOLDEN = Path(__file__).parent / "golden"

_TOKEN = re.compile(
    r'"(?:[^"\\\n]|\\.)*"|[%@][\w./:-]*\w|-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|[A-Za-z_]\w*|<-|\S', re.ASCII
)
_NUMBERS = ("0", "1", "-1", "2", "3", "7", "64", "4096", "65537", "2147483648", "1099511627776", "1e30", "0.5", "nan")
_WORDS = (
    "true",
    "none",
    '"x"',
    '"f32"',
    '"q4_0"',
    "[0, 1]",
    "[]",
    "S",
    "B",
    "{2*S - 1}",
    "{floordiv(B, 2)}",
    "f32",
    "i64",
)
_OPS = (
    "add",
    "reshape",
    "linear",
    "split",
    "concat",
    "gather",
    "softmax",
    "iota",
    "broadcast_to",
    "slice",
    "if",
    "cast",
)


class Hang(BaseException):
    """A command that was interrupted."""


def mutated_text(text: str, rng: random.Random) -> str:
    """The text with one or two changes: lines removed or doubled, tokens swapped, removed, renumbered, retyped.

    A number or a name is as often replaced everywhere, so that what comes of it is sound by the rules of types.
    """
    for _ in range(rng.randint(1, 2)):
        lines = text.splitlines(keepends=True)
        spans = [m.span() for m in _TOKEN.finditer(text)]
        if not spans:
            return text
        start, end = rng.choice(spans)
        match rng.choice((0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 8, 8, 9, 9)):
            case 0:
                del lines[rng.randrange(len(lines))]
                text = "".join(lines)
            case 1:
                lines.insert(rng.randrange(len(lines)), rng.choice(lines))
                text = "".join(lines)
            case 2:
                a, b = sorted(rng.sample(spans, 2)) if len(spans) > 1 else (spans[0], spans[0])
                text = text[: a[0]] + text[slice(*b)] + text[a[1] : b[0]] + text[slice(*a)] + text[b[1] :]
            case 3:
                text = text[:start] + text[end:]
            case 4:
                numbers = [s for s in spans if text[s[0]].isdigit()] or [(start, end)]
                start, end = rng.choice(numbers)
                text = text[:start] + rng.choice(_NUMBERS) + text[end:]
            case 5:
                values = [m.span(1) for m in re.finditer(r"\w=(\[[^\]\n]*\]|[^,)\n]+)", text)] or [(start, end)]
                start, end = rng.choice(values)
                text = text[:start] + rng.choice(_NUMBERS + _WORDS) + text[end:]
            case 6:
                ops = [m.span(1) for m in re.finditer(r" = (\w+)\(", text)] or [(start, end)]
                start, end = rng.choice(ops)
                text = text[:start] + rng.choice(_OPS) + text[end:]
            case 8:
                numbers = sorted(set(re.findall(r"(?<![\w.@%-])\d+(?![\w.])", text))) or ["0"]
                text = re.sub(rf"(?<![\w.@%-]){rng.choice(numbers)}(?![\w.])", rng.choice(_NUMBERS), text)
            case 9:
                names = sorted(set(re.findall(r"(?<=[\[ ])(?:[BSCT]|[a-z]+\d+)(?=[\],\[])", text))) or ["B"]
                text = re.sub(
                    rf"\b{rng.choice(names)}\b", rng.choice(("f16", "i32", "q4_0", "B", "S", "1", "5", "{2*S}")), text
                )
            case _:
                text = text[:start] + rng.choice(["\0", "\ud800", "}", "(", '"', "é", "#", "\x1b"]) + text[start:]
    return text


def damaged(folder: Path, rng: random.Random) -> str:
    """Do one damage to a package, whatever the file; says which."""
    files = sorted(folder.iterdir())
    file, other = rng.choice(files), rng.choice(files)
    data = bytearray(file.read_bytes())
    match rng.randrange(8):
        case 0:
            file.unlink()
            return f"{file.name} is removed"
        case 1 if other != file and other.read_bytes() != data:
            file.write_bytes(other.read_bytes())
            other.write_bytes(data)
            return f"{file.name} and {other.name} change places"
        case 2:
            length = rng.randrange(len(data))
            file.write_bytes(data[:length])
            return f"{file.name} is cut to {length} bytes"
        case _:
            at = rng.randrange(len(data))
            data[at] ^= 1 << rng.randrange(8)
            file.write_bytes(data)
            return f"{file.name}: a bit of byte {at} is flipped"


def commands(source: Path, out: Path, *more: str) -> list[list[str]]:
    """Every command that takes a model, `more` where it verifies."""
    s = str(source)
    return [
        ["inspect", s, *more],
        ["run", s, "--prompt-ids", "1,2", "--max-new-tokens", "2", *more],
        ["compile", s, "-o", str(out)],
        ["opt", s],
        ["debug", "check", s],
    ]


def ran(arguments: list[str]) -> tuple[int, str]:
    """The exit code of a command and its standard error. Raises Hang."""

    def interrupt(*_: object) -> None:
        raise Hang

    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(arguments)
    except SystemExit as e:
        return int(e.code or 0), err.getvalue()
    finally:
        signal.alarm(0)
    raise AssertionError("main ends with SystemExit")


def faults_of(arguments: list[str], place: Path) -> Iterator[tuple[int, str]]:
    """The exit code, and what is wrong with how the command ended: "" where nothing is."""
    try:
        code, err = ran(arguments)
    except Hang:
        yield -1, "took too long"
        return
    except BaseException as e:  # a traceback that not even `main` turned into a message
        yield -1, f"{type(e).__name__}: {e}"
        return
    written = sum(f.stat().st_size for f in place.rglob("*") if f.is_file())
    if code not in DOCUMENTED or code == FAULT or "Traceback" in err:
        yield code, err.strip()
    elif written > WRITTEN:
        yield code, f"wrote {written} bytes"
    elif code > 1 and not err.startswith(("error: ", "note: ")):
        yield code, f"ended without a message: {err.strip()}"
    else:
        yield code, ""


def each_text(seed: int, place: Path) -> Iterator[list[str]]:
    """The commands on a mutant of a golden graph."""
    rng = random.Random(seed)
    base = rng.choice(sorted(GOLDEN.glob("*/*.graph")))
    source = place / "mutant.graph"
    source.write_text(mutated_text(base.read_text("utf-8"), rng), "utf-8", "surrogatepass")
    yield from commands(source, place / "out")


def each_package(seed: int, place: Path, sound: Path) -> Iterator[list[str]]:
    """The commands on a damaged package."""
    source = place / "package"
    shutil.copytree(sound, source)
    damaged(source, random.Random(seed))
    yield from commands(source, place / "out", "--verify")


def made_package(folder: Path) -> Path:
    """A package with quantized weights and a tokenizer, some hundred KB."""
    from burnish.runtime.package import write_package
    from burnish.runtime.tokenizer import Tokenizer
    from tests.runtime.test_package import llama, quantized

    tokenizer = Tokenizer.load(Path(__file__).parents[1] / "examples" / "tiny-lm" / "tokenizer.json")
    write_package(llama(quantized("q4_0"), head_dim=32), folder, tokenizer=tokenizer)
    return folder


def run(kind: str, seeds: range) -> int:
    """Put mutants of a kind to the commands; prints, and returns, the number of faults."""
    codes, faults = Counter[int](), 0
    with tempfile.TemporaryDirectory() as folder:
        sound = made_package(Path(folder) / "sound") if kind == "packages" else Path()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (WRITTEN, WRITTEN))
        each: Callable[[int, Path], Iterator[list[str]]]
        each = each_text if kind == "texts" else lambda seed, place: each_package(seed, place, sound)
        for seed in seeds:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                for arguments in each(seed, Path(place)):
                    for code, fault in faults_of(arguments, Path(place)):
                        codes[code] += 1
                        noticed = code == 3 or arguments[0] in ("opt", "debug")
                        if kind == "packages" and not fault and not noticed:
                            fault = "the damage was not noticed"
                        if fault:
                            faults += 1
                            command = " ".join(arguments).replace(place, "")
                            print(json.dumps({"seed": seed, "command": command, "code": code, "fault": fault}))
    print(json.dumps({"kind": kind, "mutants": len(seeds), "faults": faults, "codes": dict(sorted(codes.items()))}))
    return faults


if __name__ == "__main__":
    sys.exit(min(run(sys.argv[1], range(int(sys.argv[2]), int(sys.argv[3]))), 1))
