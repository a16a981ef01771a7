"""Tiny models of each family with random weights, made by transformers: the oracle's own."""

from __future__ import annotations

import json
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import burnish.frontends.checkpoint  # noqa: F401  # registers the architectures
from burnish.frontends.architecture import find_architecture, parameters
from burnish.frontends.config import Config
from burnish.frontends.files.safetensors import header_of

torch.set_num_threads(1)  # such small products: a second thread would wait, and burn a core while it does
transformers.utils.logging.disable_progress_bar()  # it writes to standard error, which tests of commands read

#: How far two ways to compute one of these models may be apart, relative to the largest result. About 1,100 terms are
#: added up, one sum after another, in an order that each library and processor chooses: roundings of random signs come
#: to sqrt(1,100) half units, 2e-6, and ten times that is still a third of `gamma(1100)`, where all have one sign.
WITHIN = 2e-5

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama(**changes: Any) -> Any:
    """LlamaForCausalLM with grouped heads."""
    given = {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64} | SIZES | changes
    return randomised(transformers.LlamaForCausalLM(transformers.LlamaConfig(**given)))


def mistral(**changes: Any) -> Any:
    """MistralForCausalLM with grouped heads and a window of 7."""
    given = {"vocab_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 64, "sliding_window": 7}
    return randomised(transformers.MistralForCausalLM(transformers.MistralConfig(**(given | SIZES | changes))))


def gemma2(**changes: Any) -> Any:
    """Gemma2ForCausalLM of 3 blocks: windows of 7 in the first and the last, caps that are felt."""
    given = {"vocab_size": 96, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64}
    given |= {"sliding_window": 7, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 2.0}
    given |= {"final_logit_softcapping": 4.0}
    sizes = SIZES | {"hidden_size": 48, "num_hidden_layers": 3}
    return randomised(transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**(given | sizes | changes))))


def mamba(**changes: Any) -> Any:
    """MambaForCausalLM."""
    given = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "state_size": 8}
    return randomised(transformers.MambaForCausalLM(transformers.MambaConfig(**(given | changes))))


def bert(**changes: Any) -> Any:
    """BertModel."""
    given = {"vocab_size": 96, "max_position_embeddings": 64} | SIZES | changes
    return randomised(transformers.BertModel(transformers.BertConfig(**given)))


def t5(**changes: Any) -> Any:
    """T5ForConditionalGeneration, v1.1."""
    given = {"vocab_size": 96, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}
    given |= {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0}
    return randomised(transformers.T5ForConditionalGeneration(transformers.T5Config(**(given | changes))))


def made(name: str, **config: Any) -> Any:
    """A model of any class of transformers."""
    cls = getattr(transformers, name)
    return randomised(cls(cls.config_class(**config)))


def randomised(model: Any, seed: int = 0) -> Any:
    """All weights random, so that no norm or bias is without effect; f32, ready to evaluate."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not p.requires_grad:  # it follows from the config
                continue
            scale = 0.1 if p.dim() == 1 else p.shape[-1] ** -0.5
            p.copy_(torch.randn(p.shape, generator=generator) * scale + (p.dim() == 1 and "bias" not in name))
    return model.float().eval()


def saved(model: Any, folder: Path, **options: Any) -> Path:
    """The model as a checkpoint."""
    model.save_pretrained(folder, **options)
    return folder


def header_alone(name: str, folder: Path, **config: Any) -> int:
    """A checkpoint whose tensors are a hole in the file, however large they are: how many there are."""
    whole = Config(config | {"architectures": [name]})
    types = parameters(find_architecture(name, whole)[0], whole)
    (folder / "config.json").write_text(json.dumps(whole.values))
    with (folder / "model.safetensors").open("wb") as f:
        f.write(header := header_of(types))
        f.truncate(len(header) + sum(int(t.nbytes) for t in types.values()))  # type: ignore[arg-type]
    return len(types)


def saved_in_full(model: Any, folder: Path, **changes: Any) -> Path:
    """The same, with every field in its config, whether or not it is the usual one; None in `changes` takes one out."""
    saved(model, folder)
    config = json.loads(model.config.to_json_string(use_diff=False)) | {"architectures": [type(model).__name__]}
    config = {k: v for k, v in (config | changes).items() if not (k in changes and v is None)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def change_config(folder: Path, **fields: Any) -> None:
    """Write other values of some fields into a checkpoint's config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


