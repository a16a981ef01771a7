"""Machine code is made in processes of their own: the same bytes each time, and whatever goes wrong is told."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from llvmlite import binding as llvm

from burnish.backends.native import build as compiler
from burnish.backends.native import builders
from burnish.backends.native.build import define, every_unit, link_object
from burnish.backends.native.builders import CodeError, build, list_units, meaning
from burnish.backends.native.cpu import INSTRUCTION_SETS
from burnish.ir.format import FORMATS

AVX2 = INSTRUCTION_SETS[-1]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that a test starts."""
    processes, popen = [], subprocess.Popen

    def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        processes.append(popen(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(builders.subprocess, "Popen", start)
    return processes


def images_of(*units: str) -> list[tuple[str, bytes]]:
    images: list[tuple[str, bytes]] = []
    build(units, AVX2, lambda *image: images.append(image))
    return sorted(images)


@pytest.mark.slow
def test_two_builds_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")  # what the user's environment says is not asked
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    first = images_of("driver", "copy")
    assert [unit for unit, _ in first] == ["copy", "driver"]
    monkeypatch.undo()
    assert images_of("copy", "driver") == first


def test_every_unit_is_listed() -> None:
    units = list_units(AVX2)
    assert units == every_unit()
    assert {"driver", "norms:bf16", "linear:q4_0", "linear:q6_k"} <= set(units)
    assert not {"registers", "words", "linear"} & set(units)


@pytest.mark.parametrize(
    ("unit", "reason"),
    [
        ("missing", "ModuleNotFoundError: No module named 'burnish.backends.kernels.simd.missing'"),
        ("linear:missing", "KeyError"),
    ],
)
def test_a_build_that_fails_says_why_and_what_to_do(unit: str, reason: str, started: list) -> None:
    with pytest.raises(CodeError) as error:
        images_of(unit)
    assert str(error.value).startswith(f"{unit} cannot be built for avx2; BURNISH_CPU=none runs on NumPy alone. The ")
    assert reason in str(error.value)
    assert all(p.returncode is not None for p in started)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("/bin/false", r"it ended with exit code 1"),
        ("/nowhere/python", r"the compiler of kernels does not start: .*No such file"),
        ("", r"the compiler of kernels does not start"),
    ],
)
def test_a_compiler_that_ends_or_does_not_start(program: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(CodeError, match=reason):
        images_of("driver")


@pytest.mark.slow
def test_an_interrupt_leaves_no_process(started: list, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(unit: str, image: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(builders, "cores", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        build(["driver", "quantize", "copy"], AVX2, interrupt)
    assert len(started) == 2
    assert all(p.returncode is not None for p in started)


def test_a_compiler_ends_with_whoever_asks() -> None:
    command = [sys.executable, "-m", "burnish.backends.native.build", "avx2"]
    alone = subprocess.Popen(command, stdin=subprocess.PIPE)
    alone.stdin.close()
    assert alone.wait(60) == 0


def test_a_plugins_format_is_known_to_the_compiler(registries: None) -> None:
    told = meaning("linear:q4_1")
    assert meaning("linear") is None and meaning("linear:missing") is None
    define("mine", told)
    mine, q4_1 = FORMATS["mine"], FORMATS["q4_1"]
    assert (mine.group, mine.run, mine.parts) == (q4_1.group, q4_1.run, q4_1.parts)
    define("mine", {})
    assert FORMATS["mine"] is mine


def object_of(text: str, model: str = "large") -> bytes:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(codemodel=model, reloc="static")
    module = llvm.parse_assembly('target triple = "x86_64-unknown-linux-gnu"\n' + text)
    return machine.emit_object(module)


def test_an_object_becomes_an_image() -> None:
    text = "define i64 @twice(i64 %x) { %y = add i64 %x, %x\n ret i64 %y }"
    assert b'"exports": {"twice": 0}' in link_object(object_of(text))
    assert link_object(object_of(text)) == link_object(object_of(text))


@pytest.mark.parametrize(
    ("text", "model", "reason"),
    [
        ("@n = global i64 1\ndefine i64 @f() { %v = load i64, ptr @n\n ret i64 %v }", "large", "data that code writes"),
        ("declare i64 @rand()\ndefine i64 @f() { %v = call i64 @rand()\n ret i64 %v }", "large", "'rand'"),
        ("declare i64 @memcpy()\ndefine i64 @f() { %v = call i64 @memcpy()\n ret i64 %v }", "small", "relocation 4"),
    ],
    ids=["data", "import", "code model"],
)
def test_what_has_no_place_in_an_image_is_refused(text: str, model: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        link_object(object_of(text, model))


def test_a_module_that_takes_an_argument_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    functions: Callable[..., object] = lambda isa, argument: {}  # noqa: E731
    from burnish.backends.kernels.simd import copy

    monkeypatch.setattr(copy, "functions", functions)
    with pytest.raises(TypeError, match=r"kernels/simd/copy\.py has no arguments\(\)"):
        compiler.every_unit()
