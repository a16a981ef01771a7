"""GGUF files: a model, its config and its tokenizer in one file, its tensors packed as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from burnish.frontends import architectures
from burnish.frontends.architecture import GGUF_ARCHITECTURES, build_module
from burnish.frontends.config import Config, LoadError, shown
from burnish.frontends.gguf_file import header_of
from burnish.frontends.gguf_names import architecture_of, config_of, gguf_names
from burnish.frontends.stored import Tensors
from burnish.ir.module import Module
from burnish.ir.weights import StoredWeights

__all__ = ["load_gguf"]

assert architectures  # imported so that they are registered

#: fields that a file says itself, or that follow from those it says: a family's usual sizes are none of its own
_SIZES = """
    vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim
""".split()


def load_gguf(source: Path) -> Module:
    """The module of a GGUF file. Its packed tensors stay packed. Raises LoadError."""
    file = header_of(source)
    kind = architecture_of(file)
    family = GGUF_ARCHITECTURES.get(kind)
    if family is None:
        known = ", ".join(sorted(GGUF_ARCHITECTURES))
        raise LoadError(f"{source}: GGUF's architecture {shown(kind)} is not supported; supported are {known}")
    config = Config({**dict.fromkeys(_SIZES), **config_of(file)}, str(source))
    types = {name: t.type for name, t in file.tensors.items()}
    tensors = Tensors(types, StoredWeights(file.tensors), conventions=family.gguf[kind], spell=gguf_names)
    module = build_module(f"{family.names[0]}ForCausalLM", config, tensors)
    module.facts = replace(module.facts, eos=tuple(config.get("eos_token_id") or ()))
    return module