class _Alone(torch.nn.Module):
    """A model of which one result is asked: what one exports."""

    def __init__(self, model: Any, *inputs: str) -> None:
        super().__init__()
        self.model, self.inputs = model, inputs

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        result = self.model(**dict(zip(self.inputs, tensors, strict=True)), **_NO_CACHE.get(type(self.model), {}))
        return result.logits if hasattr(result, "logits") else result.last_hidden_state


_NO_CACHE = {c: {"use_cache": False} for c in (transformers.LlamaForCausalLM, transformers.GPT2LMHeadModel)}


def exported(model: Any, path: Path, batch: int | None = None, length: int | None = None) -> Path:
    """The model as ONNX, by torch.onnx.export(dynamo=True); the batch and the length are symbols unless given.

    A model without a head takes an attention mask too.
    """
    names = ("input_ids",) if type(model) in _NO_CACHE else ("input_ids", "attention_mask")
    shape = (batch or 2, length or 7)
    dynamic = {i: torch.export.Dim.DYNAMIC for i, size in enumerate((batch, length)) if size is None}
    example = tuple(torch.ones(shape, dtype=torch.long) for _ in names)
    with warnings.catch_warnings(), redirect_stdout(None), redirect_stderr(None):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Alone(model, *names).eval(),
            example,
            path,
            input_names=list(names),
            dynamo=True,
            dynamic_shapes=((dynamic,) * len(names),) if dynamic else None,  # of *tensors
            verbose=False,
        )
    return path


def scripted(model: Any, path: Path, version: int) -> Path:
    """The model with its mask as ONNX, by the older exporter, torch.onnx.export(dynamo=False).

    What it cannot write in a version of the operators it writes out in their parts.
    """
    names = ["input_ids", "attention_mask"]
    if version < 14:
        model.set_attn_implementation("eager")
    with warnings.catch_warnings(), redirect_stdout(None), redirect_stderr(None):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Alone(model, *names).eval(),
            tuple(torch.ones((2, 7), dtype=torch.long) for _ in names),
            path,
            input_names=names,
            dynamic_axes={n: {0: "batch", 1: "sequence"} for n in names},
            opset_version=version,
            dynamo=False,
        )
    return path


def tokens(shape: tuple[int, ...], vocabulary: int = 96, seed: int = 0) -> np.ndarray:
    """Random ids, none of them 0 or 1."""
    return np.random.default_rng(seed).integers(2, vocabulary, shape).astype(np.int32)


def logits_of(model: Any, **inputs: Any) -> np.ndarray:
    """What the oracle computes, f32."""
    with torch.no_grad():
        return model(**{k: torch.tensor(v, dtype=torch.long) for k, v in inputs.items()}).logits.numpy()


def byte_tokenizer(merges: int = 40) -> Any:
    """A tokenizer of the 256 bytes and a few pieces of English words: 256 + `merges` tokens at most."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers import models as kinds

    made = Tokenizer(kinds.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["the capital of the land is the city of the king"] * 2, trainer)
    return made


def word_tokenizer(*words: str) -> Any:
    """BERT's kind, of some words and of the letters of all others; transformers' own, to be saved beside a model."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers import models as kinds

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,?!"
    pieces = [*special, *letters, *(f"##{c}" for c in letters), *words]
    made = Tokenizer(kinds.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    ends = [(token, special.index(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    named: dict[str, Any] = {f"{token[1:-1].lower()}_token": token for token in special}
    named["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **named)
