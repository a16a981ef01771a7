"""Plugins: a file adds one of every kind; a name is defined once; a file that fails leaves nothing behind."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import burnish
from burnish.backends import xla_kernels
from burnish.frontends.config import LoadError
from burnish.ir import OPS
from burnish.ir.discover import load_plugin
from burnish.ir.registry import PLUGIN, Registry
from burnish.passes.engine import RULES
from burnish.runtime import sources

assert xla_kernels and sources  # imported, so that all that is ours is registered before a plugin

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "plugin.py"
CLASSES = [node for node in ast.parse(EXAMPLE.read_text()).body if isinstance(node, ast.ClassDef)]

#: of each kind: what a file imports, the class that it defines, a name of the plugin's for that, and one of ours
KINDS = {
    "layout": ("burnish.ir.format import Layout", "Again(Layout): name = {!r}", "signs", "tiles16"),
    "container": ("burnish.frontends.stored import Container", "Again(Container): name = {!r}", "trits", "gptq"),
    "head": ("burnish.frontends.heads import Head", "Again(Head): names = ({!r},)", "ForFlagging", "ForCausalLM"),
    "architecture": (
        "burnish.frontends.architecture import Architecture",
        "Again(Architecture): names = ({!r},)",
        "Echo",
        "Llama",
    ),
    "source": ("burnish.frontends.source import Source", "Again(Source): name = {!r}", "npz", "package"),
    "backend": ("burnish.backends.target import Target", "Again(Target): name = {!r}", "in-signs", "xla"),
    "op": ("burnish.ir.op import Op", "{}(Op): pass", "ScaleApart", "Relu"),
    "rule": ("burnish.passes.engine import Rule", "{}(Rule): 'x -> x'", "ScaleBack", "MulAddToFma"),
    "pass": ("burnish.passes.engine import Pass", "{}(Pass): 'Nothing.'", "DropScales", "FuseFma"),
    "format": ("burnish.ir.formats.q4_0 import Q4_0 as Format", "{}(Format): pass", "Ternary", "Q4_0"),
    "kernel": ("burnish.backends.kernels import Kernel", "Again(Kernel): name = {!r}", "linear.signs", "linear.int8"),
    "XLA kernel": (
        "burnish.backends.xla_kernels import XlaKernel",
        "Again(XlaKernel): name = {!r}",
        "linear.signs",
        "linear.rows",
    ),
}


def again(kind: str, ours: bool = False) -> str:
    """A file that defines a name of the plugin's, or of ours, once more."""
    imports, definition, *names = KINDS[kind]
    return f"from {imports}\nclass {definition.format(names[ours])}\n"


def known() -> object:
    """All that is registered, and the plugins that are loaded."""
    return Registry.snapshot().tables, [m for m in sys.modules if m.startswith(PLUGIN)]


@pytest.fixture
def file(registries: None, tmp_path: Path) -> Path:
    """The example, copied out of the repository; what it registers is gone after the test."""
    return Path(shutil.copy(EXAMPLE, tmp_path / "outside.py"))


@pytest.fixture
def plugin(file: Path) -> ModuleType:
    return load_plugin(file)


def test_it_adds_one_of_every_kind(file: Path) -> None:
    before = {id(r): len(r) for r in Registry._every}
    load_plugin(file)
    assert {r.kind for r in Registry._every if len(r) > before.get(id(r), 0)} == set(KINDS)
    others = {"translation of the ONNX operator", "GGUF architecture"}  # neither is a class of its own
    assert {r.kind for r in Registry._every if r} - others == set(KINDS)


def test_a_plugin_is_known_by_its_content(file: Path, plugin: ModuleType, tmp_path: Path) -> None:
    assert load_plugin(Path(shutil.copy(file, tmp_path / "another.py"))) is plugin


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_of_each_kind_is_defined_once(kind: str, plugin: ModuleType, tmp_path: Path) -> None:
    file, before = tmp_path / "again.py", known()
    file.write_text(again(kind))
    with pytest.raises(TypeError, match=rf"^{kind} '[\w.-]+' is defined in .*/outside\.py and in .*/again\.py; say "):
        load_plugin(file)
    assert known() == before


def test_our_names_are_taken_in_a_process_that_has_used_nothing_yet(tmp_path: Path) -> None:
    """What is ours is imported only as it is used; and before a plugin."""
    for i, kind in enumerate(KINDS):
        (tmp_path / f"{i:02}.py").write_text(again(kind, ours=True))
    program = f"""
import pathlib
from burnish.runtime.sources import load_plugins
for file in sorted(pathlib.Path({str(tmp_path)!r}).glob("*.py")):
    try:
        load_plugins([file])
    except ValueError as e:
        print(e)
    else:
        print("loaded")
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    refusals = ran.stdout.splitlines()
    for i, (kind, refusal) in enumerate(zip(KINDS, refusals, strict=True)):
        begin, _, rest = refusal.partition(f"plugin {tmp_path}/{i:02}.py: TypeError: {kind} '")
        assert begin == "" and f".py and in {tmp_path}/{i:02}.py; say replace=True" in rest, refusal


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


@pytest.mark.parametrize("last", CLASSES, ids=lambda c: c.name)
def test_nothing_stays_of_a_file_that_fails_behind_any_class_and_it_loads_once_mended(
    last: ast.ClassDef, file: Path
) -> None:
    text, before, count = file.read_text(), known(), sum(map(len, Registry._every))
    lines = text.splitlines()
    failing = "from burnish.ir.registry import Registry\nraise RuntimeError(sum(map(len, Registry._every)))"
    file.write_text("\n".join([*lines[: last.end_lineno], failing, *lines[last.end_lineno :]]))
    with pytest.raises(RuntimeError) as e:
        load_plugin(file)
    assert str(e.value) == str(count + 1 + CLASSES.index(last)), "what it defined was there"
    assert known() == before
    file.write_text(text)
    load_plugin(file)
    assert sum(map(len, Registry._every)) == count + len(CLASSES)


def test_nothing_stays_of_a_class_of_which_one_of_two_names_is_taken(file: Path) -> None:
    file.write_text(file.read_text().replace('names = ("Echo",)', 'names = ("Echo", "Llama")'))
    before = known()
    with pytest.raises(TypeError, match=r"architecture 'Llama' is defined in .*llama\.py and in .*outside\.py"):
        load_plugin(file)
    assert known() == before


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
