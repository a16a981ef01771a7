"""The target of a plugin on the command line."""

from pathlib import Path

import pytest

from tests.backends.test_target import PLUGIN
from tests.cli.conftest import Cli


@pytest.fixture
def plugin(registries: None, tmp_path: Path) -> Path:
    file = tmp_path / "unaided.py"
    file.write_text(PLUGIN)
    return file


def test_the_commands_take_it(cli: Cli, llama: Path, plugin: Path) -> None:
    prompt = ("--prompt-ids", "1,2,3", "--max-new-tokens", 4)
    assert cli("run", llama, *prompt, "--backend", "unaided").code == 2
    ours = cli("run", llama, *prompt, "--backend", "unaided", "--plugin", plugin)
    assert ours == cli("run", llama, *prompt) and ours.code == 0
    code, _, err = cli("run", llama, *prompt, "--backend", "abacus", "--plugin", plugin)
    assert code == 2 and "'abacus' is not one of 'numpy', 'xla', 'unaided'" in err
    assert "[numpy|xla|unaided]" in cli("run", "--plugin", plugin, "--help").out


def test_its_passes_have_its_name_in_a_pipeline(cli: Cli, llama: Path, plugin: Path) -> None:
    code, out, _ = cli("opt", llama, "--pipeline", "default,unaided", "--plugin", plugin)
    assert code == 0 and out.startswith("module {")
    listing = cli("opt", "--list", "--plugin", plugin).out
    assert "  unaided\n      canonicalize             so that there is one" in listing
    code, _, err = cli("opt", llama, "--pipeline", "default,unaidet", "--plugin", plugin)
    assert code == 2 and "did you mean unaided?" in err
    assert cli("debug", "check", llama, "--pipeline", "default,stateful,unaided", "--plugin", plugin).code == 0
