"""Where machine code comes from: what is there is run; what is missing, damaged or foreign is built, once, and kept."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from burnish.backends.native import code
from burnish.backends.native.code import CodeError, addresses, build_all, cache_folder, file_name, prepare
from burnish.backends.native.cpu import INSTRUCTION_SETS, _flags, instruction_set
from burnish.backends.native.image import pack_image, read_image, write_image

ROOT = Path(__file__).resolve().parents[3]
AVX512, AVX2 = INSTRUCTION_SETS
FORTY_TWO = pack_image(bytes.fromhex("b8 2a 00 00 00 c3"), {"answer": 0}, {})  # mov eax, 42; ret
ELSEWHERE = 65534  # a user that is not this one
needs_code = pytest.mark.skipif(instruction_set() is None, reason="no machine code runs here")


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The units that were built. All are one small image, in a cache of the test's own."""
    units: list[str] = []

    def build(wanted: list[str], isa: object, done: Callable[[str, bytes], None]) -> None:
        for unit in wanted:
            units.append(unit)
            done(unit, FORTY_TWO)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(code, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(code, "build", build)
    monkeypatch.setattr(code, "_addresses", {})
    return units


def answer(unit: str = "norms") -> int:
    """What a new process gets of a unit."""
    code._addresses.clear()
    return ctypes.CFUNCTYPE(ctypes.c_int)(addresses(unit, AVX2)["answer"])()


def kept(unit: str = "norms") -> Path:
    (file,) = (cache_folder() / "avx2").glob(f"{unit}-*.bin")
    return file


def test_a_unit_is_built_once_and_kept(built: list[str]) -> None:
    assert [answer(), answer()] == [42, 42]
    assert built == ["norms"]
    assert read_image(kept()) == FORTY_TWO


def test_all_that_is_missing_is_built_together_with_progress(built: list[str]) -> None:
    calls: list[tuple[str, int, int]] = []
    prepare(["norms", "copy", "norms", "driver"], AVX2, lambda *call: calls.append(call))
    assert built == ["norms", "copy", "driver"]
    assert calls == [("building kernels", done, 3) for done in range(4)]
    prepare(["norms", "copy"], AVX2, lambda *call: calls.append(call))
    assert len(calls) == 4


def damage(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def widen(file: Path) -> None:
    file.chmod(0o666)


def give_away(file: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    os.chown(file, ELSEWHERE, -1)


@pytest.mark.parametrize("spoil", [damage, widen, give_away, Path.unlink], ids=lambda f: f.__name__)
def test_what_cannot_be_trusted_is_built_again(spoil: Callable[[Path], None], built: list[str]) -> None:
    answer()
    spoil(kept())
    assert [answer(), answer()] == [42, 42]
    assert built == ["norms", "norms"]
    assert read_image(kept()) == FORTY_TWO


def file_in_the_way(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("no folder")


def folder_in_the_way(folder: Path) -> None:
    (folder / "avx2" / file_name("norms", AVX2, code._compiler())).mkdir(parents=True)


def nobody_may_write(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.symlink_to("/proc/self")


@pytest.mark.parametrize("spoil", [file_in_the_way, folder_in_the_way, nobody_may_write], ids=lambda f: f.__name__)
def test_what_cannot_be_kept_runs_all_the_same(spoil: Callable[[Path], None], built: list[str]) -> None:
    spoil(cache_folder())
    assert answer() == 42
    assert addresses("norms", AVX2)
    assert built == ["norms"], "a process builds it once"


def test_a_folder_may_be_a_link(built: list[str], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    cache_folder().parent.mkdir(parents=True)
    cache_folder().symlink_to(tmp_path / "elsewhere")
    assert [answer(), answer()] == [42, 42]
    assert built == ["norms"]


def test_the_cache_is_where_the_user_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/burnish/kernels")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative, and so nothing")
    monkeypatch.setenv("HOME", "/home/of")
    assert cache_folder() == Path("/home/of/.cache/burnish/kernels")


def test_a_user_without_a_home_keeps_nothing(built: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(code.Path, "home", homeless)
    assert cache_folder() is None
    assert answer() == 42
    with pytest.raises(OSError, match="say where with -o"):
        build_all(AVX2)


def test_what_a_wheel_brings_is_run_without_numba(built: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "can_build", lambda: False)
    file = code.SHIPPED / "avx2" / file_name("norms", AVX2)
    write_image(file, FORTY_TWO)
    file.chmod(0o664)  # as it is unpacked where a user's group is the user's own
    assert answer() == 42
    with pytest.raises(CodeError) as error:
        answer("copy")
    assert str(error.value) == (
        "there is no machine code of copy for avx2, and Numba, which makes it, is not installed: "
        "pip install 'burnish[kernels]'; or BURNISH_CPU=none runs on NumPy alone"
    )
    with pytest.raises(CodeError, match="made by Numba, which is not installed"):
        build_all(AVX2)


def test_a_wheels_code_of_other_sources_is_not_run(built: list[str]) -> None:
    write_image(code.SHIPPED / "avx2" / "norms-0123456789abcdef0123.bin", pack_image(b"\xcc", {"answer": 0}, {}))
    assert answer() == 42
    assert built == ["norms"]


def test_memory_that_may_not_be_run_is_told(built: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(image: bytes, bound: int) -> None:
        raise OSError(13, "memory that was written may not be run")

    monkeypatch.setattr(code, "load_image", refuse)
    with pytest.raises(CodeError, match=r"cannot be run here: memory .* may not be run; BURNISH_CPU=none runs on"):
        answer()


def test_everything_is_built_where_it_is_wanted(
    built: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "list_units", lambda isa: ["driver", "linear:q4_0"])
    images = build_all(AVX512, tmp_path / "out")
    assert [(i.unit, i.cpu, i.file) for i in images] == [
        (unit, "avx512_vnni", tmp_path / "out" / "avx512_vnni" / file_name(unit, AVX512)) for unit in built
    ]
    assert all(read_image(i.file) == FORTY_TWO and i.file.stat().st_size == i.size for i in images)
    calls: list[tuple[str, int, int]] = []
    build_all(AVX2, progress=lambda *call: calls.append(call))
    assert calls == [("building kernels for avx2", done, 2) for done in range(3)]
    assert len(built) == 4, "also what is there"
    code._addresses.clear()
    prepare(built, AVX2)
    assert len(built) == 4, "it is where a run looks for it"


# What an image is named after


def test_a_name_says_what_the_code_is_made_of(registries: None) -> None:
    from burnish.ir.format import FORMATS, QuantFormat
    from burnish.ir.parts import Part

    names = {
        file_name(u, isa, c) for u in ("norms", "copy", "linear:q4_0") for isa in INSTRUCTION_SETS for c in ("", "1")
    }
    assert len(names) == 12

    class Mine(QuantFormat):
        group, parts = 32, (Part("scale", "f2"), Part("code", per="input", bits=4))

    before = file_name("linear:mine", AVX2)
    assert file_name("linear:mine", AVX2) == before

    class Mine(QuantFormat, replace=True):  # noqa: F811
        group, parts = 64, FORMATS["mine"].parts

    assert file_name("linear:mine", AVX2) != before


def test_a_change_of_a_source_is_a_change_of_what_is_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simd = tmp_path / "backends" / "kernels" / "simd"
    simd.mkdir(parents=True)
    package = "burnish.backends.kernels.simd"
    (simd / "one.py").write_text(f"from {package} import (\n    registers as r,\n    two,\n)\n")
    (simd / "two.py").write_text(f"from {package} import four as f\nfrom {package}.three import x\n")
    (simd / "three.py").write_text("x = 1\n")
    (simd / "four.py").write_text("x = 1\n")
    monkeypatch.setattr(code, "PACKAGE", tmp_path)

    def names() -> list[str]:
        code._sources.cache_clear()
        code._source.cache_clear()
        return [file_name(unit, AVX2) for unit in ("one", "two", "three", "four")]

    before = names()
    (simd / "three.py").write_text("x = 2\n")
    after = names()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, False, True]
    monkeypatch.undo()
    names()


# Whole processes

MODEL = """
import sys, numpy as np
from burnish.backends.interpreter import Interpreter
from burnish.backends.kernels import layouts_for
from burnish.ir import parse
from burnish.ir.format import Packed
from burnish.ir.weights import MemoryWeights

layout = layouts_for("linear").get("q4_0", "")
weights = f"q4_0.{layout}" if layout else "q4_0"
module = parse(f'''module {{
  weights {{
    @w: {weights}[48, 64]
  }}
  graph f(%x: f32[B, 64]) {{
    %0: int8_32[B, 64] = quantize(%x, format="int8_32") <- "a"
    %1: f32[B, 48] = linear(%0, @w) <- "b"
    return y=%1
  }}
}}''')
w = Packed.made_up("q4_0", (48, 64), np.random.default_rng(0)).relayout(np, layout)
module.source = MemoryWeights({"w": w})
x = np.random.default_rng(1).standard_normal((3, 64)).astype("f4")
model = Interpreter(module)
y = model("f", {"x": x})["y"]
print(model.plan_text("f"))
expected = x @ w.dequantize(np).T
print("right" if np.abs(y - expected).max() < 0.02 * np.abs(expected).max() else y - expected)
print("numba" in sys.modules and sys.modules["numba"] is not None, "llvmlite" in sys.modules)
"""
WITHOUT_NUMBA = "import sys; sys.modules['numba'] = None\n"


def run(program: str, **environment: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@needs_code
def test_a_quantized_model_runs_without_a_compiler_once_its_code_is_there() -> None:
    prepare(["driver", "quantize", "linear:q4_0"], instruction_set())
    assert run(MODEL)[-2:] == ["right", "False False"]


def test_without_numba_numpy_runs_and_the_plan_says_so(tmp_path: Path) -> None:
    lines = run(WITHOUT_NUMBA + MODEL, XDG_CACHE_HOME=str(tmp_path), BURNISH_CPU="")
    assert lines[-2:] == ["right", "False False"]
    why = "Numba, which makes machine code, is not installed: pip install 'burnish[kernels]'"
    if INSTRUCTION_SETS[-1].flags <= _flags():
        assert f"1 x quantize: numpy (quantize.int8_32: {why})" in lines


def test_numpy_runs_where_the_environment_says_so() -> None:
    lines = run(MODEL, BURNISH_CPU="none")
    assert "1 x quantize: numpy (quantize.int8_32: BURNISH_CPU is none)" in lines
    assert lines[-2:] == ["right", "False False"]


def test_on_a_hardened_system_numpy_runs() -> None:
    asked = "65, 1, 0, 0, 0"  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, which Linux has from 6.3 on
    harden = f"import ctypes; print('hardened:', ctypes.CDLL(None).prctl({asked}) == 0)\n"
    first, *lines = run(harden + MODEL, BURNISH_CPU="")
    if first != "hardened: True":
        pytest.skip("this system cannot refuse memory that was written")
    assert lines[-2:] == ["right", "False False"]
    if INSTRUCTION_SETS[-1].flags <= _flags():
        why = "this system does not let memory be run that was written"
        assert f"1 x quantize: numpy (quantize.int8_32: {why})" in lines


def test_two_processes_write_and_everybody_reads_whole_images(tmp_path: Path) -> None:
    write_image(tmp_path / "norms.bin", FORTY_TWO)
    program = f"""
from pathlib import Path
from burnish.backends.native.image import write_image
for i in range(300):
    write_image(Path({str(tmp_path)!r}) / "norms.bin", {FORTY_TWO!r})
"""
    writers = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) for _ in range(2)]
    while any([w.poll() is None for w in writers]):
        assert read_image(tmp_path / "norms.bin") == FORTY_TWO
    assert [w.returncode for w in writers] == [0, 0]
    assert [f.name for f in tmp_path.iterdir()] == ["norms.bin"]
