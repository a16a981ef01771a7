"""burnish run: text as it comes, ids, logits, embeddings."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import pytest
import torch
import transformers

import burnish
from burnish.backends.kernels import layouts_for
from burnish.backends.native import cpu
from burnish.runtime.executable import Executable
from burnish.runtime.tokenizer import Tokenizer
from tests import models
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
PROMPT = "the city of"


def test_text_goes_on_from_the_prompt_as_the_oracles_does(cli: Cli, llama: Path) -> None:
    ran = cli("run", llama, "--prompt", PROMPT, "--max-new-tokens", 6)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(llama)
    tokenizer = Tokenizer.load(llama / "tokenizer.json")
    ids = tokenizer.encode(PROMPT)
    with torch.no_grad():
        expected = oracle.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False)[0, len(ids) :].tolist()
    assert ran == (0, tokenizer.decode(expected) + "\n", "")


def test_a_folder_without_a_tokenizer_runs_on_ids(cli: Cli, t5: Path) -> None:
    code, out, err = cli("run", t5, "--prompt-ids", "5, 6,7", "--max-new-tokens", 3)
    assert (code, err) == (0, "")
    assert len([int(x) for x in out.split()]) == 3
    code, out, err = cli("run", t5, "--prompt", "five")
    assert (code, out) == (2, "")
    assert "there is no tokenizer.json beside the model: put one there; `burnish run` takes --prompt-ids" in err


def says(ids: Sequence[int]) -> Callable[..., Iterator[int]]:
    """What a model does that says just this."""

    def generate(self, prompt, limit, sampler, ends, watch, *_):
        for i, token in enumerate(ids):
            watch(i, np.zeros(1))
            yield token

    return generate


def test_a_character_of_several_tokens_is_printed_when_it_is_whole(
    cli: Cli, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "né – 語 🙂"
    ids = Tokenizer.load(llama / "tokenizer.json").encode(text)
    assert len(ids) > len(text)
    printed: list[str] = []
    monkeypatch.setattr(Executable, "generate", says(ids))
    monkeypatch.setattr("click.echo", lambda text="", nl=True, err=False: printed.append(text))
    assert cli("run", llama, "--prompt", "x").code == 0
    assert "".join(printed) == text
    assert printed == [*text, ""], "each character as soon as it is whole, nothing held back for longer"


def test_what_is_left_of_a_broken_character_comes_last(cli: Cli, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = Tokenizer.load(llama / "tokenizer.json").encode("a語")[:-1]
    monkeypatch.setattr(Executable, "generate", says(ids))
    assert cli("run", llama, "--prompt", "x").out == "a�\n"


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_dumped_logits_are_the_oracles(cli: Cli, family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder, file = request.getfixturevalue(family), tmp_path / "logits.npy"
    ran = cli("run", folder, "--prompt-ids", "5,6,7", "--max-new-tokens", 4, "--dump-logits", file, "--json")
    out, logits = json.loads(ran.out)["ids"], np.load(file)
    if family == "t5":
        oracle = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
        expected = models.logits_of(oracle, input_ids=[[5, 6, 7]], decoder_input_ids=[[0, *out[:-1]]])[0]
    else:
        oracle = transformers.AutoModelForCausalLM.from_pretrained(folder)
        expected = models.logits_of(oracle, input_ids=[[5, 6, 7, *out[:-1]]])[0, 2:]
    assert (logits.dtype, logits.shape) == (np.float32, expected.shape)
    assert np.abs(logits - expected).max() < models.WITHIN * np.abs(expected).max()


def test_sampling_is_reproducible_by_seed(cli: Cli, llama: Path) -> None:
    def run(*more: object) -> list[int]:
        ran = cli("run", llama, "--prompt", PROMPT, "--max-new-tokens", 12, "--json", *more)
        ids: list[int] = json.loads(ran.out)["ids"]
        return ids

    warm = run("--temperature", 2, "--seed", 1)
    assert run("--temperature", 2, "--seed", 1) == warm
    assert run("--temperature", 2, "--seed", 2) != warm
    assert run("--seed", 1) == run("--seed", 2) != warm


def test_limits_on_what_is_drawn(cli: Cli, llama: Path) -> None:
    def run(*more: object) -> list[int]:
        ran = cli("run", llama, "-p", PROMPT, "-n", 12, "--json", *more)
        ids: list[int] = json.loads(ran.out)["ids"]
        return ids

    greedy, hot = run(), ("--temperature", 9)
    assert run(*hot) != greedy
    for limit in (("--top-k", 1), ("--top-p", 0), ("--min-p", 1)):
        assert run(*hot, *limit) == greedy, "one token is left to draw from"
    assert run("--repetition-penalty", 1000) == list(dict.fromkeys(run("--repetition-penalty", 1000))), "none twice"


def test_what_a_models_makers_advise_is_said_where_nothing_is_asked_for(cli: Cli, llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "advised")
    (folder / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6, "top_k": 20}')
    run = (folder, "-p", PROMPT, "-n", 3)
    note = "the likeliest token is taken each time; the model's makers advise --temperature 0.6 --top-k 20"
    assert cli("run", *run) == (0, cli("run", llama, *run[1:]).out, f"note: {note}\n")
    for asked in (("--temperature", 0), ("--repetition-penalty", 1.1)):
        assert cli("run", *run, *asked).err == ""


def test_a_stop_ends_the_text_where_it_begins(cli: Cli, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = Tokenizer.load(llama / "tokenizer.json").encode("one, two; three")
    monkeypatch.setattr(Executable, "generate", says(ids))
    assert cli("run", llama, "-p", "x", "--stop", "; th", "--stop", "xyz").out == "one, two\n"
    assert cli("run", llama, "-p", "x", "--stop", "four").out == "one, two; three\n"
    report = json.loads(cli("run", llama, "-p", "x", "--stop", ", t", "--json").out)
    assert (report["text"], report["finish_reason"]) == ("one", "stop")
    assert report["ids"] == ids[: len(report["ids"])] and len(report["ids"]) < len(ids), "nothing more was asked for"


def test_why_a_text_ended(cli: Cli, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(cli("run", llama, "-p", "x", "-n", 3, "--json").out)["finish_reason"] == "length"
    monkeypatch.setattr(Executable, "generate", says([5, 6]))
    assert json.loads(cli("run", llama, "-p", "x", "-n", 3, "--json").out)["finish_reason"] == "stop"


def test_log_probabilities_are_the_oracles(cli: Cli, llama: Path) -> None:
    report = json.loads(cli("run", llama, "--prompt-ids", "5,6,7", "-n", 3, "--logprobs", 2, "--json").out)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(llama)
    logits = models.logits_of(oracle, input_ids=[[5, 6, 7, *report["ids"][:-1]]])[0, 2:]
    expected = torch.tensor(logits, dtype=torch.float64).log_softmax(-1)
    for row, said, token in zip(expected, report["logprobs"], report["ids"], strict=True):
        best = row.topk(2)
        assert said["id"] == token and abs(said["logprob"] - float(row[token])) < 1e-4
        assert [t["id"] for t in said["top"]] == best.indices.tolist()
        assert np.abs(np.array([t["logprob"] for t in said["top"]]) - best.values.numpy()).max() < 1e-4
    code, out, err = cli("run", llama, "--prompt-ids", "5,6,7", "-n", 3, "--logprobs", 2)
    assert (code, out) == (0, report["text"] + "\n"), "the text alone"
    first = report["logprobs"][0]
    assert err.splitlines()[1] == f"{first['logprob']:9.4f}  {first['text']!r}; " + ", ".join(
        f"{t['text']!r} {t['logprob']:.4f}" for t in first["top"]
    )


def test_a_prompt_from_a_file_or_a_pipe(cli: Cli, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = cli("run", llama, "-p", PROMPT, "-n", 4)
    for ending in ("", "\n", "\r\n"):
        (tmp_path / "prompt.txt").write_bytes((PROMPT + ending).encode())
        assert cli("run", llama, "-f", tmp_path / "prompt.txt", "-n", 4) == expected
        for way in ((), ("-p", "-"), ("-f", "-")):
            with (tmp_path / "prompt.txt").open() as piped:
                monkeypatch.setattr("sys.stdin", piped)
                assert cli("run", llama, *way, "-n", 4) == expected
    (tmp_path / "prompt.txt").write_bytes(b"\xff\xfe")
    refused = cli("run", llama, "-f", tmp_path / "prompt.txt")
    assert (refused.code, "error: the prompt is not UTF-8: " in refused.err) == (2, True)


def test_a_line_of_numbers_ends_a_run_on_a_terminal_only(
    cli: Cli, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("run", llama, "-p", PROMPT, "-n", 3).err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    line = r"\d+ tokens in, 3 out; the first after [\d.]+ s, then [\d,.]+ a second\n"
    assert re.fullmatch(line, click.unstyle(cli("run", llama, "-p", PROMPT, "-n", 3).err))
    assert cli("run", llama, "-p", PROMPT, "-n", 3, "--json").err == ""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted by Linux's /proc")
def test_one_thread_is_one(llama: Path) -> None:
    """BLAS reads the number when it is loaded: so a process of its own."""
    run = f"main(['run', {str(llama)!r}, '-p', 'a', '-n', '2', '--threads', '1', '--temperature', '1'])"
    code = f"""
