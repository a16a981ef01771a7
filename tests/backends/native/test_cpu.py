"""What this machine can do: which instruction sets run here, and why none does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from burnish.backends.native import cpu
from burnish.backends.native.cpu import INSTRUCTION_SETS, instruction_set, instruction_sets, why_none

AVX512, AVX2 = INSTRUCTION_SETS
NO_CPU = "this machine is no x86-64 under Linux with avx512_vnni or avx2"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Makes this a machine that has these flags, Numba, and memory that may be run, unless said."""

    def make(
        flags: object, asked: str = "", numba: bool = True, runs: bool = True, shipped: tuple[str, ...] = ()
    ) -> None:
        monkeypatch.setattr(cpu, "_flags", lambda: frozenset(flags))
        monkeypatch.setattr(cpu, "find_spec", lambda name: object() if numba else None)
        monkeypatch.setattr(cpu, "memory_runs", lambda: runs)
        monkeypatch.setattr(cpu, "SHIPPED", tmp_path)
        for name in shipped:
            (tmp_path / name).mkdir()
        monkeypatch.setenv("BURNISH_CPU", asked)
        cpu._found.cache_clear()

    yield make
    monkeypatch.undo()
    cpu._found.cache_clear()


@pytest.mark.parametrize(
    ("flags", "asked", "expected"),
    [
        (AVX512.flags, "", (AVX512, AVX2)),
        (AVX512.flags, "avx512_vnni", (AVX512, AVX2)),
        (AVX512.flags, "avx2", (AVX2,)),
        (AVX512.flags - {"avx512_vnni"}, "", (AVX2,)),
        (AVX2.flags, "", (AVX2,)),
    ],
)
def test_the_best_first(machine: Callable[..., None], flags: frozenset[str], asked: str, expected: object) -> None:
    machine(flags, asked)
    assert instruction_sets() == expected
    assert instruction_set() is expected[0]
    assert why_none() == ""


@pytest.mark.parametrize(
    ("flags", "more", "reason"),
    [
        (AVX512.flags, {"asked": "none"}, "BURNISH_CPU is none"),
        ((), {"asked": "none"}, "BURNISH_CPU is none"),
        ((), {}, NO_CPU),
        (AVX2.flags - {"fma"}, {}, NO_CPU),
        (
            AVX2.flags,
            {"numba": False},
            "Numba, which makes machine code, is not installed: pip install 'burnish[kernels]'",
        ),
        (AVX2.flags, {"runs": False}, "this system does not let memory be run that was written"),
    ],
)
def test_why_there_is_none(machine: Callable[..., None], flags: object, more: dict[str, object], reason: str) -> None:
    machine(flags, **more)
    assert (instruction_sets(), instruction_set(), why_none()) == ((), None, reason)


def test_code_that_a_wheel_brings_needs_no_numba(machine: Callable[..., None]) -> None:
    machine(AVX512.flags, numba=False, shipped=("avx2",))
    assert instruction_sets() == (AVX2,)


@pytest.mark.parametrize(
    ("flags", "asked", "names"),
    [
        (AVX512.flags, "avx", "avx512_vnni, avx2, none"),
        (AVX2.flags, "avx512_vnni", "avx2, none"),
        ((), "avx2", "none"),
    ],
)
def test_what_is_asked_for_must_be_there(machine: Callable[..., None], flags: object, asked: str, names: str) -> None:
    machine(flags, asked)
    with pytest.raises(ValueError, match=f"BURNISH_CPU is '{asked}'; here it may be {names}$"):
        instruction_sets()


@pytest.mark.parametrize(("system", "processor"), [("darwin", "x86_64"), ("linux", "aarch64"), ("win32", "AMD64")])
def test_other_machines_have_no_flags(system: str, processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.sys, "platform", system)
    monkeypatch.setattr(cpu.platform, "machine", lambda: processor)
    assert cpu._flags() == frozenset()


def test_flags_are_those_of_the_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu.sys, "platform", "linux")
    monkeypatch.setattr(cpu.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(cpu, "Path", lambda _: tmp_path / "cpuinfo")
    assert cpu._flags() == frozenset()
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu fma avx2\nbugs\t: none\n")
    assert cpu._flags() == {"fpu", "fma", "avx2"}
