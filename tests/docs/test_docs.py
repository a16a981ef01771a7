"""What the documents show, runs; what is generated, is current."""

import os
import re
import runpy
import shlex
from pathlib import Path

import pytest

from burnish.cli import main
from burnish.frontends import architectures  # noqa: F401  # registers them
from burnish.frontends.architecture import ARCHITECTURES
from burnish.ir import OPS, parse
from burnish.ir.format import FORMATS
from burnish.passes.engine import PASSES
from tests.cli.test_commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/tutorial.md",
    "docs/python-api.md",
    "docs/writing-a-pass.md",
    "docs/adding-an-architecture.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_python_on_the_page_runs(page, registries, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)
    assert blocks
    names: dict = {"__name__": page}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


@pytest.mark.slow
def test_the_quick_start_runs(tmp_path, monkeypatch, capsys) -> None:
    """Line by line, in a folder beside the examples; what is piped is piped by a file."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    lines = [line for line in shell_lines("docs/quick-start.md") if "burnish " in line and "_BURNISH" not in line]
    assert len(lines) > 10
    for line in lines:
        piped, _, command = line.rpartition("burnish ")
        if piped:
            Path("piped.txt").write_text(shlex.split(piped)[1] + "\n")
        with open("piped.txt" if piped else os.devnull) as stdin, pytest.raises(SystemExit) as ended:
            monkeypatch.setattr("sys.stdin", stdin)
            main(shlex.split(command))
        ran = capsys.readouterr()
        assert (ended.value.code, "error" in ran.err) == (0, False), f"{line}\n{ran.err}"
        if "capital of" in line and "temperature" not in line and "-n 4" not in line:
            assert ran.out.strip().startswith(("Kroros", "Pivist")), line


def shell_lines(page: str) -> list[str]:
    """The lines of a page's shell blocks, without comments."""
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)
    return [re.sub(r" +#.*", "", line) for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in sorted(ROOT.glob("docs/*.md")))])
def test_commands_on_the_page_are_there_with_their_options(page: str) -> None:
    """Whatever is written as `burnish COMMAND … --option`, in a block or in a line."""
    inline = re.findall(r"`burnish ([^`]+)`", (ROOT / page).read_text())
    blocks = [line.partition("burnish ")[2] for line in shell_lines(page) if re.match(r"burnish |.*\| burnish ", line)]
    for line in [*inline, *blocks]:
        words = re.findall(r"[^\s\[\]]+", re.sub(r"'[^']*'|\"[^\"]*\"", "TEXT", line))
        name = " ".join(words[:2]) if words[0] == "debug" else words[0]
        if not name.islower():
            continue  # `burnish COMMAND --help`
        assert name in COMMANDS or name == "debug", f"{page}: burnish {line}"
        known = {o for p in COMMANDS[name].params for o in p.opts} | {"--help"} if name in COMMANDS else set()
        assert {w.partition("=")[0] for w in words if re.match("--?[a-z]", w)} <= known, f"{page}: burnish {line}"


def test_a_command_that_is_not_there_would_be_found(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for line in ("`burnish fly MODEL`", "`burnish run MODEL --faster`", "```sh\nburnish debug check M --fast\n```\n"):
        (tmp_path / "page.md").write_text(line)
        with pytest.raises(AssertionError, match=r"page\.md: burnish "):
            test_commands_on_the_page_are_there_with_their_options("page.md")


def test_messages_that_are_explained_are_those_of_the_code() -> None:
    """Each part of a quoted message, between what it leaves open, stands in a source."""
    folders = ("burnish", "ir", "passes", "backends", "frontends")
    files = [file.read_text() for folder in folders for file in (ROOT / folder).rglob("*.py")]
    code = re.sub(r'"\s+f?"', "", "\n".join(files))
    page = (ROOT / "docs/troubleshooting.md").read_text()
    messages = [m.removeprefix("note: ") for m in re.findall(r"^\| `([^`]+)` \|", page, re.M)]
    assert len(messages) > 8
    parts = [part.strip() for m in messages for part in re.split(r"…|\b[NM]\b|'[^']*'|--[\w-]+", m)]
    assert [part for part in parts if len(part) > 3 and part not in code] == []


def test_supported_models_and_formats_are_listed() -> None:
    """Each that is ours by its name, with the kernels' answer for each format that is made or read."""
    page = (ROOT / "docs/models-and-formats.md").read_text()
    names = [n for n, cls in ARCHITECTURES.items() if cls.__module__.startswith("burnish.")]
    names += [n for n, fmt in FORMATS.items() if type(fmt).__module__.startswith("burnish.")]
    assert [name for name in names if f"`{name}`" not in page] == []


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
