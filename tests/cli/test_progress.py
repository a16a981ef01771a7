"""Bars for long work: on a terminal only, and gone when the command ends, however it does."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from burnish.cli import _progress
from burnish.cli._progress import show_progress, stop_progress

ROOT = Path(__file__).parents[2]
SHOW, HIDE = "\x1b[?25h", "\x1b[?25l"  # the cursor


class Terminal(io.TextIOWrapper):
    """A terminal that remembers what was written."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """What commands write on; work counts as long when a test says so, by `_bars.draw`."""
    monkeypatch.setattr(_progress, "WAIT", 3600)
    monkeypatch.setattr(_progress, "OFTEN", -1)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


Run = Callable[..., None]


@pytest.fixture
def run(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(work)`, as that of a command that has --json; the streams are as they were when it has ended."""

    def command(work: Callable[[], None], *arguments: str) -> None:
        option = click.Option(["--json", "as_json"], is_flag=True)
        made = click.Command("work", callback=lambda as_json: work(), params=[option])
        with monkeypatch.context() as m:
            m.setattr(sys, "stdout", terminal)
            m.setattr(sys, "stderr", terminal)
            try:
                made.main(list(arguments), standalone_mode=False)
            finally:
                assert (sys.stdout, sys.stderr) == (terminal, terminal)
                assert _progress._bars.display is None and not _progress._bars.work

    return command


def long_work() -> None:
    show_progress("documents", 0, 4)
    _progress._bars.draw("documents")
    show_progress("documents", 1, 4)


def test_a_bar_is_drawn_and_taken_away(terminal: Terminal, run: Run) -> None:
    def work() -> None:
        long_work()
        assert "documents" in terminal.text and "25%" in terminal.text and terminal.text.count(HIDE) == 1
        show_progress("documents", 4, 4)

    run(work)
    assert terminal.text.index(HIDE) < terminal.text.index(SHOW)
    assert terminal.text.rstrip("\r").endswith(SHOW)


def test_short_work_is_not_shown(terminal: Terminal, run: Run) -> None:
    def work() -> None:
        for done in range(5):
            show_progress("documents", done, 4)

    run(work)
    assert terminal.text == ""


def test_work_of_unknown_length(terminal: Terminal, run: Run) -> None:
    def work() -> None:
        show_progress("compiling", 0, 0)
        _progress._bars.draw("compiling")
        assert "compiling" in terminal.text and "%" not in terminal.text
        show_progress("compiling", 1, 1)

    run(work)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_ends_a_command_leaves_the_terminal_clean(terminal: Terminal, run: Run, error: type) -> None:
    def work() -> None:
        long_work()
        raise error

    with pytest.raises((click.Abort, error)):
        run(work)
    assert SHOW in terminal.text[terminal.text.rindex("25%") :]


def test_lines_go_above_the_bars(terminal: Terminal, run: Run) -> None:
    def work() -> None:
        long_work()
        click.echo("a line")
        click.secho("another", err=True, fg="red")
        assert "a line\r\n" in terminal.text.replace("\n", "\r\n") and "another" in terminal.text
        before = terminal.text[: terminal.text.index("a line")]
        assert before.endswith("\r\x1b[2K")  # the bar's line is erased first
        show_progress("documents", 2, 4)
        assert "50%" in terminal.text[terminal.text.index("another") :]

    run(work)


def test_two_kinds_of_work_at_once(terminal: Terminal, run: Run) -> None:
    def work() -> None:
        long_work()
        show_progress("runs", 1, 2)
        _progress._bars.draw("runs")
        assert "documents" in terminal.text and "runs" in terminal.text
        show_progress("runs", 2, 2)
        assert _progress._bars.display is not None  # for the documents

    run(work)


def test_nothing_is_shown_once_pieces_of_lines_are_printed(terminal: Terminal, run: Run) -> None:
    def work() -> None:
        long_work()
        stop_progress()
        seen = terminal.text
        long_work()
        assert terminal.text == seen

    run(work)
    run(long_work)  # the next command begins anew
    assert terminal.text.count(HIDE) == 2


def test_json_and_pipes_are_left_alone(terminal: Terminal, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(lambda: show_progress("documents", 1, 4), "--json")
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    run(lambda: show_progress("documents", 1, 4))
    show_progress("documents", 1, 4)  # outside of any command
    assert terminal.text == "" and not _progress._bars.work


def test_a_pipe_does_not_pay_for_the_bars() -> None:
    code = (
        "import sys; from burnish.cli import main\n"
        "try: main(['inspect', 'examples/tiny-lm'])\n"
        "except SystemExit as e: print(e.code, 'rich' in sys.modules, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False False"
    assert done.stderr == ""
