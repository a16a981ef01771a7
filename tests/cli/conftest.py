"""The command line as a function, and tiny models to run it on."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from burnish.cli import main
from tests import models


class Ran(NamedTuple):
    """The exit code, and what went to standard output and standard error."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ran]
Screen = Callable[[str, str], None]
SCREENS = Path(__file__).parents[1] / "golden" / "screens"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """`cli("run", folder, "--prompt", "A")`."""

    def run(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as e:
            main([str(a) for a in arguments])
        assert isinstance(e.value.code, int)
        return Ran(e.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def screen(request: pytest.FixtureRequest) -> Screen:
    """`screen("inspect", out)`: what a command prints is golden/screens/inspect.txt; --update-golden writes it."""

    def compare(name: str, text: str) -> None:
        file = SCREENS / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, "utf-8")
        assert file.exists(), f"{file} is missing; pytest --update-golden writes it"
        assert text == file.read_text("utf-8")

    return compare


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder with a tokenizer of bytes and a few words; its context is 64 tokens."""
    folder = models.saved(models.llama(vocab_size=300), tmp_path_factory.mktemp("llama"))
    models.byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder without a tokenizer; its context is 64 tokens."""
    return models.saved(models.bert(), tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder-decoder without a tokenizer."""
    return models.saved(models.t5(), tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="session")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of four experts, of which a token takes two."""
    sizes = {**models.SIZES, "num_local_experts": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    return models.saved(models.made("MixtralForCausalLM", vocab_size=96, **sizes), tmp_path_factory.mktemp("mixtral"))
