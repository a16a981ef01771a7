"""One file outside of the repository adds an op, a rule, a packed format and an architecture; nothing else changes."""

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import burnish
from burnish.cli import main
from burnish.frontends.architecture import parameters
from burnish.frontends.config import Config, LoadError
from burnish.ir import FORMATS, OPS, parse
from burnish.ir.discover import load_plugin
from burnish.ir.format import Packed
from burnish.ir.registry import Registry
from burnish.ir.weights import MemoryWeights
from burnish.passes.engine import PASSES, RULES
from burnish.passes.pipelines import quantized
from burnish.testing import Example, check_architecture, check_format, check_op, check_rule
from tests import models

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin.py"
CONFIG = {
    "architectures": ["EchoForCausalLM"],
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 48,
}


@pytest.fixture
def file(registries: None, tmp_path: Path) -> Path:
    """The example, copied out of the repository; what it registers is gone after the test."""
    return Path(shutil.copy(EXAMPLE, tmp_path / "outside.py"))


@pytest.fixture
def plugin(file: Path) -> ModuleType:
    return load_plugin(file)


@pytest.fixture
def echo(plugin: ModuleType, tmp_path: Path) -> Path:
    """A checkpoint of the plugin's architecture."""
    folder, rng = tmp_path / "echo", np.random.default_rng(0)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shapes = {k: t.sizes for k, t in parameters(plugin.Echo, Config(CONFIG)).items()}
    made = {k: rng.standard_normal(s).astype("f4") / s[-1] ** 0.5 for k, s in shapes.items()}
    save_file(made, folder / "model.safetensors")
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(a) for a in arguments])
        assert isinstance(end.value.code, int)
        return end.value.code, *capsys.readouterr()

    return run


# ------------------------------------------------------------------------------------------------------------ the laws


