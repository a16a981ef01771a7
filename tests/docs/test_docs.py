"""What the documents show, runs; what is generated, is current."""

import re
import runpy
from pathlib import Path

import pytest

from burnish.ir import OPS, parse
from burnish.passes.engine import PASSES

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/tutorial.md", "docs/writing-a-pass.md", "docs/adding-an-architecture.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_python_on_the_page_runs(page, registries, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)
    assert blocks
    names: dict = {"__name__": page}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_screens_are_what_the_commands_print() -> None:
    """`tests/cli` compares the golden ones with the commands."""
    page = (ROOT / "docs/commands.md").read_text()
    screens = re.findall(r"^<!-- screen (\w+) -->\n```\n(.*?)^```", page, re.S | re.M)
    assert [name for name, _ in screens] == ["inspect_80", "opt"]
    for name, text in screens:
        assert text == (ROOT / f"tests/golden/screens/{name}.txt").read_text(), f"{name}: paste the golden screen anew"
    (piece,) = re.findall(r"^```\n([0-9a-f]{12} .*?)^```", (ROOT / "docs/tutorial.md").read_text(), re.S | re.M)
    assert piece in dict(screens)["opt"]


def test_the_example_of_the_text_form_is_one() -> None:
    example = re.search(r"^```\n(module \{.*?)^```", (ROOT / "docs/ir.md").read_text(), re.S | re.M)
    assert example is not None
    assert str(parse(example[1])) == example[1]


def test_the_grammar_is_the_parsers(monkeypatch) -> None:
    import burnish.ir.text

    grammar = re.search(r"^```\n(module  = .*?)^```", (ROOT / "docs/ir.md").read_text(), re.S | re.M)
    assert grammar is not None
    lines = [line.strip() for line in (burnish.ir.text.__doc__ or "").splitlines()]
    assert [line.strip() for line in grammar[1].splitlines()] == [x for x in lines if re.match(r"\w+ += |\|", x)]


def test_the_index_of_passes_is_current() -> None:
    generated = runpy.run_path(str(ROOT / "docs/generate.py"), run_name="docs")
    assert generated["FILE"].read_text() == generated["text"](), "run `make docs`"
    for name, cls in {**OPS, **PASSES}.items():
        if cls.__module__.startswith("burnish."):
            assert f"`{name}`" in generated["text"]()


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
