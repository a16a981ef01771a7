"""Packages that chance has damaged, put to every command, which must notice: see `tests/fuzzing.py`."""

import random
import shutil
from pathlib import Path

from burnish.runtime.package import write_package
from burnish.runtime.tokenizer import Tokenizer
from tests.fuzzing import every_command
from tests.runtime.test_package import llama, quantized

DOCUMENTED = ()


def attempt(seed: int, folder: Path) -> None:
    """Damage a copy of a sound package, and put it to every command."""
    sound, package, out = (folder / name for name in ("sound", "package", "out"))
    if not sound.exists():
        make(sound)
    for old in (package, out):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(sound, package)
    what = damaged(package, random.Random(seed))
    codes = every_command(package, out, "--verify")
    noticed = {code for name, code in codes.items() if name not in ("opt", "debug")}  # which read no weight, or not all
    assert noticed == {3}, f"{what}: {codes}"


def make(folder: Path) -> None:
    """A package with quantized weights and a tokenizer, some hundred KB."""
    examples = Path(__file__).parents[2] / "examples"
    tokenizer = Tokenizer.load(examples / "tiny-lm" / "tokenizer.json")
    write_package(llama(quantized("q4_0"), head_dim=32), folder, tokenizer=tokenizer)


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
