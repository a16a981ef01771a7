"""Targets: a third backend out of a plugin's one class, on which samples of the suite run."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

import burnish
from burnish.backends.interpreter import Interpreter
from burnish.backends.target import TARGETS, make_backend
from burnish.frontends.architectures.llama import Llama
from burnish.frontends.architectures.mistral import Mistral
from burnish.ir.discover import load_plugin
from burnish.testing import check_architecture
from tests import matrix, models
from tests.test_matrix import SAMPLE as CELLS
from tests.test_state import CONFIG, FEEDINGS, SAMPLE, check, loaded

ROOT = Path(__file__).parents[2]
PLUGIN = """
from burnish.backends.target import Target

class Unaided(Target):
    "The interpreter without kernels."
    name = "unaided"
    passes = (("canonicalize", "so that there is one"),)

    def backend(self, module, static):
        from burnish.backends.interpreter import Interpreter
        return Interpreter(module, static, kernels={})
"""


@pytest.fixture
def plugin(registries: None, tmp_path: Path) -> Path:
    file = tmp_path / "unaided.py"
    file.write_text(PLUGIN)
    return file


@pytest.fixture
def unaided(plugin: Path) -> str:
    load_plugin(plugin)
    return "unaided"


# ------------------------------------------------------------------------------------------------------ a third backend


@pytest.mark.parametrize("architecture", [Llama, Mistral], ids=lambda a: a.__name__)
def test_the_laws_of_architectures_hold_on_it(architecture: type, unaided: str) -> None:
    window = {"sliding_window": 4} if architecture is Mistral else {}
    check_architecture(architecture, CONFIG | window, unaided)


@pytest.mark.parametrize(("name", "pipeline", "how"), SAMPLE)
def test_steps_are_the_whole_on_it(name: str, pipeline: str, how: str, unaided: str, tmp_path: Path) -> None:
    module, ids, expected = loaded(name, tmp_path / "model")
    check(make_backend(unaided, burnish.optimize(module, f"{pipeline},{unaided}")), ids, expected, FEEDINGS[how])


@pytest.mark.slow
@pytest.mark.parametrize("row", sorted({row for row, _ in CELLS}, key=str), ids=str)
def test_cells_of_the_matrix_hold_on_it(row: matrix.Row, unaided: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matrix.BACKENDS, "unaided", unaided)
    for packaged in (False, True):
        assert matrix.error_of(row, "unaided", packaged) < matrix.PRECISIONS[row.precision][2]


def test_it_runs_without_kernels_and_says_so(unaided: str, tmp_path: Path) -> None:
    module = burnish.load(models.saved(models.llama(), tmp_path))
    module = burnish.optimize(module, "recover,quantize-weights{recipe=q4_0},fuse")
    model = burnish.executable(module, unaided, "int8")
    assert isinstance(model.stateful, Interpreter)
    assert "kernel" not in model.plan_text().replace("no kernel", "")
    assert "9 x linear: numpy, dequantized (no kernel runs linear)" in model.plan_text()
    assert len(model.fallbacks()) == 9 and model.fallbacks()[0].endswith("dequantized (no kernel runs linear)")


# ----------------------------------------------------------------------------------------------------------- the table


def test_there_is_one_of_each_name(registries: None, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN.replace('"unaided"', '"xla"'))
    with pytest.raises(TypeError, match=r"backend 'xla' is defined in .*target\.py and in .*plugin\.py"):
        load_plugin(tmp_path / "plugin.py")
    assert list(TARGETS) == ["numpy", "xla"]


def test_a_target_that_fails_leaves_nothing_behind(registries: None, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN + "1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_plugin(tmp_path / "plugin.py")
    assert list(TARGETS) == ["numpy", "xla"]


def test_to_know_the_targets_and_their_passes_imports_nothing_heavy() -> None:
    code = "import sys; from burnish.runtime.targets import read_pipeline as r; assert len(r('numpy,xla')) == 2;"
    code += "print([m for m in ('jax', 'numba') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_activations_are_the_targets_own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy, xla = TARGETS["numpy"], TARGETS["xla"]
    for asked in ("", "int8", "float"):  # XLA calls the same kernels on a CPU
        assert numpy.activation_passes(asked) == xla.activation_passes(asked)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert numpy.activation_passes("float") == xla.activation_passes("float") == xla.activation_passes("") == ()
    assert xla.activation_passes("int8") == ("quantize-activations",)
    assert numpy.activation_passes("int8")[0] == "quantize-activations"
    chosen = numpy.activation_passes("")  # none where no kernel suits this CPU
    assert all(p.startswith(("quantize-activations{format=", "set-layouts{layout=")) for p in chosen)
