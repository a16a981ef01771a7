"""One file outside of the repository adds one of everything that can be added; nothing else changes."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import burnish
from burnish.cli import main
from burnish.frontends.architecture import parameters
from burnish.frontends.config import Config, LoadError
from burnish.ir import FORMATS, LAYOUTS, parse
from burnish.ir.discover import load_plugin
from burnish.ir.format import Packed
from burnish.ir.ops.linear import Linear
from burnish.ir.types import NUMPY
from burnish.ir.weights import MemoryWeights
from burnish.passes.pipelines import quantized
from burnish.testing import Example, check_architecture, check_format, check_op, check_rule
from tests import models

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "plugin.py"
CONFIG = {
    "architectures": ["EchoForCausalLM"],
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 48,
}
FLAGGING = CONFIG | {"architectures": ["EchoForFlagging"]}
IN_TRITS = {"quantization_config": {"quant_method": "trits"}}

Tensors = Mapping[str, np.ndarray]
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(registries: None, tmp_path: Path) -> Path:
    """The example, copied out of the repository; what it registers is gone after the test."""
    return Path(shutil.copy(EXAMPLE, tmp_path / "outside.py"))


@pytest.fixture
def plugin(file: Path) -> ModuleType:
    return load_plugin(file)


def tensors_of(plugin: ModuleType, config: Mapping[str, Any] = CONFIG) -> Tensors:
    """Random weights for a model of the plugin's architecture."""
    rng, head = np.random.default_rng(0), config["architectures"][0].removeprefix("Echo")
    shapes = {k: t.sizes for k, t in parameters(plugin.Echo, Config(config), head).items()}
    return {k: rng.standard_normal(s).astype("f4") / s[-1] ** 0.5 for k, s in shapes.items()}


