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
#: what may be loaded: what is required, what is optional, and what tests have
LIBRARIES = set(
    """
    click jax llvmlite ml_dtypes networkx numba numpy onnx rich safetensors scipy sympy tokenizers torch transformers
    """.split()
)
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


def loaded_by(code: str) -> set[str]:
    """Which libraries are loaded after `code`, in which `burnish(…)` runs a command line."""
    command = f"""
import sys
def burnish(*arguments):
    from burnish.cli import main
    try:
        main(arguments)
    except SystemExit as e:
        assert e.code == 0, e.code
{code}
print("loaded:", *sys.modules)
"""
    ran = python(command)
    assert ran.returncode == 0, ran.stderr
    return LIBRARIES & set(ran.stdout.rpartition("loaded:")[2].split())


def test_importing_burnish_loads_nothing() -> None:
    assert loaded_by("import burnish") == set()
    assert loaded_by("import burnish; burnish.Module; import burnish.ir") == {"numpy", "ml_dtypes"}


@pytest.mark.parametrize(
    ("line", "needs"),
    [
        (["--help"], set()),
        (["compile", "--help"], set()),
        (["inspect", "examples/tiny-lm"], {"scipy", "tokenizers"}),
        (["opt", "examples/tiny-lm"], set()),
        pytest.param(["opt", "--list"], set(), marks=pytest.mark.slow),
        pytest.param(
            ["compile", "examples/tiny-lm", "-o", "OUT"], {"scipy", "tokenizers"}, marks=pytest.mark.slow
        ),
        (["compile", "examples/tiny-lm", "-o", "OUT", "--quantize", "q4_0"], {"scipy", "tokenizers"}),
        (["run", "examples/tiny-lm", "-p", "The"], {"scipy", "tokenizers"}),
        pytest.param(
            ["run", "examples/tiny-lm", "-p", "The", "--backend", "xla"],
            {"jax", "networkx", "scipy", "tokenizers"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_a_command_loads_what_it_uses_and_no_more(line: list[str], needs: set[str], tmp_path: Path) -> None:
    arguments = [str(tmp_path / "package") if a == "OUT" else a for a in line]
    loaded = loaded_by(f"burnish(*{arguments})")
    assert loaded - {"click", "ml_dtypes", "numpy"} <= needs
    assert ("jax" in loaded) == ("xla" in line)
    assert ("numpy" in loaded) == ("--help" not in line)


def completed(words: str, loaded: str = "") -> list[str]:
    """What bash offers behind `words`; the last one is begun, where there is no space. Of libraries, `loaded` is."""
    code = f"""
import os, sys
os.environ |= {{"_BURNISH_COMPLETE": "bash_complete", "COMP_WORDS": {words!r}, "COMP_CWORD": "{words.count(" ")}"}}
from burnish.cli import main
try:
    main()
except SystemExit:
    pass
sys.stdout.flush()
print("loaded:", *{{"numpy", "jax", "numba"}} & set(sys.modules), file=sys.stderr)
"""
    ran = python(code)
    assert ran.stderr.split() == ["loaded:", *loaded.split()]
    return [line.partition(",")[2] for line in ran.stdout.splitlines()]


def test_a_shell_completes_commands_and_options_without_loading_a_library() -> None:
    assert completed("burnish ru") == ["run"]
    assert completed("burnish debug ") == ["bisect", "check"]
    assert {"--temperature", "--top-k"} <= set(completed("burnish run --t"))
    assert completed("burnish run --activations i") == ["int8"]


def test_a_shell_completes_formats_passes_and_tasks() -> None:
    """The last of a list or a recipe: what stands before it stays."""
    assert completed("burnish compile model --quantize q5", "numpy") == ["q5_0", "q5_1"]
    assert completed("burnish compile model --quantize lm=q8_0;q4_", "numpy") == ["lm=q8_0;q4_0", "lm=q8_0;q4_1"]
    assert completed("burnish debug check model --pipeline recover,fuse-q", "numpy") == ["recover,fuse-qkv"]
    assert completed("burnish run --task text-", "numpy") == ["text-classification", "text-generation"]


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


# -------------------------------------------------------------------------------------------------------- architectures


def test_a_family_says_what_is_its_own() -> None:
    sizes = sorted(map(len, house.architectures().values()))
    assert sum(sizes) < 2400 and sizes[len(sizes) // 2] < 40
    assert house.repeated(house.architectures()) == []


def test_a_run_of_lines_that_stands_twice_is_found() -> None:
    lines = ["import a", *"one two three four five six seven".split()]
    assert house.repeated({"a.py": lines, "b.py": lines[:6]}) == []
    assert house.repeated({"a.py": lines, "b.py": ["", *lines[2:5], "", *lines[5:]]}) == ["b.py:2 as a.py:3"]
