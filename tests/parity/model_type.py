"""A model type, as transformers has it: tiny models of it with random weights, and what these say."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from tests import models

#: more tokens than every window and original context of the configurations
LENGTH = 24
COUNTS = (LENGTH, 9, 17)
#: ids are below this, so that a vocabulary may be half of that of the configurations
SMALLEST_VOCABULARY = 40

LLAMA = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
LLAMA |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}


@dataclass(frozen=True)
class ModelType:
    """A class of transformers, the fields that make it tiny, and two configurations or more of what the family varies.

    Two blocks of a kind are enough: `num_hidden_layers` 2, or a period of layers that differ.
    """

    cls: str
    config: Mapping[str, Any]
    variants: Sequence[Mapping[str, Any]] = ({},)

    def made(self, variant: Mapping[str, Any]) -> Oracle:
        """The model of one configuration. Whatever transformers raises where it cannot be built."""
        cls = getattr(transformers, self.cls)
        model = cls._from_config(cls.config_class(**{**self.config, **variant}), attn_implementation="eager")
        return Oracle(with_buffers(models.randomised(model)))

    def written(self, folder: Path, variant: Mapping[str, Any], instead: str = "") -> Oracle:
        """The checkpoint of one configuration, and what transformers makes of its file, in which each field stands.

        `instead` is a field that older files do not have, where `variant` is in their terms.
        """
        cls = getattr(transformers, self.cls)
        given = {k: v for k, v in {**self.config, **variant}.items() if k != instead}
        config = json.loads(cls.config_class(**given).to_json_string(use_diff=False))
        config = {k: v for k, v in config.items() if k != instead} | dict(variant) | {"architectures": [self.cls]}
        text = json.dumps({k: v for k, v in config.items() if k != instead})
        (folder / "config.json").write_text(text)
        read = cls.config_class.from_pretrained(folder)
        model = cls._from_config(read, attn_implementation="eager")
        oracle = Oracle(with_buffers(models.randomised(model)))
        oracle.model.save_pretrained(folder)
        (folder / "config.json").write_text(text)
        return oracle


def with_buffers(model: Any) -> Any:
    """What training leaves in buffers that begin as zeros (a router's correction, a bias of logits), random too."""
    generator = torch.Generator().manual_seed(1)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, x in model.state_dict().items():
        if name not in parameters and x.is_floating_point() and not x.any():
            x.copy_(torch.randn(x.shape, generator=generator) * 0.1)
    return model


@dataclass
class Oracle:
    """A model of transformers, asked one sequence at a time, so that no padding and no mask plays a part."""

    model: Any
    _known: dict[Any, np.ndarray] = field(default_factory=dict)

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def two_texts(self) -> bool:
        """Whether a decoder answers what an encoder reads."""
        return bool(self.config.is_encoder_decoder)

    @cached_property
    def types(self) -> int:
        """How many types of tokens it tells apart."""
        takes = "token_type_ids" in inspect.signature(self.model.forward).parameters
        return int(getattr(self.config, "type_vocab_size", 0) or 0) if takes else 0

    @cached_property
    def _by_length(self) -> bool:
        return "dynamic" in str(getattr(self.config, "rope_parameters", ""))

    def ids(self) -> np.ndarray:
        """i32[3, LENGTH], those behind COUNTS being padding."""
        ids, pad = self._real(0), getattr(self.config, "pad_token_id", None)
        ids[np.arange(LENGTH) >= np.array(COUNTS)[:, None]] = pad if pad is not None and pad >= 0 else 0
        return ids

    def source(self) -> tuple[np.ndarray, np.ndarray]:
        """What an encoder reads, i32[3, LENGTH], and how many tokens of each."""
        return self._real(3), np.array([LENGTH, 7, 13], "i4")

    def _real(self, seed: int) -> np.ndarray:
        ids = models.tokens((len(COUNTS), LENGTH), SMALLEST_VOCABULARY - 1, seed)
        ids[ids == getattr(self.config, "pad_token_id", None)] = SMALLEST_VOCABULARY - 1
        return ids

    def token_types(self) -> np.ndarray:
        """i32[3, LENGTH]"""
        return np.random.default_rng(2).integers(0, max(1, self.types), (len(COUNTS), LENGTH)).astype("i4")

    def says(
        self, ids: Sequence[int], types: Sequence[int] | None = None, source: Sequence[int] | None = None
    ) -> np.ndarray:
        """What is computed of each token: its logits, or its hidden state. f32[len(ids), …]"""
        asked = (tuple(ids), tuple(types or ()), tuple(source or ()))
        if asked not in self._known:
            given = {"input_ids": ids} if source is None else {"input_ids": source, "decoder_input_ids": ids}
            given |= {"token_type_ids": types} if types is not None and self.types else {}
            with torch.no_grad():
                if self._by_length:  # its frequencies are those of the longest text until a short one comes
                    self.model(input_ids=torch.tensor([ids[:1]]))
                out = self.model(**{k: torch.tensor([v], dtype=torch.long) for k, v in given.items()})
            self._known[asked] = (out.logits if "logits" in out else out.last_hidden_state)[0].numpy()
        return self._known[asked]

    def saved(self, folder: Path, in_full: bool = True) -> Path:
        """The model as a checkpoint, with every field in its config, or with those alone that are not usual."""
        return (models.saved_in_full if in_full else models.saved)(self.model, folder)