import os
from burnish.cli import main
try:
    {run}
except SystemExit as e:
    assert e.code == 0
from burnish.backends.native.threads import cores
print(cores(), len(os.listdir("/proc/self/task")))
"""
    free = {k: v for k, v in os.environ.items() if not k.endswith("_THREADS")}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=free, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "1 1"


@pytest.mark.parametrize("backend", ["numpy", pytest.param("xla", marks=pytest.mark.slow)])
def test_what_was_chosen_instead_is_said(cli: Cli, llama: Path, tmp_path: Path, backend: str) -> None:
    """A CPU's kernels take int8 activations: other numbers, and on some model another text, than floats."""
    assert cli("compile", llama, "-o", tmp_path / "q4", "--quantize", "q4_0").code == 0
    has_kernels = bool(layouts_for("linear"))
    said = [f"9 products take their inputs in int8, for which {backend} has kernels; --activations float rounds none"]
    ran = cli("run", tmp_path / "q4", "-p", PROMPT, "-n", 2, "--backend", backend, "--json")
    assert ran.err == "".join(f"note: {note}\n" for note in said * has_kernels)
    assert json.loads(ran.out)["notes"] == said * has_kernels
    assert burnish.executable(burnish.load(tmp_path / "q4"), backend).rounded_products == 9 * has_kernels


