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
from burnish.cli._errors import FAULT, CheckFailed, Inconclusive, Terminated, exit_code
from burnish.frontends.config import LoadError
from burnish.ir.budget import BudgetError
from burnish.ir.format import QuantizeError
from burnish.ir.literal import NoDataError
from burnish.ir.run import RunError
from burnish.ir.verify import VerifyError
from burnish.ir.weights import ReadError
from burnish.passes.engine import PassError
from burnish.passes.pipelines import PipelineError
from burnish.runtime.finite import NotFinite
from tests import models
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]


def test_the_table_of_codes_is_the_documented_one() -> None:
    errors = {
        CheckFailed(): 1,
        PipelineError(): 2,
        BindError(): 2,
        PermissionError(): 2,
        UnicodeEncodeError("utf-8", "\udc80", 0, 1, "a surrogate"): 2,
        LoadError(): 3,
        QuantizeError(): 3,
        NotFinite(): 1,
        ReadError(): 3,
        NoDataError(): 3,
        RecursionError(): 3,
        PassError(): 4,
        VerifyError("a fault"): 4,
        RunError(): 4,
        Inconclusive(): 5,
        BudgetError(): 6,
        MemoryError(): 6,
        KeyboardInterrupt(): 130,
        Terminated(): 143,
    }
    assert {e: exit_code(e) for e in errors} == errors
    documented = re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "commands.md").read_text("utf-8"), re.M)
    assert documented == sorted({"0", str(FAULT), *map(str, errors.values())}, key=int)
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


ARCHITECTURE = """
from burnish.frontends.architecture import Architecture

class Swim(Architecture):
    names = ("Swim",)
    def forward(self, op, ids):
        return {}["a stroke"]
"""
KERNEL = """
from burnish.backends.kernels.kernel import Kernel

class Sinking(Kernel):
    name, op = "silu.sinking", "silu"
    def why_not(self, op, x):
        return None
    def __call__(self, op, dtypes, x):
        return 1 // 0
"""
OP = """
from burnish.ir.op import Op

class Drown(Op):
    def infer(self, x):
        return x.shape.depth
"""


def line_of(text: str, plugin: str) -> int:
    return next(i for i, line in enumerate(plugin.splitlines(), 1) if text in line)


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize(
    ("plugin", "line", "code", "message"),
    [
        (ARCHITECTURE, "a stroke", 3, "KeyError: 'a stroke'"),
        (KERNEL, "1 // 0", 4, "ZeroDivisionError: integer division or modulo by zero"),
        (OP, "depth", 3, "infer raised AttributeError: 'tuple' object has no attribute 'depth'"),
    ],
    ids=["architecture", "kernel", "op"],
)
def test_a_plugin_that_crashes_is_named_with_its_line(
    cli: Cli, llama: Path, tmp_path: Path, plugin: str, line: str, code: int, message: str
) -> None:
    source, file = llama, tmp_path / "plugin.py"
    file.write_text(plugin)
    if plugin is ARCHITECTURE:
        source = shutil.copytree(llama, tmp_path / "model")
        _config(source, architectures=["SwimForCausalLM"])
    if plugin is OP:
        source = tmp_path / "model.graph"
        source.write_text("module { graph forward(%x: f32[2]) { %y: f32[2] = drown(%x) return y=%y } }")
    ran = cli("run", source, "--plugin", file, "--prompt-ids", "1,2", "--max-new-tokens", 2)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert message in ran.err and f"plugin {file}, line {line_of(line, plugin)}" in ran.err


# ------------------------------------------------------------------------------------------------------- 6: the budget


BOMB = """module { graph forward(%ids: i32[B, S] is tokens) {
  @0: f32[1000000000000] = broadcast_to(f32(1), shape=[1000000000000])
  @1: f32[1] = reduce_max(@0, axes=[0])
  %0: f32[B, S] = cast(%ids, to="f32")
  %1: f32[B, S] = add(%0, @1)
  return hidden=%1
} }"""


def test_a_graph_that_asks_for_too_much(cli: Cli, tmp_path: Path) -> None:
    source, out = tmp_path / "bomb.graph", tmp_path / "out"
    source.write_text(BOMB)
    lines = [("compile", source, "-o", out), ("run", source, "--prompt-ids", "1"), ("debug", "check", source)]
    for line in lines:
        code, _, err = cli(*line)
        assert (code, err.count("\n"), out.exists()) == (6, 1, False), line
        assert "broadcast_to(" in err and "--budget 4T allows it" in err
    assert cli("inspect", source).code == cli("opt", source).code == 0
    assert cli("compile", source, "-o", out, "--budget", "lots").code == 2


def test_a_budget_that_is_stated_is_the_limit(cli: Cli, llama: Path, tmp_path: Path) -> None:
    line = ("compile", llama, "-o", tmp_path / "p", "--quantize", "q4_0")
    code, _, err = cli(*line, "--budget", "10K")
    assert code == 6 and re.search("more than 10,240 .the budget that was stated.; --budget \\d+K allows it", err)
    assert list(tmp_path.iterdir()) == []
    assert cli(*line, "--budget", "1M").code == 0
    code, _, err = cli("run", llama, "--prompt-ids", "1,2", "--budget", "10K")
    assert code == 6 and "what 1 sequences of 64 tokens keep takes 32,768 bytes" in err