def test_the_op_obeys_the_laws_of_ops(plugin: ModuleType) -> None:
    def oracle(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = np.max(np.abs(x), 1, keepdims=True) + 1e-6
        return x / s, s

    x = np.random.default_rng(0).standard_normal((3, 5)).astype("f4")
    check_op(plugin.ScaleApart, Example(plugin.ScaleApart(axis=1), (x,), oracle))


def test_the_rule_obeys_the_laws_of_rules(plugin: ModuleType) -> None:
    check_rule(plugin.ScaleBack)


def test_the_format_obeys_the_laws_of_formats(plugin: ModuleType) -> None:
    check_format(FORMATS["ternary"])
    x = np.array([[0.5, -0.4, 0.1, 0.0] * 4], np.float32)
    packed = Packed.quantize(np, x, "ternary")
    assert [p.name for p in FORMATS["ternary"].parts] == ["scale", "code"]
    assert packed.dequantize(np).tolist() == [[0.5, -0.5, 0.0, 0.0] * 4]
    planes = packed.relayout(np, "planes").planes
    shapes = {k: (p.dtype.name, p.shape) for k, p in planes.items()}
    assert shapes == {"scale": ("float16", (1, 1)), "code": ("uint8", (1, 4))}


@pytest.mark.parametrize("backend", ["numpy", pytest.param("xla", marks=pytest.mark.slow)])
def test_the_architecture_obeys_the_laws_of_architectures(plugin: ModuleType, backend: str) -> None:
    check_architecture(plugin.Echo, CONFIG, backend)


def test_a_law_that_is_broken_is_found(plugin: ModuleType) -> None:
    class ScaleApartWrongly(plugin.ScaleApart):  # type: ignore[misc,name-defined]
        """x / s, and a scale that is not s."""

        def eval(self, xp: Any, x: Any) -> Any:
            y, s = super().eval(xp, x)
            return y, s * 1.01

    def oracle(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = np.max(np.abs(x), 1, keepdims=True) + 1e-6
        return x / s, s

    with pytest.raises(AssertionError, match="NumPy against the oracle"):
        check_op(ScaleApartWrongly, Example(ScaleApartWrongly(axis=1), (np.ones((2, 3), "f4"),), oracle))


# ---------------------------------------------------------------------------------------------------- the command line


@pytest.mark.slow
def test_a_model_of_the_plugin_goes_through_every_command(
    file: Path, echo: Path, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    more, prompt = ("--plugin", file), ("--prompt-ids", "1,2,3", "--max-new-tokens", 4)
    code, text, _ = cli("opt", echo, "--pipeline", "", *more)
    assert code == 0
    assert ", %0." in text and "= scale_apart(" in text  # two results
    assert str(parse(text)) == text
    code, _, remarks = cli("opt", echo, "--pipeline", "drop-scales", "--remarks", *more)
    assert (code, remarks.count("drop-scales/ScaleBack")) == (0, 2)
    assert "another user" in remarks or "other user" in remarks  # the scaled rows are what attention reads
    assert cli("debug", "check", echo, "--pipeline", "default,drop-scales", *more)[0] == 0

    (numpy, xla) = (cli("run", echo, *prompt, *more, "--backend", b) for b in ("numpy", "xla"))
    assert numpy == xla
    assert (numpy[0], len(numpy[1].split())) == (0, 4)

    package = tmp_path / "package"
    code, out, err = cli("compile", echo, "-o", package, "--quantize", "ternary", *more)
    assert (code, err) == (0, "note: 1 weight stays as it is: the recipe has no rule for it\n")  # the table of tokens
    assert "block_00 to block_01: ternary 384 bytes each" in out  # 32 x 32 weights of 3 bits, scales included
    (numpy, xla) = (cli("run", package, *prompt, *more, "--backend", b) for b in ("numpy", "xla"))
    assert numpy == xla
    assert (numpy[0], len(numpy[1].split())) == (0, 4)
    assert cli("inspect", package, *more)[0] == 0


def test_packed_and_dequantized_weights_mean_the_same(echo: Path) -> None:
    module = burnish.load(echo)
    packed = burnish.optimize(module, quantized("ternary"))
    dequantized = burnish.optimize(module, "default")
    source = dequantized.source = MemoryWeights({name: module.source.read(name) for name in module.weights})
    for name, w in source.arrays.items():
        if "out" in name or "head" in name:
            w[:] = Packed.quantize(np, w, "ternary").dequantize(np)
    ids = np.array([[1, 2, 3, 4]])
    pairs = itertools.product((packed, dequantized), ("numpy", "xla"))
    results = [burnish.executable(m, backend, "float").forward(ids)["logits"] for m, backend in pairs]
    for other in results[1:]:
        assert np.abs(other - results[0]).max() < models.WITHIN * np.abs(results[0]).max()
    plain = burnish.executable(module).forward(ids)["logits"]
    assert np.abs(results[0] - plain).max() > 1e-2 * np.abs(plain).max()  # three values are few


def test_a_package_of_a_plugin_asks_for_it(file: Path, echo: Path, tmp_path: Path) -> None:
    """In another process, which never saw the plugin: the message names the op or the format."""

    def run(*arguments: object) -> tuple[int, str]:
        program = "import sys; from burnish.cli import main; main(sys.argv[1:])"
        line = [sys.executable, "-c", program, *map(str, arguments)]
        ran = subprocess.run(line, cwd=EXAMPLE.parents[1], capture_output=True, text=True, check=False)
        return ran.returncode, ran.stderr

    burnish.compile(burnish.load(echo), tmp_path / "op")
    code, err = run("run", tmp_path / "op", "--prompt-ids", "1")
    assert (code, err.count("\n")) == (3, 1)
    assert "op 'scale_apart' is not known; give the --plugin that defines it" in err
    assert run("run", tmp_path / "op", "--prompt-ids", "1", "--plugin", file)[0] == 0

    llama = burnish.load(models.saved(models.llama(), tmp_path / "llama"))
    burnish.compile(burnish.optimize(llama, quantized("ternary")), tmp_path / "format")
    code, err = run("inspect", tmp_path / "format")
    assert code == 3
    assert err.count("\n") == 1
    assert "model.graph: line 10: unknown element type 'ternary', built in or of a plugin" in err
    assert run("inspect", tmp_path / "format", "--plugin", file)[0] == 0

    code, err = run("inspect", echo)
    assert code == 3
    assert "architecture 'EchoForCausalLM' is not supported" in err and "--plugin" in err


# ------------------------------------------------------------------------------------------------ files and contents


def test_a_plugin_is_known_by_its_content(file: Path, plugin: ModuleType, tmp_path: Path) -> None:
    assert load_plugin(Path(shutil.copy(file, tmp_path / "another.py"))) is plugin


def test_two_plugins_cannot_define_the_same(file: Path, plugin: ModuleType, tmp_path: Path) -> None:
    other = tmp_path / "another.py"
    other.write_text(file.read_text() + "# changed\n")
    with pytest.raises(LoadError, match=r"another\.py: TypeError: op 'scale_apart' .*outside\.py and in .*another\.py"):
        burnish.load(tmp_path, plugins=[other])
    assert OPS["scale_apart"] is plugin.ScaleApart
    assert RULES["ScaleBack"] is plugin.ScaleBack


def test_plugins_of_the_same_file_name_are_two(registries: None, tmp_path: Path) -> None:
    for folder, name in (("a", "First"), ("b", "Second")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "plugin.py").write_text(f"from burnish.ir.op import Op\nclass {name}(Op): pass\n")
        load_plugin(tmp_path / folder / "plugin.py")
    assert {"first", "second"} <= OPS.keys()


def test_nothing_stays_of_a_plugin_that_fails_half_way_and_it_loads_once_mended(file: Path) -> None:
    text = file.read_text()
    file.write_text(text.replace('names = ("Echo",)', "names = 1 / 0"))
    before = Registry.snapshot().tables
    with pytest.raises(ZeroDivisionError):
        load_plugin(file)
    assert Registry.snapshot().tables == before
    file.write_text(text)
    load_plugin(file)
    assert "drop-scales" in PASSES


def test_what_a_failing_plugin_imports_stays_as_it_stays_imported(
    registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "beside_the_plugin.py").write_text("from burnish.ir.op import Op\nclass Beside(Op): pass\n")
    file = tmp_path / "plugin.py"
    file.write_text("import beside_the_plugin\n1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_plugin(file)
    assert OPS["beside"] is sys.modules.pop("beside_the_plugin").Beside
