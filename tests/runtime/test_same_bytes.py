"""The same input gives the same bytes: whatever the folder, the threads, the hash seed, the processor's features."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from burnish.frontends import architectures
from burnish.frontends.architecture import ARCHITECTURES, parameters
from burnish.frontends.config import Config
from burnish.frontends.files.safetensors import header_of

assert architectures

ROOT = Path(__file__).parents[2]
FEATURES = np.show_config(mode="dicts")["SIMD Extensions"]["found"]  # beyond NumPy's baseline, the oldest first
LEVELS = {f"without {FEATURES[i]} and later": " ".join(FEATURES[i:]) for i in range(min(2, len(FEATURES)))}
FORMATS = ("none", "q4_0", "q8_0", "int8")

COMPILE = """
import hashlib, json, sys
from pathlib import Path
from burnish.ir.op import Op
from burnish.passes.pipelines import quantized
from burnish.runtime.doors import load, optimize
from burnish.runtime.package import write_package
from burnish.runtime.tokenizer import Tokenizer

class Planted(Op):
    '''e ** x, which NumPy computes otherwise with other instructions'''
    elementwise = reproducible = True
    def infer(self, x): return x
    def eval(self, xp, x): return xp.exp(x)

source, out, *formats = sys.argv[1:]
found = {}
for format in formats:
    if format == "exp":
        module = optimize(load(source))
        graph = module.graphs["forward"]
        head = graph.ret.operands[0].node
        head.set_input(1, graph.ops.planted(graph.ops.cast(head.inputs[1], to="f32")))
        module.normalize()
    else:
        module = optimize(load(source), quantized(f"embedding={format};{format}"))
    folder = Path(out, format)
    tokenizer = Tokenizer.load(Path(source, "tokenizer.json"))
    write_package(module, folder, tokenizer=tokenizer, made_by={"pipeline": format})
    found[format] = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in bf16 with random weights, and a tokenizer."""
    config = {
        "architectures": ["LlamaForCausalLM"], "vocab_size": 99, "hidden_size": 96, "intermediate_size": 160,
        "num_hidden_layers": 2, "num_attention_heads": 4, "tie_word_embeddings": False,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("source")
    (folder / "config.json").write_text(json.dumps(config))
    types = parameters(ARCHITECTURES["Llama"], Config(config))
    rng = np.random.default_rng(0)
    data = [rng.standard_normal(t.sizes).astype(ml_dtypes.bfloat16).tobytes() for t in types.values()]
    header = header_of({n: t.with_dtype("bf16") for n, t in types.items()})
    (folder / "model.safetensors").write_bytes(header + b"".join(data))
    (folder / "tokenizer.json").write_bytes((ROOT / "examples" / "tiny-lm" / "tokenizer.json").read_bytes())
    return folder


def digests(source: Path, out: Path, *formats: str, **environment: str) -> dict[str, dict[str, str]]:
    """The sha256 of every file of a package in each format, made by a process of its own."""
    command = [sys.executable, "-c", COMPILE, str(source), str(out), *formats]
    environment = {**os.environ, **environment}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, dict[str, str]] = json.loads(run.stdout)
    return found


@pytest.fixture(scope="module")
def expected(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    found = digests(checkpoint, tmp_path_factory.mktemp("out"), *FORMATS, "exp")
    every = {"manifest.json", "model.graph", "embedding.safetensors", "block_01.safetensors", "tokenizer.txt"}
    assert all(every <= f.keys() for f in found.values())
    assert len({f["lm.safetensors"] for f in found.values()}) == len(found)
    return found


VARIATIONS = {
    "one thread": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "another hash seed": {"PYTHONHASHSEED": "12345"},
    **{name: {"NPY_DISABLE_CPU_FEATURES": features} for name, features in LEVELS.items()},
}


@pytest.mark.parametrize(
    "variation",
    [pytest.param(v, marks=() if v == "another hash seed" else pytest.mark.slow) for v in VARIATIONS],
)
def test_the_same_bytes(checkpoint: Path, expected: dict, tmp_path: Path, variation: str) -> None:
    found = digests(checkpoint, tmp_path, *FORMATS, **VARIATIONS[variation])
    assert found == {f: expected[f] for f in FORMATS}


def test_the_same_bytes_in_and_from_another_folder(checkpoint: Path, expected: dict, tmp_path: Path) -> None:
    moved = tmp_path / "a folder" / "of another length"
    moved.mkdir(parents=True)
    for file in checkpoint.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert digests(moved, tmp_path / "b", *FORMATS) == {f: expected[f] for f in FORMATS}


@pytest.mark.skipif(not FEATURES, reason="this processor has nothing beyond NumPy's baseline to switch off")
def test_an_op_that_is_not_reproducible_is_found(checkpoint: Path, expected: dict, tmp_path: Path) -> None:
    """`exp` declared reproducible: the comparison above can fail."""
    found = digests(checkpoint, tmp_path, "exp", NPY_DISABLE_CPU_FEATURES=" ".join(FEATURES))
    changed = {name for name, digest in found["exp"].items() if digest != expected["exp"][name]}
    assert changed == {"lm.safetensors", "manifest.json"}
