"""The matrix: every family, source, precision, backend and package, each against transformers on rounded weights.

`make matrix` runs all cells, writes the table into README.md and the errors to benchmarks/results/matrix.json;
tests/test_matrix.py runs the same cells: a sample with the other tests, all by `make parity`.
"""

from __future__ import annotations

import itertools
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers.models.mixtral.modeling_mixtral import MixtralExperts
from transformers.pytorch_utils import Conv1D

import burnish
from burnish.ir.module import Module
from burnish.passes.pipelines import quantized
from tests import models
from tests.packed_files import as_gguf, as_gptq

ROOT = Path(__file__).parents[1]
SIZES = {"vocab_size": 96, "max_position_embeddings": 64} | models.SIZES
GROUPED = SIZES | {"num_key_value_heads": 2}
GPT2 = {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
DISTILBERT = {"vocab_size": 96, "max_position_embeddings": 64, "dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 4}
BART = {"vocab_size": 96, "d_model": 64, "max_position_embeddings": 64, "encoder_layers": 2, "decoder_layers": 2}
BART |= {f"{side}_{n}": x for side in ("encoder", "decoder") for n, x in (("attention_heads", 4), ("ffn_dim", 96))}
MODERNBERT = SIZES | {"local_attention": 6, "pad_token_id": 0, "global_attn_every_n_layers": 2}
#: families with a column of every source and precision, and those that show a checkpoint in two precisions
FAMILIES: dict[str, Callable[[], Any]] = {"Llama": models.llama, "BERT": models.bert, "T5": models.t5}
FURTHER: dict[str, Callable[[], Any]] = {
    "Qwen2": partial(models.made, "Qwen2ForCausalLM", **GROUPED),
    "Qwen3": partial(models.made, "Qwen3ForCausalLM", **GROUPED, head_dim=32),
    "Mistral": models.mistral,
    "Gemma 2": partial(models.gemma2, hidden_size=64),
    "GPT-2": partial(models.made, "GPT2LMHeadModel", **GPT2),
    "GPT-NeoX": partial(models.made, "GPTNeoXForCausalLM", **SIZES),
    "Phi-3": partial(models.made, "Phi3ForCausalLM", **GROUPED, pad_token_id=0, eos_token_id=1),
    "Mixtral": partial(models.made, "MixtralForCausalLM", **GROUPED, num_local_experts=4),
    "OLMo 2": partial(models.made, "Olmo2ForCausalLM", **GROUPED),
    "Cohere": partial(models.made, "CohereForCausalLM", **GROUPED),
    "Mamba": partial(models.mamba, hidden_size=64),
    "RoBERTa": partial(models.made, "RobertaModel", **SIZES, type_vocab_size=1),
    "DistilBERT": partial(models.made, "DistilBertModel", **DISTILBERT),
    "ModernBERT": partial(models.made, "ModernBertModel", **MODERNBERT),
    "BART": partial(models.made, "BartForConditionalGeneration", **BART),
}
SOURCES = ("checkpoint", "ONNX")
#: name -> (format of the weights, activations, largest error relative to the largest output)
PRECISIONS = {
    "f32": ("none", "float", models.WITHIN),
    "q8_0 W8A16": ("q8_0", "float", models.WITHIN),
    "q4_0 W4A16": ("q4_0", "float", models.WITHIN),
    # A rounding to int8 that falls the other way, for the sake of the last bit of an f32, is off by a step of 1/127.
    "q4_0 W4A8": ("q4_0", "int8", 1 / 127),
    "as it is packed": ("none", "float", models.WITHIN),
}
#: of a GGUF file, by how the names of tensors end
MIXED = {"embed_tokens": "Q8_0", "lm_head": "Q6_K", "v_proj": "Q6_K", "down_proj": "Q5_0", "up_proj": "Q4_1"}
MIXED |= {"gate_proj": "Q4_K", "o_proj": "F16", "_proj": "Q4_0"}
BACKENDS = {"NumPy": "numpy", "XLA": "xla"}
EMPTY = {("T5", "ONNX"): "torch.onnx.export(dynamo=True) cannot write T5"}


@dataclass(frozen=True)
class Row:
    """One line of the table; its cells are backends, fresh and from a package."""

    family: str
    source: str
    precision: str

    def __str__(self) -> str:
        return f"{self.family}, {self.source}, {self.precision}"


ROWS = [Row(*x) for x in itertools.product(FAMILIES, SOURCES, list(PRECISIONS)[:4])]
ROWS += [Row(*x) for x in itertools.product(FURTHER, SOURCES[:1], ("f32", "q4_0 W4A16"))]
ROWS += [Row("Llama", source, "as it is packed") for source in ("GGUF", "GPTQ")]


@cache
def folder() -> Path:
    """Where the models of this process lie."""
    return Path(tempfile.mkdtemp(prefix="burnish-matrix-"))


@cache
def packed(source: str) -> tuple[Path, Any]:
    """A Llama as others pack it, and the oracle on the numbers that this stands for."""
    oracle = models.llama(hidden_size=256, intermediate_size=512)
    if source == "GGUF":
        return as_gguf(folder() / "llama.gguf", oracle, MIXED), oracle
    return as_gptq(folder() / "gptq", oracle), oracle


@cache
def source_of(family: str, source: str) -> Path:
    """The file or folder of a model."""
    if source in ("GGUF", "GPTQ"):
        return packed(source)[0]
    model = (FAMILIES | FURTHER)[family]()
    if source == "checkpoint":
        return models.saved(model, folder() / family)
    return models.exported(model, folder() / f"{family}.onnx")


@cache
def oracle_of(row: Row) -> Any:
    """The model in transformers, the weights of its products rounded as the precision says."""
    if row.source in ("GGUF", "GPTQ"):
        return packed(row.source)[1]
    format, activations, _ = PRECISIONS[row.precision]
    model = (FAMILIES | FURTHER)[row.family]()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight = torch.nn.Parameter(_as_stored(module.weight, format))
        elif isinstance(module, Conv1D):  # [inputs, outputs]
            module.weight = torch.nn.Parameter(_as_stored(module.weight.T, format).T)
        elif isinstance(module, MixtralExperts):
            for name in ("gate_up_proj", "down_proj"):
                setattr(module, name, torch.nn.Parameter(_as_stored(getattr(module, name), format)))
        if isinstance(module, torch.nn.Linear) and activations == "int8":
            module.register_forward_pre_hook(lambda module, inputs: (_rounded(inputs[0]), *inputs[1:]))
    return model


def _as_stored(weight: torch.Tensor, format: str) -> torch.Tensor:
    """What the numbers are after they were stored so, by gguf-py; a width that groups do not divide stays."""
    if format == "none" or weight.shape[-1] % 32:
        return weight.detach()
    kind = gguf.GGMLQuantizationType[format.upper()]
    stored = gguf.quants.quantize(np.ascontiguousarray(weight.detach().numpy()), kind)
    return torch.tensor(gguf.quants.dequantize(stored, kind))


def _rounded(x: torch.Tensor) -> torch.Tensor:
    """int8 in groups of 32, f32 scales."""
    groups = x.reshape(*x.shape[:-1], -1, 32)
    scale = groups.abs().amax(-1, keepdim=True) / 127
    return ((groups / scale.clamp_min(1e-30)).round() * scale).reshape(x.shape)


@cache
def module_of(row: Row, packaged: bool) -> Module:
    """The optimised module, as it is or read back from a package."""
    pipeline = quantized(PRECISIONS[row.precision][0])
    module = burnish.optimize(burnish.load(source_of(row.family, row.source)), pipeline)
    if not packaged:
        return module
    out = folder() / re.sub(r"\W", "_", str(row))
    burnish.compile(module, out)
    return burnish.load(out)


def cells(row: Row) -> Iterator[tuple[str, bool]]:
    """(backend, packaged)."""
    yield from itertools.product(BACKENDS, (False, True))


def error_of(row: Row, backend: str, packaged: bool) -> float:
    """The largest error over the outputs of forward, prefill and decode, relative to the largest output."""
    executable = burnish.executable(module_of(row, packaged), BACKENDS[backend], PRECISIONS[row.precision][1])
    pairs = list(_run_of(row.family)(executable, oracle_of(row)))
    scale = max(np.abs(expected).max() for _, expected in pairs)
    return float(max(np.abs(got - expected).max() for got, expected in pairs) / scale)


Pairs = Iterator[tuple[np.ndarray, np.ndarray]]


def _llama(executable: Any, oracle: Any) -> Pairs:
    ids = models.tokens((2, 8))
    expected = models.logits_of(oracle, input_ids=ids)
    yield executable.forward(ids)["logits"], expected
    state = executable.start(2, 8)
    yield executable.prefill(ids[:, :7], state), expected[:, 6]
    yield executable.decode(ids[:, 7], state), expected[:, 7]


def _bert(executable: Any, oracle: Any) -> Pairs:
    ids, count = models.tokens((2, 8)), np.array([8, 5], np.int32)
    mask = (np.arange(8) < count[:, None]).astype(np.int32)
    with torch.no_grad():
        hidden = oracle(torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long()).last_hidden_state.numpy()
    given = {v.name for v in executable.module.graphs["forward"].inputs}
    more = {"attention_mask": mask} if "attention_mask" in given else {}
    result = executable.forward(ids, count, **more)["hidden"]
    for b, n in enumerate(count):
        yield result[b, :n], hidden[b, :n]


def _t5(executable: Any, oracle: Any) -> Pairs:
    source, ids = models.tokens((2, 6)), models.tokens((2, 5), seed=1)
    expected = models.logits_of(oracle, input_ids=source, decoder_input_ids=ids)
    state = executable.start(2, 8, encoder_ids=source)
    yield executable.prefill(ids[:, :4], state), expected[:, 3]
    yield executable.decode(ids[:, 4], state), expected[:, 4]


def _run_of(family: str) -> Callable[[Any, Any], Pairs]:
    """An encoder, an encoder-decoder, or a decoder."""
    encoders = {"BERT": _bert, "RoBERTa": _bert, "DistilBERT": _bert, "ModernBERT": _bert}
    return (encoders | {"T5": _t5, "BART": _t5}).get(family, _llama)


def table(filled: dict[tuple[Row, str, bool], bool]) -> str:
    """The table of the README."""
    heads = [f"{backend}{', package' if packaged else ''}" for backend, packaged in cells(ROWS[0])]
    lines = [f"| model, source, precision | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for row in ROWS:
        if (why := EMPTY.get((row.family, row.source))) is not None:
            marks = [f"— ({why})" if row.precision == "f32" else "—"] + ["—"] * (len(heads) - 1)
        else:
            marks = ["✓" if filled.get((row, *cell)) else " " for cell in cells(row)]
        lines.append(f"| {row} | {' | '.join(marks)} |")
    return "\n".join(lines)


def main() -> None:
    """Run every cell; write the README's table and the errors."""
    errors = {}
    for row in ROWS:
        if (row.family, row.source) in EMPTY:
            continue
        for cell in cells(row):
            errors[row, *cell] = error_of(row, *cell)
            print(f"{row}, {cell[0]}{', package' if cell[1] else ''}: {errors[row, *cell]:.1e}", flush=True)
    filled = {key: error < PRECISIONS[key[0].precision][2] for key, error in errors.items()}
    readme = ROOT / "README.md"
    before, marker, rest = readme.read_text().partition("<!-- matrix -->\n")
    readme.write_text(before + marker + table(filled) + "\n<!-- /matrix -->" + rest.partition("<!-- /matrix -->")[2])
    rows = [{"cell": str(k[0]), "backend": k[1], "package": k[2], "error": e} for k, e in errors.items()]
    (ROOT / "benchmarks/results").mkdir(parents=True, exist_ok=True)
    (ROOT / "benchmarks/results/matrix.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{sum(filled.values())} of {len(filled)} cells hold")


if __name__ == "__main__":
    main()
