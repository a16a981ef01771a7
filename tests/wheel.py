"""Makes the wheel twice, and tries it where there is no Numba.

    python -m tests.wheel       into dist/; pip fetches what the wheel and its making require

The second wheel's machine code must be the same, byte by byte; and from the wheel, in an environment of its own, a
quantized model must run by kernels, on each instruction set that this machine has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from burnish.backends.native.cpu import INSTRUCTION_SETS, instruction_sets
from tests.backends.native.test_code import MODEL

ROOT = Path(__file__).resolve().parent.parent


def run(*command: object, **environment: str) -> str:
    """What a command prints, run from nowhere in particular, so that nothing of the checkout is found."""
    print("+", *command, flush=True)
    given = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    return subprocess.run(
        list(map(str, command)), cwd="/", env=given, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def make_wheel(folder: Path) -> Path:
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir", "-w", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def images(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist() if "/native/images/" in name}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, again = (make_wheel(folder / each) for each in ("one", "two"))
        code = images(wheel)
        for isa in INSTRUCTION_SETS:
            count = sum(f"/images/{isa.name}/" in name for name in code)
            assert count, f"the wheel has no machine code for {isa.name}"
            print(f"{isa.name}: {count} images")
        assert code == images(again), "two builds differ"
        run(sys.executable, "-m", "venv", folder / "venv")
        python = folder / "venv" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", wheel)
        (folder / "model.py").write_text(MODEL)
        for isa in instruction_sets():
            said = run(python, folder / "model.py", BURNISH_CPU=isa.name, XDG_CACHE_HOME=str(folder / "cache"))
            assert "1 x linear: kernel linear.int8\nright\nFalse False\n" in said, said
            print(f"{isa.name}: a quantized model runs by kernels, without Numba")
        assert not (folder / "cache").exists(), "something was built"
        (ROOT / "dist").mkdir(exist_ok=True)
        print(shutil.copy(wheel, ROOT / "dist"))


if __name__ == "__main__":
    main()
