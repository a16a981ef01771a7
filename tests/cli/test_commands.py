"""compile, inspect and eval, and what all commands have in common."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from burnish.backends.native.cpu import instruction_set
from burnish.cli import group
from tests import models
from tests.cli.conftest import Cli, Screen

ROOT = Path(__file__).parents[2]


def commands(at: click.Command = group, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command by its words: ("debug check", …)."""
    if not isinstance(at, click.Group):
        yield name, at
        return
    with click.Context(at) as context:
        for word in at.list_commands(context):
            inner = at.get_command(context, word)
            assert inner is not None
            yield from commands(inner, f"{name} {word}".strip())


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(cli: Cli, name: str) -> None:
    command = COMMANDS[name]
    options = {o for p in command.params for o in p.opts}
    assert {"--json", "--plugin"} <= options
    unclear = [p.name for p in command.params if isinstance(p, click.Option) and not (p.help or p.show_default)]
    assert unclear == []
    code, out, err = cli(*name.split(), "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: burnish {name} [OPTIONS]")
    assert options <= set(re.findall(r"--?[\w-]+", out)) | {"source"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    assert f"| `{name}` |" in (ROOT / "docs" / "commands.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("rnu", "model"), "there is no command 'rnu'; did you mean run?"),
        (
            ("talk", "model"),
            "there is no command 'talk'; there are bench, build-kernels, chat, compile, debug, eval, inspect",
        ),
        (("debug", "chek"), "there is no command 'chek'; did you mean check?"),
        (("run", "model", "--promt", "a"), "'--prompt'"),
        (("run", "model", "--backend", "nunpy"), "there is no 'nunpy'; did you mean numpy?"),
        (("compile", "model", "--quantise", "q4_0"), "'--quantize'"),
    ],
)
def test_what_there_is_not_gets_the_nearest(cli: Cli, arguments: tuple[str, ...], hint: str) -> None:
    code, out, err = cli(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert hint in err


@pytest.mark.parametrize("group", [(), ("debug",)])
def test_what_there_is_fits_a_screen(cli: Cli, group: tuple[str, ...]) -> None:
    """Each command in a whole sentence; asked for nothing, that is what is printed."""
    code, out, err = cli(*group, "--help")
    about = out.partition("Commands:\n")[2].splitlines()
    assert (code, err, len(about) > 1) == (0, "", True)
    assert [line for line in about if not line.endswith(".") or line.endswith("...") or len(line) > 80] == []
    assert cli(*group) == (2, "", out)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_all_commands_take_comes_last(name: str) -> None:
    options = [p.opts[0] for p in COMMANDS[name].params if isinstance(p, click.Option)]
    assert options[-4:] == ["--task", "--budget", "--plugin", "--json"]


def test_the_package_is_the_command(cli: Cli) -> None:
    ran = subprocess.run([sys.executable, "-m", "burnish", "--version"], cwd=ROOT, capture_output=True, check=True)
    assert ran.stdout.decode() == cli("--version").out


@pytest.fixture(scope="session")
def heldout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "heldout.jsonl"
    texts = ["the city of the king is", "the land of the", "the capital: 42."]
    rows = [{"text": t, "answers": [[len(t) - 3, len(t), "end"]]} for t in texts]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return file


def test_json_parses_everywhere(cli: Cli, llama: Path, bert: Path, t5: Path, heldout: Path, tmp_path: Path) -> None:
    small = ("--prompt-tokens", 4, "--new-tokens", 2, "--repeat", 1)
    graph = tmp_path / "model.graph"
    assert cli("opt", llama, "-o", graph).code == 0
    lines = [
        ("inspect", llama),
        ("inspect", graph),
        ("run", llama, "--prompt", "the", "--max-new-tokens", 2, "--stats"),
        ("run", bert, "--prompt-ids", "1,2"),
        ("run", t5, "--prompt-ids", "1,2", "--max-new-tokens", 2),
        ("compile", llama, "-o", tmp_path / "package", "--quantize", "q4_0"),
        ("inspect", tmp_path / "package"),
        ("bench", llama, *small),
        ("eval", llama, "--data", heldout, "--variants", "none,q4_0"),
        ("opt", llama),
        ("opt", "--list"),
        ("debug", "check", llama),
    ]
    for line in lines:
        ran = cli(*line, "--json")
        assert ran.code == 0, ran.err
        assert isinstance(json.loads(ran.out), dict), line


# ------------------------------------------------------------------------------------------------------------- compile


def test_a_package_runs_as_its_source_does(cli: Cli, llama: Path, tmp_path: Path) -> None:
    code, out, err = cli("compile", llama, "-o", tmp_path / "package")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith(f"{tmp_path / 'package'}: 15 tensors, ")
    labels = ["embedding", "block_00..01", "lm", "before", "after", "next"]
    assert [line.split(":")[0].strip() for line in out.splitlines()[1:]] == labels
    run = ("--prompt", "the king", "--max-new-tokens", 5)
    assert cli("run", tmp_path / "package", *run) == cli("run", llama, *run)


def test_what_no_group_divides_is_named(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = models.llama(hidden_size=48, num_attention_heads=3, num_key_value_heads=3)
    folder = models.saved(odd, tmp_path / "odd")
    capsys.readouterr()  # transformers shows its progress
    code, _, err = cli("compile", folder, "-o", tmp_path / "package", "--quantize", "q4_0")
    assert code == 0
    assert err.splitlines() == [
        "note: model.embed_tokens stays as it is: the recipe has no rule for it",
        "note: 13 weights stay as they are: q4_0: groups of 32 do not divide an input axis of 48",
    ]
    code, out, _ = cli("compile", folder, "-o", tmp_path / "other", "--quantize", "q4_0", "--json")
    assert list(json.loads(out)["not_quantized"].values()) == [1, 13]


def test_a_recipe_says_which_weight_gets_which_format(cli: Cli, llama: Path, tmp_path: Path) -> None:
    recipe = "*.v_proj=q8_0;embedding=q8_0;lm=none;q4_0"
    code, out, err = cli("compile", llama, "-o", tmp_path / "package", "--quantize", recipe)
    assert (code, err) == (0, "note: lm_head stays as it is: the recipe says lm=none\n")
    assert "embedding: q8_0 " in out and "block_00..01: f32 512, q4_0 " in out and "lm: f32 " in out
    manifest = json.loads((tmp_path / "package" / "manifest.json").read_text())
    assert manifest["made_by"]["pipeline"] == f"recover,quantize-weights{{recipe={recipe}}},fuse"
    code, _, err = cli("compile", llama, "-o", tmp_path / "other", "--quantize", "*.v_porj=q8_0;q4_0")
    assert (code, "no weight is called '*.v_porj'; there are model.layers.0.self_attn.v_proj" in err) == (2, True)


def test_sizes_before_and_after_and_what_is_smaller_but_not_faster(cli: Cli, llama: Path, tmp_path: Path) -> None:
    line = ("compile", llama, "-o", tmp_path / "package", "--quantize", "*.v_proj=int8;lm=none;q4_0", "--force")
    code, out, _ = cli(*line)
    assert code == 0
    report = json.loads(cli(*line, "--json").out)
    assert report["before"] == {"f32": [21, 4 * 100_160]}
    counts = {dtype: count for dtype, (count, _) in report["after"].items()}
    assert counts == {"f32": 7, "q4_0": 10, "int8": 2}
    sizes = {dtype: size for dtype, (_, size) in report["after"].items()}
    assert sum(sizes.values()) == sum(n for part in report["parts"].values() for n in part.values())
    assert f"  before: 400,640 bytes: 21 f32\n  after:  {sum(sizes.values()):,} bytes, " in out
    assert f"{sizes['q4_0']:,} in 10 q4_0, " in out
    slower = "  smaller, not faster on numpy: 2 linear with int8 (" in out
    assert slower == (instruction_set() is None), "as this processor has kernels"
    assert out.endswith(f"next: burnish run {tmp_path / 'package'} --prompt '…'\n")


def test_a_folder_in_the_way_stays(cli: Cli, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear")
    code, _, err = cli("compile", llama, "-o", tmp_path / "mine", "--force")
    assert (code, "is there already, and is not a package" in err) == (3, True)
    assert [f.name for f in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "letter.txt").read_text() == "Dear"


# ------------------------------------------------------------------------------------------------------------- inspect


@pytest.mark.parametrize("columns", [80, 120])
def test_inspect_says_what_a_model_is_made_of(cli: Cli, screen: Screen, columns: int, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.chdir(ROOT)
    code, out, err = cli("inspect", "examples/tiny-lm")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= min(columns, 100)
    screen(f"inspect_{columns}", out)


@pytest.mark.parametrize("family", ["bert", "t5", "mixtral"])
def test_inspect_other_kinds(cli: Cli, screen: Screen, family: str, request, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folder = request.getfixturevalue(family)
    monkeypatch.chdir(folder.parent)
    code, out, err = cli("inspect", folder.name)
    assert (code, err) == (0, "")
    screen(f"inspect_{family}", out.replace(folder.name, family))


def test_inspect_says_what_a_damaged_tokenizer_is(cli: Cli, llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    code, out, _ = cli("inspect", folder)
    assert code == 0
    assert re.search(r"^  tokenizer +cannot be read: ", out, re.M)


def test_many_guards_are_not_all_told(cli: Cli, tmp_path: Path) -> None:
    guards = "".join(f"  guard at_most(S, {n})\n" for n in range(100, 120))
    text = f"module {{\n{guards}  graph forward(%x: f32[S]) {{\n    return y=%x\n  }}\n}}\n"
    (tmp_path / "m.graph").write_text(text)
    out = cli("inspect", tmp_path / "m.graph").out
    assert out.count("at_most") == 6 and "and 14 more (--json has all)" in out
    assert len(json.loads(cli("inspect", tmp_path / "m.graph", "--json").out)["guards"]) == 20


# ---------------------------------------------------------------------------------------------------------------- eval


def test_eval_is_a_table_of_variants(cli: Cli, llama: Path, heldout: Path) -> None:
    code, out, err = cli("eval", llama, "--data", heldout, "--variants", "none,embedding=q4_0;q4_0,q4_0/int8")
    assert (code, err) == (0, "")
    about, head, *rows = out.splitlines()
    assert about.startswith("3 documents, ")
    assert head.split() == ["variant", "MB", "loss", "difference", "KL", "end", "right"]
    assert [row.split()[0] for row in rows] == ["none", "embedding=q4_0;q4_0", "q4_0/int8"]
    assert rows[0].split()[3:7] == ["+0.00000", "±", "0.00000", "0.00000"]
    assert len({len(line) for line in (head, *rows)}) == 1  # aligned
    measures = json.loads(cli("eval", llama, "--data", heldout, "--variants", "none,q4_0", "--json").out)["measures"]
    assert np.isfinite([m["loss"] for m in measures]).all()
    assert measures[0]["bytes"] > measures[1]["bytes"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--variants", "none,q5"), 2, "unknown format 'q5'; there are int4_128, int8, "),
        (("--variants", "none,q4_0/int3"), 2, "cannot read the variant q4_0/int3"),
        (("--data", "nowhere.jsonl"), 3, "nowhere.jsonl: "),
    ],
)
def test_what_eval_refuses(
    cli: Cli, llama: Path, heldout: Path, arguments: tuple[str, str], code: int, message: str
) -> None:
    ran = cli("eval", llama, "--data", heldout, *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert message in ran.err


def test_eval_needs_a_tokenizer(cli: Cli, bert: Path, heldout: Path) -> None:
    code, _, err = cli("eval", bert, "--data", heldout)
    assert (code, "needs a tokenizer.json beside the model" in err) == (3, True)