def test_what_was_asked_for_is_no_choice_of_ours(cli: Cli, llama: Path, tmp_path: Path) -> None:
    assert cli("compile", llama, "-o", tmp_path / "q4", "--quantize", "q4_0").code == 0
    for asked in ("int8", "float"):
        assert cli("run", tmp_path / "q4", "-p", PROMPT, "-n", 2, "--activations", asked).err == ""
    assert cli("run", llama, "-p", PROMPT, "-n", 2).err == "", "nothing is quantized"


def test_the_context_ends_the_text_and_says_so(cli: Cli, llama: Path) -> None:
    ran = cli("run", llama, "--prompt-ids", ",".join(["5"] * 60), "--max-new-tokens", 9, "--json")
    assert (ran.code, len(json.loads(ran.out)["ids"])) == (0, 4)
    assert ran.err == "note: 4 tokens fill the model's context of 64\n"


def test_an_encoder_prints_its_hidden_states(cli: Cli, bert: Path) -> None:
    oracle = transformers.AutoModel.from_pretrained(bert)
    with torch.no_grad():
        expected = oracle(torch.tensor([[5, 6, 7]])).last_hidden_state[0].numpy()
    ran = cli("run", bert, "--prompt-ids", "5,6,7", "--json")
    assert np.abs(np.array(json.loads(ran.out)["hidden"]) - expected).max() < models.WITHIN * np.abs(expected).max()
    lines = cli("run", bert, "--prompt-ids", "5,6,7").out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["5", "6", "7"]
    assert lines[0].startswith(f"5: {expected[0, 0]:.4f}"[:-1])


def test_a_sentence_encoder_prints_one_vector(cli: Cli, bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "sentences")
    modules = [{"idx": i, "path": p, "type": f"sentence_transformers.models.{t}"}
               for i, (p, t) in enumerate({"": "Transformer", "1_Pooling": "Pooling"}.items())]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    hidden = json.loads(cli("run", bert, "--prompt-ids", "5,6,7", "--json").out)["hidden"]
    code, out, _ = cli("run", folder, "--prompt-ids", "5,6,7")
    assert (code, len(out.splitlines())) == (0, 1)
    assert np.allclose([float(x) for x in out.split()], np.mean(hidden, 0), atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "bert", "t5"])