def test_memory_that_runs_out(cli: Cli, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 4.00 GiB")

    monkeypatch.setattr("burnish.runtime.doors.load", load)
    assert cli("inspect", llama) == (6, "", "error: out of memory: Unable to allocate 4.00 GiB\n")


# ------------------------------------------------------------------------------------------------- what is not text


def test_arguments_that_are_no_text(cli: Cli, llama: Path) -> None:
    code, out, err = cli("run", llama, "--prompt", "a \udc80 b")
    assert (code, out, err.count("\n")) == (2, "", 1) and "surrogates not allowed" in err
    for line in (("run", llama, "--prompt", "a\0b"), ("inspect", "model\0.onnx")):
        assert cli(*line) == (2, "", "error: an argument holds a NUL character\n")


def test_a_path_that_is_no_text(cli: Cli, llama: Path, tmp_path: Path) -> None:
    source = shutil.copytree(llama, tmp_path / "model \udcff")
    code, out, err = cli("inspect", source)
    assert (code, err) == (0, "") and out.startswith(f"{tmp_path}/model \\udcff: LlamaForCausalLM (checkpoint)")
    code, _, err = cli("inspect", tmp_path / "nothing \udcff")
    assert (code, err.count("\n")) == (3, 1)


# ------------------------------------------------------------------------------------------------------ where it goes


def test_places_where_no_package_goes(cli: Cli, llama: Path, tmp_path: Path) -> None:
    source = shutil.copytree(llama, tmp_path / "a" / "model")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "same").symlink_to(source)
    before = sorted(tmp_path.rglob("*"))
    for out, message in {
        "/": "is, or holds, the source",
        tmp_path: "is, or holds, the source",
        tmp_path / "a": "is, or holds, the source",
        source: "is, or holds, the source",
        source / ".." / "model": "is, or holds, the source",
        tmp_path / "same": "is, or holds, the source",
        tmp_path / "link": "is a link to",
        tmp_path / "file": "is there already, and is not a package",
        tmp_path / "file" / "p": "cannot be written",
        tmp_path / ("n" * 300): "cannot be written",
    }.items():
        for more in ((), ("--force",)):
            code, _, err = cli("compile", source, "-o", out, *more)
            assert (code, err.count("\n")) == (3, 1) and message in err, out
    assert sorted(tmp_path.rglob("*")) == before


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


STOPPED = """
import os, resource, signal, sys
from burnish.cli import main
from burnish.runtime import package

count, put = 0, package._put

def stop(file, piece):
    global count
    count += 1
    if count == 6 and sys.argv[1] == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    return put(file, piece)

package._put = stop
if sys.argv[1] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [("terminate", 143, "terminated"), ("full", 3, "cannot be written: [Errno 27] File too large")],
)
def test_what_stops_a_process_leaves_the_old_package(
    cli: Cli, llama: Path, tmp_path: Path, what: str, code: int, message: str
) -> None:
    out = tmp_path / "p"
    assert cli("compile", llama, "-o", out, "--quantize", "q8_0").code == 0
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    line = [sys.executable, "-c", STOPPED, what, "compile", str(llama), "-o", str(out), "--force"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before


def test_a_bug_of_ours_says_that_it_is_one(cli: Cli, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("burnish.runtime.doors.load", broken)
    code, out, err = cli("inspect", llama)
    assert (code, out, err.count("\n")) == (70, "", 1)
    assert re.match(rf"error: ZeroDivisionError: a bug at {__file__}, line \d+. This is a fault of Burnish", err)
    monkeypatch.setenv("BURNISH_DEBUG", "1")
    assert "Traceback (most recent call last)" in cli("inspect", llama).err


def test_a_reader_that_has_seen_enough(llama: Path) -> None:
    program = "import sys; from burnish.cli import main; main(sys.argv[1:])"
    line = [sys.executable, "-c", program, "inspect", str(llama)]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)


WHILE_NUMPY_IS_IMPORTED = """
import atexit, os, signal, sys
from burnish.cli import main

which = getattr(signal, sys.argv.pop(1))

class Stop:
    def find_spec(self, name, *_):
        if name == "numpy.linalg":
            os.kill(os.getpid(), which)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Stop())
atexit.register(print, "what other threads may be in the middle of is not torn down")
main()
"""


@pytest.mark.parametrize(("which", "code", "message"), [("SIGTERM", 143, "error: terminated\n"), ("SIGINT", 130, "\n")])
def test_a_process_that_is_ended_while_it_imports_or_compiles_ends_at_once(which: str, code: int, message: str) -> None:
    line = [sys.executable, "-c", WHILE_NUMPY_IS_IMPORTED, which, "inspect", "examples/tiny-lm"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", message)


@pytest.mark.parametrize(
    "how", ["raise SystemExit(0)", "raise SystemExit('bye')", "raise type('E', (BaseException,), {})"]
)
def test_a_plugin_does_not_end_the_process_as_if_all_were_well(cli: Cli, llama: Path, tmp_path: Path, how: str) -> None:
    (tmp_path / "plugin.py").write_text(how)
    code, out, err = cli("inspect", llama, "--plugin", tmp_path / "plugin.py")
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert f"plugin {tmp_path}/plugin.py, line 1" in err


@pytest.mark.usefixtures("registries")
def test_a_kernel_that_gives_no_results_is_named(cli: Cli, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(
        "from burnish.backends.kernels import Kernel\n"
        "class Empty(Kernel):\n"
        "    name, op = 'empty', 'silu'\n"
        "    def why_not(self, op, x): return None\n"
        "    def __call__(self, op, dtypes, x): return None\n"
    )
    code, _, err = cli("run", llama, "--prompt-ids", "1", "--plugin", tmp_path / "plugin.py")
    assert code == 4 and err.startswith("error: kernel empty of silu gives NoneType, not a tuple")
