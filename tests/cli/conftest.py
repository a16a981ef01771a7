"""The command line as a function."""

from collections.abc import Callable

import pytest

from burnish.cli import main


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`cli("opt", model)` gives the exit code, and what went to standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as e:
            main([str(a) for a in arguments])
        assert isinstance(e.value.code, int)
        return e.value.code, *capsys.readouterr()

    return run
