"""The models of benchmarks/cpu_peers.py, each stored for every engine that there is, in a folder of their own.

    python -m benchmarks.peer_models PEERS [--llama-cpp SOURCE] [S] [M] [minilm]

Random weights in the shapes of Qwen2.5-0.5B (S) and TinyLlama-1.1B (M), as Llamas, and of MiniLM-L6 (minilm). What is
there already is left as it is, and an engine that is not installed is said and passed over. README.md beside the
results says how to install them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import burnish
from burnish.passes.pipelines import quantized
from tests import models

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("peers", type=Path, metavar="PEERS")
parser.add_argument("models", nargs="*", metavar="MODEL", help="S, M, minilm (default: all)")
parser.add_argument("--llama-cpp", type=Path, metavar="SOURCE", help="llama.cpp's sources, which hold its converter")

LLAMAS: dict[str, dict[str, Any]] = {
    "S": {
        "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32768,
        "rope_theta": 1e6, "tie_word_embeddings": True, "attention_bias": True,
    },
    "M": {
        "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048,
    },
}  # fmt: skip
BERT = {
    "vocab_size": 30522, "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
    "num_attention_heads": 12, "max_position_embeddings": 512,
}  # fmt: skip

#: what makes a file or folder, and what it makes
Step = tuple[Path, Callable[[Path], object]]


def main() -> None:
    """Make what is not there."""
    options = parser.parse_args()
    for name in options.models or [*LLAMAS, "minilm"]:
        steps = encoder(options.peers, name) if name == "minilm" else decoder(options.peers, name, options.llama_cpp)
        for target, make in steps:
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                make(target)
                print(target)
            except (ImportError, OSError, subprocess.CalledProcessError) as e:
                print(f"{target}: not made: {e}")


def decoder(peers: Path, name: str, llama_cpp: Path | None) -> Iterator[Step]:
    """A Llama for each engine; S has its table and its head in 4 bits too, as all have them."""
    source = peers / "models" / name
    yield source, lambda out: save_llama(name, out)
    yield from packages(peers, name)
    bf16 = peers / "gguf" / f"{name}-bf16.gguf"
    yield bf16, lambda out: convert_to_gguf(llama_cpp, source, out)
    for kind in ("q4_0", "q8_0"):
        yield (
            peers / "gguf" / f"{name}-{kind}.gguf",
            lambda out, kind=kind: run(peers / "llama_cpp", "quantize", bf16, out, kind),
        )
    yield peers / "onnxruntime" / f"{name}-int4", lambda out: run(
        sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", source, "-o", out, "-p", "int4", "-e", "cpu",
        "--extra_options", "int4_accuracy_level=4", "int4_block_size=32", "int4_is_symmetric=true",
    )  # fmt: skip
    yield peers / "openvino" / f"{name}-int4", lambda out: run(
        "optimum-cli", "export", "openvino", "--model", source, "--task", "text-generation-with-past",
        "--weight-format", "int4", "--sym", "--group-size", "32", "--ratio", "1.0", "--all-layers", out,
    )  # fmt: skip


def encoder(peers: Path, name: str) -> Iterator[Step]:
    """A BERT for each engine."""
    source, onnx = peers / "models" / name, peers / "onnx" / f"{name}-f32.onnx"
    yield source, save_bert
    yield from packages(peers, name)
    yield onnx, lambda out: export(source, out)
    yield peers / "onnx" / f"{name}-int8.onnx", lambda out: quantize_onnx(onnx, out)


def packages(peers: Path, name: str) -> Iterator[Step]:
    """Burnish's own."""
    for kind in ("q4_0", "q8_0", "none"):
        recipe = "none" if kind == "none" else f"embedding={kind};lm={kind};{kind}"
        yield (
            peers / "packages" / f"{name}-{kind}",
            lambda out, recipe=recipe: burnish.compile(
                burnish.optimize(burnish.load(peers / "models" / name), quantized(recipe)), out
            ),
        )


def save_llama(name: str, out: Path) -> None:
    """In bf16."""
    import torch

    model = models.made("LlamaForCausalLM", bos_token_id=1, eos_token_id=2, **LLAMAS[name])
    models.saved(model.to(torch.bfloat16), out)
    words_for(out)


def save_bert(out: Path) -> None:
    """In f32."""
    models.saved(models.bert(**BERT), out)


def words_for(folder: Path) -> None:
    """A tokenizer, which the converters ask for; no engine uses it."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = models.byte_tokenizer()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def convert_to_gguf(llama_cpp: Path | None, source: Path, out: Path) -> None:
    """By llama.cpp's own converter, which asks which of the tokenizers that it knows this is."""
    if llama_cpp is None:
        raise ImportError("give --llama-cpp")
    code = (
        f"import sys; sys.path[:0] = [{str(llama_cpp)!r}, {str(llama_cpp / 'gguf-py')!r}]\n"
        "import conversion.base as base; base.TextModel.get_vocab_base_pre = lambda self, tokenizer: 'qwen2'\n"
        "import convert_hf_to_gguf; convert_hf_to_gguf.main()"
    )
    run(sys.executable, "-c", code, source, "--outfile", out, "--outtype", "bf16")


def export(source: Path, out: Path) -> None:
    """An encoder by PyTorch's exporter."""
    from transformers import AutoModel

    models.exported(AutoModel.from_pretrained(source).eval(), out)


def quantize_onnx(source: Path, out: Path) -> None:
    """By ONNX Runtime's dynamic quantization."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, out, weight_type=QuantType.QInt8)


def run(*line: object) -> None:
    """A command. Raises CalledProcessError."""
    subprocess.run([str(word) for word in line], check=True, capture_output=True)


if __name__ == "__main__":
    main()
