"""The documented exit codes, one message each, and nothing half-written."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from burnish.backends.binding import BindError
from burnish.cli import CheckFailed, Inconclusive, exit_code, main
from burnish.frontends.config import LoadError
from burnish.ir.verify import VerifyError
from burnish.passes.engine import PassError
from burnish.passes.pipelines import PipelineError
from tests import models
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]


def test_the_table_of_codes_is_the_documented_one() -> None:
    errors = {
        CheckFailed(): 1,
        PipelineError(): 2,
        BindError(): 2,
        PermissionError(): 2,
        LoadError(): 3,
        PassError(): 4,
        VerifyError("a fault"): 4,
        Inconclusive(): 5,
        KeyboardInterrupt(): 130,
    }
    assert {e: exit_code(e) for e in errors} == errors
    documented = re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "commands.md").read_text("utf-8"), re.M)
    assert set(map(str, errors.values())) <= set(documented)
    assert exit_code(ZeroDivisionError()) is exit_code(AssertionError()) is None


# ------------------------------------------------------------------------------------------------------------- 2: usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --prompt, --file or --prompt-ids, or pipe a text into it"),
        (("--prompt", ""), "the prompt is empty"),
        (("--prompt", " \n\t"), "the prompt is empty"),
        (("--prompt-ids", ""), "the prompt is empty"),
        (("--prompt", "a", "--prompt-ids", "1"), "give one of --prompt, --file and --prompt-ids"),
        (("--prompt", "a", "--file", __file__), "give one of --prompt, --file and --prompt-ids"),
        (("--file", "/nowhere.txt"), "'/nowhere.txt': No such file or directory"),
        (("--prompt-ids", ",".join(["5"] * 64)), "the prompt has 64 tokens and needs room for a new one; the model's"),
        (("--prompt", "a", "--max-new-tokens", "0"), "0 is not in the range x>=1"),
        (("--prompt", "a", "--temperature", "-1"), "--temperature is a number from 0 to 1e+09, not -1.0"),
        (("--prompt", "a", "--temperature", "nan"), "--temperature is a number from 0 to 1e+09, not nan"),
        (("--prompt", "a", "--top-p", "0.9"), "--top-p is for tokens that are drawn: give --temperature too"),
        (("--prompt", "a", "--top-p", "1.1", "--temperature", "1"), "--top-p is a number from 0 to 1, not 1.1"),
        (("--prompt", "a", "--repetition-penalty", "0"), "--repetition-penalty is 1 for none, and not 0"),
        (("--prompt", "a", "--stop", ""), "--stop takes a text"),
        (("--prompt", "a", "--threads", "2"), "--threads comes too late, NumPy is loaded"),
        (("--prompt", "a", "--backend", "abacus"), "'abacus' is not one of 'numpy', 'xla'"),
        (("--prompt", "a", "--dump-logits", "/nowhere/x.npy"), "/nowhere/x.npy: its folder is not there"),
        (("--prompt", "a", "--faster"), "No such option '--faster'"),
    ],
)
def test_run_refuses(cli: Cli, llama: Path, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = cli("run", llama, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert message in err


def test_an_encoder_has_a_context_too(cli: Cli, bert: Path) -> None:
    assert cli("run", bert, "--prompt-ids", ",".join(["5"] * 64)).code == 0
    code, _, err = cli("run", bert, "--prompt-ids", ",".join(["5"] * 65))
    assert (code, err) == (2, "error: the prompt has 65 tokens; the model's context is 64\n")


@pytest.mark.parametrize("option", [("--stop", "a"), ("--logprobs", 1), ("--temperature", 0)])
def test_what_is_for_text_only(cli: Cli, bert: Path, option: tuple[object, ...]) -> None:
    code, out, err = cli("run", bert, "--prompt-ids", "5", *option)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: the model makes no text: sampling, --stop and --logprobs are not for it")


def test_an_encoder_beside_a_decoder_has_a_context_of_its_own(cli: Cli, tmp_path: Path) -> None:
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = sizes | heads | {"vocab_size": 96, "max_position_embeddings": 8}
    folder = models.saved(models.made("BartForConditionalGeneration", **config), tmp_path)
    assert cli("run", folder, "--prompt-ids", ",".join(["5"] * 8), "--max-new-tokens", 9).code == 0
    code, _, err = cli("run", folder, "--prompt-ids", ",".join(["5"] * 9))
    assert (code, err) == (2, "error: the prompt has 9 tokens; the model's context is 8\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--quantize", "q9"), "unknown format 'q9'; there are int4_128, int8, "),
        (("--quantize", "lm=q9"), "unknown format 'q9'"),
        (("--quantize", "*.v_prj=q8_0;q4_0"), "no weight is called '*.v_prj'; there are model.layers.0.self_attn.v_"),
        (("--quantize", "lm=q4_0,*=q8_0"), "quantize-weights has no option '*=q8_0'"),
        (("--quantize", "q4_0", "--pipeline", "default"), "put quantize-weights{recipe=…} into the pipeline"),
        (("--pipeline", "defualt"), "there is no pass 'defualt'; did you mean default?"),
        (("--pipeline", "fuse-fma{speed=9}"), "fuse-fma has no option 'speed=9'; it has none"),
    ],
)
def test_compile_refuses(cli: Cli, llama: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = cli("compile", llama, "-o", tmp_path / "package", *arguments)
    assert (code, out, list(tmp_path.iterdir())) == (2, "", [])
    assert err.startswith("error: ") and message in err


@pytest.mark.parametrize("arguments", [["swim"], ["run"], ["inspect", "a", "b"], ["--fast"]])
def test_what_is_no_command_line(cli: Cli, arguments: list[str]) -> None:
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch("error: .+\n", err)


def test_an_output_that_cannot_be_written(cli: Cli, llama: Path) -> None:
    code, out, err = cli("opt", llama, "-o", "/nowhere/x.graph")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "/nowhere/x.graph" in err


# ------------------------------------------------------------------------------------------------- 3: cannot be loaded


def _cut(file: Path, keep: float = 0.5) -> None:
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])


def _config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


JUNK = bytes(range(255, -1, -1)) * 8

#: what is the source in a model's folder ("" is the folder), and what happens to it before
HOSTILE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "nothing there": ("nowhere", lambda file: None),
    "an empty folder": ("empty", lambda file: file.mkdir()),
    "weights cut short": ("", lambda folder: _cut(folder / "model.safetensors")),
    "weights without a header": ("", lambda folder: (folder / "model.safetensors").write_bytes(b"")),
    "a config that is cut": ("", lambda folder: _cut(folder / "config.json")),
    "a config of NaN": ("", lambda folder: _config(folder, rms_norm_eps=float("nan"))),
    "an absurd width": ("", lambda folder: _config(folder, hidden_size=1 << 60)),
    "an unknown architecture": ("", lambda folder: _config(folder, architectures=["SwimForever"])),
    "a tokenizer that is none": ("", lambda folder: (folder / "tokenizer.json").write_text("{}")),
    "a package without its graph": ("", lambda folder: (folder / "manifest.json").write_text("{}")),
    "junk called .safetensors": ("junk.safetensors", lambda file: file.write_bytes(JUNK)),
    "junk called .onnx": ("junk.onnx", lambda file: file.write_bytes(JUNK)),
    "nothing called .onnx": ("empty.onnx", lambda file: file.write_bytes(b"")),
    "junk called .graph": ("junk.graph", lambda file: file.write_bytes(JUNK)),
    "graph text that is cut": ("cut.graph", lambda file: file.write_text("module { graph forward(")),
    "a kind that is not read yet": ("model.gguf", lambda file: file.write_bytes(JUNK)),
    "no known kind": ("model.docx", lambda file: file.write_bytes(JUNK)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(cli: Cli, llama: Path, tmp_path: Path, case: str) -> None:
    name, damage = HOSTILE[case]
    source, out = shutil.copytree(llama, tmp_path / "model") / name, tmp_path / "out"
    damage(source)
    lines = [("run", source, "--prompt-ids", "1,2", "--max-new-tokens", 1), ("compile", source, "-o", out)]
    if "tokenizer" not in case:  # a graph can be looked at without one
        lines.append(("inspect", source))
    for line in lines:
        ran = cli(*line)
        assert (ran.code, ran.out) == (3, ""), f"{line[0]}: {ran}"
        assert re.fullmatch("error: [^\n]+\n", ran.err), ran.err
        assert str(tmp_path) in ran.err, "the message says where"
    assert not out.exists() and [f.name for f in tmp_path.iterdir()] == ["model"]


def test_a_plugin_that_cannot_be_loaded(cli: Cli, llama: Path, tmp_path: Path) -> None:
    file = tmp_path / "plugin.py"
    file.write_text("import a_module_that_is_not_there")
    for plugin in (file, tmp_path / "nowhere.py"):
        code, out, err = cli("inspect", llama, "--plugin", plugin)
        assert (code, out) == (3, "")
        assert err.startswith(f"error: plugin {plugin}: ")


# --------------------------------------------------------------------------------------------------- 4: a pass is wrong


def test_a_pass_that_crashes_is_named(cli: Cli, llama: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "crash.py"
    plugin.write_text(
        "from burnish.passes.engine import Pass\n"
        "class FallOver(Pass):\n"
        "    'falls over'\n"
        "    def run(self, module, ctx):\n"
        "        raise KeyError('a step')\n"
    )
    line = ("compile", llama, "-o", tmp_path / "out", "--plugin", plugin, "--pipeline", "canonicalize,fall-over")
    code, out, err = cli(*line)
    assert (code, out) == (4, "")
    assert "fall-over" in err and "a step" in err
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------------ the rest


def test_ctrl_c_leaves_nothing_half_written(
    cli: Cli, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from burnish.runtime import package

    writes = []

    def interrupted(file, piece):
        writes.append(file.name)
        if len(writes) == 6:
            raise KeyboardInterrupt
        return file.write(piece)

    monkeypatch.setattr(package, "_put", interrupted)
    code, out, err = cli("compile", llama, "-o", tmp_path / "package")
    assert (code, out, err.strip()) == (130, "", "")
    assert len(writes) == 6 and list(tmp_path.iterdir()) == []


def test_a_bug_of_ours_is_not_swallowed(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("burnish.runtime.doors.load", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["inspect", str(llama)])


def test_a_reader_that_has_seen_enough(llama: Path) -> None:
    program = "import sys; from burnish.cli import main; main(sys.argv[1:])"
    line = [sys.executable, "-c", program, "inspect", str(llama)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)
