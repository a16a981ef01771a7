"""Counts over the syntax trees of the library: `python -m tests.house` prints them, tests/test_house.py holds some.

- operands read by position: an index, a slice or an unpacking of `inputs` or `operands`
- files that spell the calling convention: a literal that is the name of a role
- circles of modules: by imports at run time, those within functions too
- lines by folder; those of architectures, and runs of them that stand twice
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import networkx

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("ir", "passes", "frontends", "backends", "burnish", "examples")
_IMPORT = re.compile(r"(from|import) ")
OPERANDS = ("inputs", "operands")
#: where operands have no names yet, or are given them
BY_POSITION = ("ir/ops/", "ir/parser.py")


@cache
def sources() -> list[tuple[str, ast.Module]]:
    """Every file of the library, by its path from the root, and its syntax tree."""
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    real = [file for file in files if not any(parent.is_symlink() for parent in file.parents)]
    return [(str(file.relative_to(ROOT)), ast.parse(file.read_text("utf-8"))) for file in real]


def read_by_position(tree: ast.Module) -> list[int]:
    """The lines on which an operand is read by its position."""
    return sorted({n.lineno for n in ast.walk(tree) if isinstance(n, ast.expr | ast.stmt) and _is_positional(n)})


def _is_positional(node: ast.AST) -> bool:
    match node:
        case ast.Subscript(value=value, slice=ast.Slice() | ast.Constant(value=int()) | ast.UnaryOp()):
            return _are_operands(value)
        case ast.Assign(targets=[ast.Tuple() | ast.List()], value=value):
            return _are_operands(value)
        case ast.Call(func=ast.Name(id="next"), args=[ast.Call(func=ast.Name(id="iter"), args=[value]), *_]):
            return _are_operands(value)
    return False


def _are_operands(node: ast.AST) -> bool:
    """`operands`, `node.inputs`, `(*operands, None)`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in OPERANDS
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return any(isinstance(e, ast.Starred) and _are_operands(e.value) for e in elements)
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[value]):
            return _are_operands(value)
    return False


def spelled(tree: ast.Module) -> set[str]:
    """The names of roles that a file spells as a literal; those that ops or their operands have too do not count."""
    from burnish.ir import OPS, signature

    names = {str(r) for r in vars(signature).values() if isinstance(r, signature.Plain)}
    names |= {c.__name__.lower() for c in (signature.Rows, signature.Ring, signature.Carry, signature.Linked)}
    names -= {*OPS, *(o.name for op in OPS.values() for o in op.operands())}
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in names}


def circles() -> list[list[str]]:
    """Modules that import each other, each circle as a list."""
    graph = networkx.DiGraph()
    for path, tree in sources():
        name = _module(path)
        graph.add_node(name)
        typing = {id(n) for t in ast.walk(tree) if _is_type_checking(t) for n in ast.walk(t)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and id(node) not in typing and str(node.module).startswith("burnish"):
                for alias in node.names:
                    graph.add_edge(name, _known(f"{node.module}.{alias.name}", str(node.module)))
    return [sorted(c) for c in networkx.strongly_connected_components(graph) if len(c) > 1]


def _module(path: str) -> str:
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return name if name.startswith("burnish") else f"burnish.{name}"


def _known(name: str, package: str) -> str:
    """A module of that name, or the package that has the name in it."""
    path = ROOT / "burnish" / Path(*name.split(".")[1:])
    return name if path.with_suffix(".py").exists() or path.is_dir() else package


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def lines() -> dict[str, int]:
    """Lines by folder."""
    found: dict[str, int] = {}
    for folder in (*FOLDERS, "tests", "benchmarks", "docs"):
        files = [f for f in (ROOT / folder).rglob("*") if f.suffix in (".py", ".md") and f.is_file()]
        own = [f for f in files if not any(p.is_symlink() for p in f.parents)]
        found[folder] = sum(f.read_text("utf-8").count("\n") for f in own)
    return found


def architectures() -> dict[str, list[str]]:
    """The lines of each family's file."""
    folder = ROOT / "frontends/architectures"
    return {f.name: f.read_text("utf-8").splitlines() for f in sorted(folder.glob("*.py")) if f.name != "__init__.py"}


def repeated(files: Mapping[str, Sequence[str]], run: int = 6) -> list[str]:
    """Where as many lines as `run` stand that stand elsewhere too; empty ones and imports do not count."""
    seen: dict[tuple[str, ...], str] = {}
    found = []
    for name, lines in files.items():
        said = [(i, text) for i, line in enumerate(lines, 1) if (text := line.strip()) and not _IMPORT.match(text)]
        for at in range(len(said) - run + 1):
            text, place = tuple(t for _, t in said[at : at + run]), f"{name}:{said[at][0]}"
            if seen.setdefault(text, place) != place:
                found.append(f"{place} as {seen[text]}")
    return found


def main() -> None:
    """Print the counts."""
    positional = {path: read_by_position(tree) for path, tree in sources()}
    elsewhere = {p: at for p, at in positional.items() if at and not p.startswith(BY_POSITION)}
    print(f"operands read by position: {sum(map(len, positional.values()))}")
    print(f"  outside of ops and parser: {sum(map(len, elsewhere.values()))}")
    for path, at in elsewhere.items():
        print(f"    {path}: {', '.join(map(str, at))}")
    spelling = {path: names for path, tree in sources() if (names := spelled(tree))}
    print(f"files that spell the calling convention: {len(spelling)}")
    for path, names in spelling.items():
        print(f"    {path}: {', '.join(sorted(names))}")
    print(f"circles of modules: {len(found := circles())}")
    for circle in found:
        print(f"    {', '.join(circle)}")
    families = architectures()
    sizes = sorted(map(len, families.values()))
    print(f"architectures: {len(sizes)} files, {sum(sizes):,} lines, half of them up to {sizes[len(sizes) // 2]}")
    for place in repeated(families):
        print(f"    twice: {place}")
    print(f"lines: {', '.join(f'{k} {n:,}' for k, n in lines().items())}")


if __name__ == "__main__":
    main()