def test_stats_say_what_ran_how(cli: Cli, family: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(family)
    code, out, err = cli("run", folder, "--prompt-ids", "5,6,7", "--max-new-tokens", 2, "--stats")
    assert code == 0
    assert {"load_s", "first_result_s", "prompt_tokens"} <= {line.split()[0] for line in err.splitlines()}
    graphs = ["encoder:", "decoder:"] if family == "t5" else ["forward:"]
    assert [line for line in err.splitlines() if line.endswith(":")] == graphs
    assert "x linear: " in err and "programs: " in err
    assert "load_s" not in out


@pytest.fixture
def no_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor that there is no machine code for."""
    monkeypatch.setenv("BURNISH_CPU", "none")
    cpu._found.cache_clear()
    yield
    cpu._found.cache_clear()


def test_quantized_products_that_have_no_kernel_can_be_refused(
    cli: Cli, llama: Path, tmp_path: Path, no_code: None
) -> None:
    assert cli("compile", llama, "-o", tmp_path / "q4", "--quantize", "q4_0").code == 0
    run = ("run", tmp_path / "q4", "--prompt", PROMPT, "--max-new-tokens", 2, "--activations", "float")
    plan = cli(*run, "--stats")
    assert (plan.code, "x linear: numpy, dequantized (linear.int8: BURNISH_CPU is none; " in plan.err) == (0, True)
    refused = cli(*run, "--require-kernels")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: --require-kernels: 9 products would run dequantized:\n")
    assert "linear(f32[B, S, 64], q4_0[128, 64]): numpy, dequantized (linear.int8: BURNISH_CPU is none; " in refused.err
    assert cli("run", llama, "--prompt", PROMPT, "--max-new-tokens", 2, "--require-kernels").code == 0


@pytest.mark.parametrize("seen", [("--prompt-ids", "1,2,x"), ("--prompt-ids", "1,300"), ("--prompt-ids", "-1")])
def test_ids_that_are_none(cli: Cli, llama: Path, seen: tuple[str, str]) -> None:
    code, out, err = cli("run", llama, "--max-new-tokens", 1, *seen)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_sentence_is_cut_and_stands_behind_its_prompt(cli: Cli, tmp_path: Path) -> None:
    folder = models.saved(models.bert(vocab_size=300), tmp_path)
    models.byte_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "modules.json").write_text(
        json.dumps([{"path": p, "type": f"sentence_transformers.models.{t}"}
                    for p, t in (("", "Transformer"), ("1_Pooling", "Pooling"))])
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode": "max"}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    own = {"prompts": {"query": "X", "plain": ""}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(own))
    assert cli("compile", folder, "-o", tmp_path / "package").code == 0
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    for source in (folder, tmp_path / "package"):
        rows = dict(re.findall(r"^  (\w+) +(.*)$", cli("inspect", source).out, re.M))
        assert (rows["embedding"], rows["pooling"]) == ("64 numbers of a text", "max; compared by cosine")
        assert rows["prompts"] == "query, plain; unless named, query"
        assert rows["context"].endswith(", of which a text is cut to 5")
        for named, text in (((), "Xabcdefgh"), (("--prompt-name", "plain"), "abcdefgh")):
            ran = cli("run", source, "--prompt", "abcdefgh", *named, "--json")
            assert json.loads(ran.out)["prompt_ids"] == tokenizer.encode(text)[:5]
    assert "--prompt-name is put before a text" in cli("run", folder, "--prompt-ids", "5", "--prompt-name", "query").err
    ran = cli("run", folder, "--prompt", "a", "--prompt-name", "passage")
    assert ran.code == 2 and "the model has no prompt 'passage'; it has query, plain" in ran.err


def test_a_task_that_there_is_not_is_an_error_of_usage(cli: Cli, llama: Path) -> None:
    code, _, err = cli("run", llama, "--prompt-ids", "5", "--task", "dream")
    assert code == 2 and err.startswith("error: --task is one of text-generation, ") and err.endswith("not 'dream'\n")


@pytest.mark.parametrize("name", ["vocab.txt", "vocab.json", "tekken.json", "source.spm"])
def test_a_tokenizer_that_is_not_read_is_named(name: str, cli: Cli, t5: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(t5, tmp_path / "model")
    (folder / name).write_bytes(b"x")
    ran = cli("run", folder, "--prompt", "a")
    assert (ran.code, ran.out) == (2, "")
    assert f"there is no tokenizer.json beside the model, and {name} is not read (T5Tokenizer needs tok" in ran.err
    assert "`AutoTokenizer.from_pretrained(" in ran.err
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "M2M100Tokenizer"}')
    assert f"{name} is not read (tokenizer_class 'M2M100Tokenizer' is not supported; sup" in cli(
        "run", folder, "--prompt", "a"
    ).err
    assert cli("run", folder, "--prompt-ids", "5", "-n", 1).code == 0
