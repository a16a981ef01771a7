"""The house around the code: what is packaged, the one import path, what an import costs."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import house

ROOT = Path(__file__).resolve().parent.parent
LINKS = ("backends", "frontends", "ir", "passes")
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
HEAVY = {"jax", "networkx", "numba", "onnx", "rich", "sympy", "torch", "transformers"}
WORKPLACE = re.compile(r"(?<![\w.~-])/" + r"work/|(?<!\w)\.lib" + r"rary\b")  # split, so as not to match itself


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def source_packages() -> set[str]:
    """The dotted name of every folder that holds a module, the four linked folders under their one import path."""
    folders = [file.parent.relative_to(ROOT) for top in ("burnish", *LINKS) for file in (ROOT / top).rglob("*.py")]
    names = [".".join(folder.parts) for folder in folders]
    return {name if name.split(".")[0] == "burnish" else f"burnish.{name}" for name in names}


def test_every_source_folder_is_packaged() -> None:
    assert set(SETUPTOOLS["packages"]) == source_packages()
    assert SETUPTOOLS["package-dir"] == {f"burnish.{name}": name for name in LINKS}


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_a_package_has_an_init(package: str) -> None:
    assert (ROOT / package.replace(".", "/") / "__init__.py").is_file()


@pytest.mark.parametrize("name", LINKS)
def test_a_folder_has_one_import_path(name: str) -> None:
    link = ROOT / "burnish" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", name)
    assert python(f"import burnish.{name}").returncode == 0
    assert "AssertionError" in python(f"import {name}").stderr


def test_importing_burnish_loads_no_heavy_library() -> None:
    loaded = python("import burnish, sys; print(*sys.modules)")
    assert loaded.returncode == 0, loaded.stderr
    assert "burnish" in loaded.stdout.split()
    assert not HEAVY & set(loaded.stdout.split())


def test_no_file_names_the_workplace() -> None:
    listing = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    assert files
    assert [str(file) for file in files if WORKPLACE.search(file.read_text(errors="replace"))] == []


def test_operands_have_names() -> None:
    reads = {path: found for path, tree in house.sources() if (found := house.read_by_position(tree))}
    assert [path for path in reads if not path.startswith(house.BY_POSITION)] == []


def test_a_read_by_position_is_found() -> None:
    found = ["x, y = node.inputs", "node.inputs[0]", "(*operands, None)[:3]", "next(iter(node.operands))"]
    tree = ast.parse("\n".join([*found, "node['x']", "for v in node.inputs: pass"]))
    assert house.read_by_position(tree) == [1, 2, 3, 4]


def test_the_calling_convention_is_spelled_in_one_file() -> None:
    assert [path for path, tree in house.sources() if house.spelled(tree)] == ["ir/signature.py"]


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert house.circles() == []
