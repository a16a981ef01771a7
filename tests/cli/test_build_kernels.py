"""burnish build-kernels: the machine code of all kernels, or why there is none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from burnish.backends.native import code, cpu
from burnish.backends.native.builders import CodeError
from burnish.backends.native.code import file_name
from burnish.backends.native.image import pack_image, read_image
from burnish.cli.build_kernels import CPUS
from tests.cli.conftest import Cli

AVX512, AVX2 = cpu.INSTRUCTION_SETS
RETURN = pack_image(b"\xc3", {"linear": 0}, {})


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There are two units, quickly built, on a machine with AVX2."""

    def build(units: list[str], isa: object, done: Callable[[str, bytes], None]) -> None:
        for unit in units:
            done(unit, RETURN)

    monkeypatch.setattr(code, "build", build)
    monkeypatch.setattr(code, "list_units", lambda isa: ["norms", "linear:q4_0"])
    monkeypatch.setattr(cpu, "_found", lambda: ((AVX2,), ""))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_goes_to_the_users_cache_for_this_machine(cli: Cli, tmp_path: Path) -> None:
    status, out, err = cli("build-kernels")
    size = len(RETURN) + 40
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"avx2         linear:q4_0                    {size} bytes",
        f"avx2         norms                          {size} bytes",
        f"2 images, {2 * size} bytes, in {tmp_path / 'cache' / 'burnish' / 'kernels'}",
    ]


def test_or_to_a_folder_for_every_processor(cli: Cli, tmp_path: Path) -> None:
    status, out, _ = cli("build-kernels", "--cpu", "all", "-o", str(tmp_path / "images"), "--json")
    rows = json.loads(out)["images"]
    assert status == 0
    assert [(r["unit"], r["cpu"]) for r in rows] == [
        (unit, isa) for isa in ("avx512_vnni", "avx2") for unit in ("linear:q4_0", "norms")
    ]
    for r, isa in zip(rows, (AVX512, AVX512, AVX2, AVX2), strict=True):
        assert Path(r["file"]) == tmp_path / "images" / isa.name / file_name(r["unit"], isa)
        assert read_image(Path(r["file"])) == RETURN


def test_a_machine_without_code_is_told_to_name_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_found", lambda: ((), "BURNISH_CPU is none"))
    assert cli("build-kernels") == (2, "", "error: no machine code runs here; say with --cpu what to build it for\n")
    assert cli("build-kernels", "--cpu", "avx2")[0] == 0


def test_a_build_that_fails(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise CodeError("norms cannot be built for avx2")

    monkeypatch.setattr(code, "build", fail)
    assert cli("build-kernels") == (4, "", "error: norms cannot be built for avx2\n")


def test_a_folder_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, out, err = cli("build-kernels", "-o", str(tmp_path / "file"))
    assert (status, out) == (2, "")
    assert "Not a directory" in err


def test_a_processor_that_there_is_no_code_for(cli: Cli) -> None:
    assert (*(s.name for s in cpu.INSTRUCTION_SETS), "all") == CPUS
    status, _, err = cli("build-kernels", "--cpu", "neon")
    assert status == 2
    assert "'neon' is not one of 'avx512_vnni', 'avx2', 'all'" in err