def in_trits(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """Random products in place of the model's, as the plugin's container has them, and what those are."""
    rng, stored, meant = np.random.default_rng(1), dict(tensors), dict(tensors)
    for name in tensors.keys() - {"embed.weight"}:
        rows, inputs = stored.pop(name).shape
        codes = rng.integers(0, 3, (rows, inputs // 16, 16))
        scale = rng.uniform(0.1, 0.3, (rows, inputs // 16)).astype("f2")
        module = name.removesuffix(".weight")
        stored[f"{module}.trits"] = (codes << 2 * np.arange(16)).sum(-1).astype("u4").view("i4")
        stored[f"{module}.scale"] = scale
        meant[name] = ((codes - 1) * scale.astype("f8")[..., None]).reshape(rows, inputs)
    return stored, meant


def saved(folder: Path, tensors: Tensors, config: Mapping[str, Any] = CONFIG) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(dict(tensors), folder / "model.safetensors")
    return folder


def zipped(file: Path, tensors: Tensors, config: Mapping[str, Any] = CONFIG) -> Path:
    np.savez(file, config=json.dumps(config), **tensors)  # type: ignore[arg-type]
    return file


def by_hand(tensors: Tensors, ids: list[int], product: str = "lm_head") -> np.ndarray:
    """What Echo makes of one sequence, in float64: [S, rows of `product`]."""
    w = {k: t.astype("f8") for k, t in tensors.items()}
    x, future = w["embed.weight"][ids], ~np.tri(len(ids), dtype=bool)
    for i in range(CONFIG["num_hidden_layers"]):
        scale = np.abs(x).max(-1, keepdims=True) + 1e-6
        heads = (x / scale).reshape(len(ids), 4, 8).transpose(1, 0, 2)
        scores = heads @ heads.transpose(0, 2, 1) / 8**0.5
        p = np.where(future, 0, np.exp(scores))
        mixed = (p / p.sum(-1, keepdims=True) @ heads).transpose(1, 0, 2).reshape(x.shape)
        x = mixed @ w[f"blocks.{i}.out.weight"].T + x
    return x @ w[f"{product}.weight"].T


def greedy_by_hand(tensors: Tensors, prompt: list[int], new: int) -> list[int]:
    ids = list(prompt)
    for _ in range(new):
        ids.append(int(by_hand(tensors, ids)[-1].argmax()))
    return ids[len(prompt) :]


@pytest.fixture
def echo(plugin: ModuleType, tmp_path: Path) -> Path:
    """A checkpoint of the plugin's architecture."""
    return saved(tmp_path / "echo", tensors_of(plugin))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(a) for a in arguments])
        assert isinstance(end.value.code, int)
        return end.value.code, *capsys.readouterr()

    return run


def near(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return bool(np.abs(ours - theirs).max() <= models.WITHIN * np.abs(theirs).max())


# ------------------------------------------------------------------------------------------------------------ the laws


def test_the_op_obeys_the_laws_of_ops(plugin: ModuleType) -> None:
    def oracle(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = np.max(np.abs(x), 1, keepdims=True) + 1e-6
        return x / s, s

    x = np.random.default_rng(0).standard_normal((3, 5)).astype("f4")
    check_op(plugin.ScaleApart, Example(plugin.ScaleApart(axis=1), (x,), oracle))


def test_the_rule_obeys_the_laws_of_rules(plugin: ModuleType) -> None:
    check_rule(plugin.ScaleBack)


def test_the_format_obeys_the_laws_of_formats_in_its_layout_too(plugin: ModuleType) -> None:
    check_format(FORMATS["ternary"])
    x = np.array([[0.5, -0.4, 0.1, 0.0] * 4], np.float32)
    packed = Packed.quantize(np, x, "ternary")
    assert [p.name for p in FORMATS["ternary"].parts] == ["scale", "code"]
    assert packed.dequantize(np).tolist() == [[0.5, -0.5, 0.0, 0.0] * 4]
    planes = packed.relayout(np, "planes").planes
    shapes = {k: (p.dtype.name, p.shape) for k, p in planes.items()}
    assert shapes == {"scale": ("float16", (1, 1)), "code": ("uint8", (1, 4))}
    planes = packed.relayout(np, "signs").planes
    assert {k: p.tolist() for k, p in planes.items()} == {"scale": [[0.5]], "sign": [[1, -1, 0, 0] * 4]}
    assert LAYOUTS["signs"].accepts(FORMATS["q4_0"], (1, 32)) == "q4_0 has other codes than -1, 0 and 1"


def test_a_layout_that_loses_a_bit_is_found(plugin: ModuleType) -> None:
    class SignsWrongly(plugin.Signs):  # type: ignore[misc,name-defined]
        name = "signs.wrongly"

        def pack(self, xp: Any, format: Any, parts: Any, shape: Any) -> Any:
            planes = super().pack(xp, format, parts, shape)
            return planes | {"sign": xp.clip(planes["sign"], -1, 1)}  # two bits have a fourth value

    with pytest.raises(AssertionError, match=r"signs\.wrongly"):
        check_format(FORMATS["ternary"])


@pytest.mark.parametrize("head", ["ForCausalLM", "ForFlagging"])
@pytest.mark.parametrize("backend", ["numpy", "in-signs", pytest.param("xla", marks=pytest.mark.slow)])
def test_architecture_and_head_obey_the_laws_of_architectures(plugin: ModuleType, backend: str, head: str) -> None:
    check_architecture(plugin.Echo, CONFIG, backend, head=head)


def test_a_law_that_is_broken_is_found(plugin: ModuleType) -> None:
    class ScaleApartWrongly(plugin.ScaleApart):  # type: ignore[misc,name-defined]
        """x / s, and a scale that is not s."""

        def eval(self, xp: Any, x: Any) -> Any:
            y, s = super().eval(xp, x)
            return y, s * 1.01

    def oracle(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = np.max(np.abs(x), 1, keepdims=True) + 1e-6
        return x / s, s

    with pytest.raises(AssertionError, match="NumPy against the oracle"):
        check_op(ScaleApartWrongly, Example(ScaleApartWrongly(axis=1), (np.ones((2, 3), "f4"),), oracle))


# --------------------------------------------------------------------------------------------------------- the kernels


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(
    ("kernel", "layout"), [("LinearSigns", "signs"), *(("LinearSignsXla", k) for k in ("", "planes", "signs"))]
)
def test_a_kernel_makes_the_product(plugin: ModuleType, kernel: str, layout: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    w = Packed.made_up("ternary", (5, 48), rng)
    x, b = rng.standard_normal((2, 3, 48)).astype(NUMPY[dtype]), rng.standard_normal(5).astype("f4")
    exact, matrix = x.astype("f8"), w.dequantize(np).astype("f8")
    made, w = getattr(plugin, kernel)(), w.relayout(np, layout)
    for bias in (None, b):
        operands = [o if kernel == "LinearSigns" else on_device(o) for o in (x, w, bias)]
        (y,) = made(Linear(to="f32"), ["f32"], *operands)
        terms = np.abs(exact) @ np.abs(matrix).T + (0 if bias is None else np.abs(bias))
        wanted = exact @ matrix.T + (0 if bias is None else bias)
        assert y.dtype == np.float32 and (np.abs(np.asarray(y) - wanted) <= 50 * 2.0**-24 * terms).all()


def on_device(x: Any) -> Any:
    import jax

    return jax.tree.map(jax.numpy.asarray, x)


@pytest.mark.parametrize(
    ("form", "backend", "plan"),
    [
        *((form, "in-signs", ["3 x linear: kernel linear.signs"]) for form in ("checkpoint", "npz", "package")),
        pytest.param(
            "package",
            "xla",
            ["1 x linear: kernel linear.signs (in the loop)", "1 x linear: kernel linear.signs"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_from_stored_trits_to_logits(
    form: str, backend: str, plan: list[str], plugin: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container packs them, the target lays them out, and its kernel, which is asked before ours, reads them."""
    stored, meant = in_trits(tensors_of(plugin))
    config = CONFIG | IN_TRITS
    path = zipped(tmp_path / "echo.npz", stored, config) if form == "npz" else saved(tmp_path / "echo", stored, config)
    if form == "package":
        burnish.compile(burnish.optimize(burnish.load(path)), path := tmp_path / "package")
    model = burnish.executable(burnish.load(path), backend)
    lines = model.plan_text().splitlines()
    assert [line for line in lines if "x linear" in line] == plan and model.fallbacks() == []

    runs, kernel = [], plugin.LinearSigns if backend == "in-signs" else plugin.LinearSignsXla
    call = kernel.__call__
    monkeypatch.setattr(kernel, "__call__", lambda *args: runs.append(args) or call(*args))
    ids = [3, 1, 4, 1, 5]
    assert near(model.forward(np.array([ids]))["logits"][0], by_hand(meant, ids))
    assert len(runs) == sum(int(line.split()[0]) for line in plan)
    assert list(model.generate(ids, 4)) == greedy_by_hand(meant, ids, 4)


def test_what_the_container_lacks_is_named(plugin: ModuleType, tmp_path: Path) -> None:
    stored = dict(in_trits(tensors_of(plugin))[0])
    del stored["blocks.1.out.scale"]
    with pytest.raises(LoadError, match=r"missing tensors: 'blocks\.1\.out\.weight' \(nearest: 'blocks\.1\.out"):
        burnish.load(saved(tmp_path / "echo", stored, CONFIG | IN_TRITS))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is not an .npz file of tensors"), (b"PK\3\4nothing", "is not an .npz file"), ("array", "'config")],
)
def test_a_source_that_cannot_be_read_is_refused(
    plugin: ModuleType, tmp_path: Path, content: bytes | str, message: str
) -> None:
    file = tmp_path / "echo.npz"
    file.write_bytes(content) if isinstance(content, bytes) else np.savez(file, x=np.zeros(1))
    with pytest.raises(LoadError, match=message):
        burnish.load(file)


# ---------------------------------------------------------------------------------------------------- the command line


@pytest.mark.slow
def test_a_model_of_the_plugin_goes_through_every_command(file: Path, echo: Path, tmp_path: Path, cli: Cli) -> None:
    more, prompt = ("--plugin", file), ("--prompt-ids", "1,2,3", "--max-new-tokens", 4)
    code, text, _ = cli("opt", echo, "--pipeline", "", *more)
    assert code == 0
    assert ", %0." in text and "= scale_apart(" in text  # two results
    assert str(parse(text)) == text
    code, _, remarks = cli("opt", echo, "--pipeline", "drop-scales", "--remarks", *more)
    assert code == 0 and "2× drop-scales/ScaleBack" in remarks
    assert "another user" in remarks or "other user" in remarks  # the scaled rows are what attention reads
    assert cli("debug", "check", echo, "--pipeline", "default,drop-scales", *more)[0] == 0

    (numpy, xla) = (cli("run", echo, *prompt, *more, "--backend", b) for b in ("numpy", "xla"))
    assert numpy == xla
    assert (numpy[0], len(numpy[1].split())) == (0, 4)

    package = tmp_path / "package"
    code, out, err = cli("compile", echo, "-o", package, "--quantize", "ternary", *more)
    assert (code, err) == (0, "note: embed stays as it is: the recipe has no rule for it\n")  # the table of tokens
    assert "block_00..01: ternary 384 bytes each" in out  # 32 x 32 weights of 3 bits, scales included
    numpy, xla, signs = (cli("run", package, *prompt, *more, "--backend", b) for b in ("numpy", "xla", "in-signs"))
    assert numpy == xla == signs
    assert (numpy[0], len(numpy[1].split())) == (0, 4)
    assert cli("inspect", package, *more)[0] == 0


@pytest.mark.slow
def test_a_file_of_its_source_in_its_container_goes_through_every_command(
    file: Path, plugin: ModuleType, tmp_path: Path, cli: Cli
) -> None:
    stored, meant = in_trits(tensors_of(plugin))
    model, more = zipped(tmp_path / "echo.npz", stored, CONFIG | IN_TRITS), ("--plugin", file)
    code, out, _ = cli("inspect", model, *more)
    assert code == 0 and out.startswith(f"{model}: EchoForCausalLM (npz)\n")
    bytes_of = dict(re.findall(r"(block_00\.\.01|lm) +([\d,]+) .* ternary\n", out))
    assert bytes_of == {"block_00..01": "768", "lm": "576"}  # 2 x 32 x 32 and 48 x 32 weights of 3 bits
    code, text, _ = cli("opt", model, "--pipeline", "default,in-signs", *more)
    assert (code, text.count("relayout(")) == (0, 3) and ": ternary.signs[48, 32] =" in text
    assert "  in-signs\n      set-layouts{layout=signs} linear.signs reads no other" in cli("opt", "--list", *more)[1]
    assert cli("debug", "check", model, "--pipeline", "default,drop-scales,stateful,in-signs", *more)[0] == 0

    tokens = " ".join(map(str, greedy_by_hand(meant, [1, 2, 3], 4)))
    package = tmp_path / "package"
    assert cli("compile", model, "-o", package, *more)[0] == 0
    for path, backend in ((model, "in-signs"), (package, "in-signs"), (package, "xla")):
        prompt = ("--prompt-ids", "1,2,3", "--max-new-tokens", 4, "--backend", backend, "--require-kernels")
        code, out, err = cli("run", path, *prompt, "--stats", *more)
        assert (code, out.strip()) == (0, tokens) and "x linear: kernel linear.signs" in err


def test_the_head_answers_for_each_token(file: Path, plugin: ModuleType, tmp_path: Path, cli: Cli) -> None:
    tensors, ids = tensors_of(plugin, FLAGGING), [7, 2, 9, 40]
    model = zipped(tmp_path / "flagging.npz", tensors, FLAGGING)
    code, out, _ = cli("run", model, "--prompt-ids", "7,2,9,40", "--plugin", file, "--group", "none")
    scores = by_hand(tensors, ids, "flag")
    scores = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    best = [("fine", "flagged")[i] for i in scores.argmax(-1)]
    assert (code, set(best)) == (0, {"fine", "flagged"})
    assert out == "".join(f"{i}: {b} {s:.4f}\n" for i, b, s in zip(ids, best, scores.max(-1), strict=True))


def test_packed_and_dequantized_weights_mean_the_same(echo: Path) -> None:
    module = burnish.load(echo)
    packed = burnish.optimize(module, quantized("ternary"))
    dequantized = burnish.optimize(module, "default")
    source = dequantized.source = MemoryWeights({name: module.source.read(name) for name in module.weights})
    for name, w in source.arrays.items():
        if "out" in name or "head" in name:
            w[:] = Packed.quantize(np, w, "ternary").dequantize(np)
    ids = [1, 2, 3, 4]
    expected = by_hand(source.arrays, ids)
    for m, backend in itertools.product((packed, dequantized), ("numpy", "in-signs", "xla")):
        assert near(burnish.executable(m, backend, "float").forward(np.array([ids]))["logits"][0], expected)
    plain = burnish.executable(module).forward(np.array([ids]))["logits"][0]
    assert np.abs(expected - plain).max() > 1e-2 * np.abs(plain).max()  # three values are few


@pytest.mark.slow
def test_a_package_of_a_plugin_asks_for_it(file: Path, echo: Path, tmp_path: Path) -> None:
    """In another process, which never saw the plugin: the message names the op or the format."""

    def run(*lines: tuple[object, ...]) -> list[tuple[int, str]]:
        """The exit code and the messages of commands, each in what the one before left."""
        program = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from burnish.cli import main
for line in json.loads(sys.argv[1]):
    with redirect_stderr(io.StringIO()) as err, redirect_stdout(io.StringIO()):
        try:
            main(line)
        except SystemExit as e:
            code = e.code
    print(json.dumps([code, err.getvalue()]))
"""
        given = json.dumps([[str(a) for a in line] for line in lines])
        command = [sys.executable, "-c", program, given]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return [tuple(json.loads(line)) for line in ran.stdout.splitlines()]

    burnish.compile(burnish.load(echo), tmp_path / "op")
    llama = burnish.load(models.saved(models.llama(), tmp_path / "llama"))
    burnish.compile(burnish.optimize(llama, quantized("ternary")), tmp_path / "format")
    lines = (("run", tmp_path / "op", "--prompt-ids", "1"), ("inspect", tmp_path / "format"))
    refused = run(*lines, ("inspect", echo))
    assert [(code, err.count("\n")) for code, err in refused[:2]] == [(3, 1)] * 2
    (_, of_op), (_, of_format), (code, of_architecture) = refused
    assert "op 'scale_apart' is not known; give the --plugin that defines it" in of_op
    assert "model.graph: line 10: unknown element type 'ternary', built in or of a plugin" in of_format
    assert code == 3
    assert "architecture 'EchoForCausalLM' is not supported" in of_architecture and "--plugin" in of_architecture
    for line in lines:
        assert run((*line, "--plugin", file))[0][0] == 0
