"""burnish chat and run --chat: a line a message, an answer each."""

import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from burnish.runtime.executable import Executable
from burnish.runtime.tokenizer import Tokenizer
from tests import models
from tests.cli.conftest import Cli

CHATML = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder that was made for conversations; its context is 128 tokens."""
    made = models.llama(vocab_size=300, max_position_embeddings=128)
    folder = models.saved(made, tmp_path_factory.mktemp("chat"))
    tokenizer = models.byte_tokenizer(merges=0)
    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in ("<|im_start|>", "<|im_end|>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`typed("a message", …)` is what is piped into the command."""

    def pipe(*lines: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))

    return pipe


def test_inspect_says_who_can_be_talked_with(cli: Cli, folder: Path, llama: Path) -> None:
    assert "\n  chat          by a template of its own\n" in cli("inspect", folder).out
    assert [json.loads(cli("inspect", f, "--json").out)["chat_template"] for f in (folder, llama)] == [True, False]


def test_each_line_is_answered_as_a_run_of_the_whole_text_is(cli: Cli, folder: Path, typed: Any) -> None:
    typed("one", "", "two")
    code, out, err = cli("chat", folder, "-n", 5, "--json")
    assert (code, err) == (0, "")
    first, second = map(json.loads, out.splitlines())
    assert first["finish_reason"] == "length" and len(first["ids"]) == 5
    text = f"<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n{first['text']}<|im_end|>\n"
    ids = Tokenizer.load(folder / "tokenizer.json").encode(
        f"{text}<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n"
    )
    ran = cli("run", folder, "--prompt-ids", ",".join(map(str, ids)), "-n", 5, "--json")
    assert json.loads(ran.out)["ids"] == second["ids"]
    assert (second["prompt_tokens"], second["read_tokens"] < len(ids)) == (len(ids), True)


def test_run_answers_one_message(cli: Cli, folder: Path, typed: Any) -> None:
    for options, system in ((["--chat"], []), (["--system", "be"], ["--system", "be"])):
        typed("one")
        talked = cli("chat", folder, "-n", 5, *system)
        assert cli("run", folder, "-p", "one", "-n", 5, *options) == talked
    report = json.loads(cli("run", folder, "-p", "one", "-n", 5, "--chat", "--json").out)
    text = "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"
    assert report["prompt_ids"] == Tokenizer.load(folder / "tokenizer.json").encode(text)


def test_reset_begins_anew_and_exit_ends(cli: Cli, folder: Path, typed: Any) -> None:
    typed("one", "two", "/reset", "one", "/exit", "three")
    answers = [json.loads(line) for line in cli("chat", folder, "-n", 3, "--json", "--system", "s").out.splitlines()]
    assert len(answers) == 3
    assert answers[0]["ids"] == answers[2]["ids"] and answers[0]["prompt_tokens"] == answers[2]["prompt_tokens"]
    assert answers[1]["prompt_tokens"] > answers[0]["prompt_tokens"]


def says(ids: list[int], interrupt: int | None = None) -> Any:
    """What a model does that says just this, and is interrupted behind so many tokens."""

    def generate(
        self: Any, prompt: Any, limit: int, sampler: Any, ends: Any, watch: Any, *_: Any
    ) -> Iterator[int]:
        for i, token in enumerate(ids):
            if i == interrupt:
                os.kill(os.getpid(), signal.SIGINT)
            if token in ends:
                return
            yield token

    return generate


def test_an_interrupt_ends_the_answer_and_not_the_conversation(
    cli: Cli, folder: Path, typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = Tokenizer.load(folder / "tokenizer.json").encode("abcde")
    monkeypatch.setattr(Executable, "generate", says(ids, interrupt=2))
    typed("one", "two")
    before = signal.getsignal(signal.SIGINT)
    assert cli("chat", folder) == (0, "abc\nabc\n", "")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_ends_the_command(
    cli: Cli, folder: Path, typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(self: Any, *_: Any) -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        yield 97

    monkeypatch.setattr(Executable, "generate", generate)
    typed("one")
    assert cli("chat", folder).code == 130


def test_the_template_s_end_of_a_turn_ends_an_answer(
    cli: Cli, folder: Path, typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = Tokenizer.load(folder / "tokenizer.json").encode("yes<|im_end|>no")
    monkeypatch.setattr(Executable, "generate", says(ids))
    typed("one")
    assert cli("chat", folder).out == "yes\n"
    assert cli("run", folder, "-p", "x", "--chat").out == "yes\n"


def test_a_package_keeps_the_template(cli: Cli, folder: Path, typed: Any, tmp_path: Path) -> None:
    assert cli("compile", folder, "-o", tmp_path / "out").code == 0
    said = cli("run", folder, "-p", "one", "-n", 5, "--system", "s")
    assert cli("run", tmp_path / "out", "-p", "one", "-n", 5, "--system", "s") == said


def test_what_is_no_conversation_is_refused(
    cli: Cli, folder: Path, bert: Path, llama: Path, typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, code, message in [
        (["chat", llama], 3, "comes without a chat template: the model was not made for conversations"),
        (["run", llama, "-p", "x", "--chat"], 3, "comes without a chat template"),
        (["chat", bert], 2, "there is no tokenizer.json beside the model"),
        (["run", folder, "--prompt-ids", "1", "--chat"], 2, "--chat and --system are for a text"),
        (["run", folder, "-p", "x", "--pair", "y", "--system", "s"], 2, "--chat and --system are for a text"),
        (["run", folder, "-p", " ", "--chat"], 2, "the prompt is empty"),
        (["chat", folder, "--top-k", "4"], 2, "--top-k is for tokens that are drawn"),
        (["chat", folder, "--stop", ""], 2, "--stop takes a text"),
        (["run", folder, "-p", "x" * 200, "--chat"], 2, "the model's context is 128"),
    ]:
        typed("one")
        ran = cli(*arguments)
        assert (ran.code, ran.out) == (code, ""), arguments
        assert message in ran.err and ran.err.count("\n") == 1, arguments
    typed("x" * 200)
    assert (ran := cli("chat", folder)).code == 2 and "the model's context is 128" in ran.err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n")))
    assert (ran := cli("chat", folder)).code == 2 and "a message is not UTF-8" in ran.err
