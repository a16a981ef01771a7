"""Configurations: the JSON files of a model's folder, read with checks."""

from __future__ import annotations

import json
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.frontends.on_disk import begins_as, other_case

__all__ = ["LARGEST", "Config", "Keys", "LoadError", "parse_json", "parse_object", "read_json", "read_object", "shown"]

LARGEST = 24 << 20  # bytes of JSON: the index of the largest models has 13 MB

#: Fields that say nothing of what a model computes: notes, training, and the settings of those who generate.
INERT = frozenset(
    """
    architectures auto_map custom_pipelines dtype language library_name model_type name name_or_path torch_dtype
    sbert_ce_default_activation_function sentence_transformers transformers_version transformers.js_config
    unsloth_fixed unsloth_version neftune_noise_alpha
    activation_dropout attention_dropout attention_probs_dropout_prob attn_pdrop
    classifier_dropout classifier_dropout_prob classif_dropout decoder_layerdrop dropout dropout_rate embd_pdrop
    embedding_dropout encoder_layerdrop hidden_dropout hidden_dropout_prob layerdrop mlp_dropout qa_dropout
    residual_dropout
    resid_pdrop seq_classif_dropout chunk_size_feed_forward gradient_checkpointing initializer_cutoff_factor
    initializer_factor initializer_range init_std output_attentions output_hidden_states output_past
    pretraining_tp problem_type return_dict torchscript unk_token_id use_cache use_return_dict bos_token_id
    cls_token_id eos_token_id mask_token_id pad_token_id sep_token_id forced_bos_token_id forced_eos_token_id
    begin_suppress_tokens bad_words_ids diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size
    exponential_decay_length_penalty length_penalty max_length min_length no_repeat_ngram_size num_beam_groups
    num_beams num_return_sequences output_scores prefix remove_invalid_values repetition_penalty
    return_dict_in_generate suppress_tokens task_specific_params temperature top_k top_p typical_p
    finetuning_task id2label label2id num_labels max_sequence_length model_max_length tokenizer_class
    """.split()
)
#: Fields that are so for every model whose family does not read them, where given at all: another value is refused.
FIXED: Mapping[str, Any] = {
    "add_cross_attention": False,
    "attention_bias": False,
    "cross_attention_hidden_size": None,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "lm_head_bias": False,
    "mlp_bias": False,
    "pruned_heads": {},
    "rope_interleaved": False,
    "tf_legacy_loss": False,
    "tie_encoder_decoder": False,
    "use_bfloat16": False,
}


class LoadError(ValueError):
    """A model that cannot be loaded: what is wrong, in which file or tensor, and what to do."""


def shown(x: object, most: int = 80) -> str:
    """What a file says, fit to be put into a message."""
    text = repr(x)
    return text if len(text) <= most else text[:most] + "…"


def read_json(path: Path) -> Any:
    """What a file of JSON says. Raises LoadError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise LoadError(f"{path}: is not a file")
        if status.st_size > LARGEST:
            raise LoadError(f"{path}: {status.st_size} bytes are too many for such a file")
        raw = path.read_bytes()
    except FileNotFoundError:
        near = other_case(path)
        raise LoadError(f"{path}: No such file" + (f", but there is {near}" if near else "")) from None
    except OSError as e:
        raise LoadError(f"{path}: {e.strerror or e}") from None
    return parse_json(raw, str(path))


def read_object(path: Path) -> dict[str, Any]:
    """A file that holds a JSON object. Raises LoadError."""
    return _object(read_json(path), str(path))


def parse_object(raw: bytes, where: str) -> dict[str, Any]:
    """The JSON object that `raw` is. Raises LoadError."""
    return _object(parse_json(raw, where), where)


def parse_json(raw: bytes, where: str) -> Any:
    """What `raw` says, in UTF-8; a key that occurs twice in one object is refused. Raises LoadError."""
    try:
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as e:
        known = begins_as(raw[:64])
        raise LoadError(f"{where}: {known or f'is not JSON: {str(e)[:200]}'}") from None


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise LoadError(f"{where}: is not a JSON object")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(k for k, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {shown(twice)} occurs twice")
    return found


Keys = Mapping[str, str | tuple[str, ...]]


class Config:
    """A `config.json`: every field that is asked for is of the type and in the range asked for.

    It knows which fields were asked for: `unread` are the others. `keys` are other names of fields (`n_embd` for
    `hidden_size`, or several), which are looked for first; `defaults` are the values of a family where its file does
    not mention a field (null is mentioned).
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        where: str = "config.json",
        keys: Keys | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.values, self.where = values, where
        self._keys, self._defaults = keys or {}, defaults or {}
        self._read: set[str] = set()
        self._sections: dict[str, Config] = {}

    def of_family(self, keys: Keys, defaults: Mapping[str, Any]) -> Config:
        """The same file, with the names and defaults of a family; what one reads, the other knows of."""
        family = Config(self.values, self.where, keys, defaults)
        family._read, family._sections = self._read, self._sections
        return family

    def get(self, key: str) -> Any:
        """What a field says, as it is; None where it is missing."""
        name = self._name(key)
        return self._defaults.get(key) if name is None else self.values[name]

    def _name(self, key: str) -> str | None:
        """What the file calls a field: under the first of its names where it is not null; None where it is missing."""
        other = self._keys.get(key, ())
        names = [k for k in (*([other] if isinstance(other, str) else other), key) if k in self.values]
        self._read.update((key, *names))
        return next((k for k in names if self.values[k] is not None), names[0] if names else None)

    def _at(self, key: str) -> str:
        """Where a field is, under the name that the file has for it."""
        return f"{self.where}: {self._name(key) or key}"

    def has(self, key: str) -> bool:
        """Whether the field is there and not null."""
        return self.get(key) is not None

    def unread(self, inert: Iterable[str] = (), fixed: Mapping[str, Any] | None = None) -> list[str]:
        """The fields that nobody asked for and that may mean something, with those of sections, and their values.

        Known to mean nothing are `inert`, INERT, what begins with an underscore, null, and the values in `fixed` and
        FIXED.
        """
        inert, fixed = set(inert), {**FIXED, **(fixed or {})}
        known, found = self._read | INERT | inert, list[str]()
        for key, value in self.values.items():
            if key in self._sections:
                found += [f"{key}.{k}" for k in self._sections[key].unread(inert, fixed)]
            elif not (key in known or key.startswith("_") or value is None or fixed.get(key, self) == value):
                found.append(f"{key if key.isprintable() and len(key) < 80 else shown(key)}={shown(value)}")
        return found

    def _get(self, key: str, default: Any) -> Any:
        value = self.get(key)
        if value is None:
            if default is None:
                raise LoadError(f"{self.where}: {key} is missing")
            return default
        return value

    def integer(self, key: str, default: int | None = None, *, least: int = 1, most: int = 1 << 24) -> int:
        """An integer. Raises LoadError outside least..most."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise LoadError(f"{self._at(key)} must be an integer from {least} to {most}, not {shown(value)}")
        return value

    def quotient(self, key: str, by: str) -> int:
        """One integer by another. Raises LoadError where that leaves a remainder."""
        a, b = self.integer(key), self.integer(by)
        if a % b:
            raise LoadError(f"{self._at(key)} {a} is not a multiple of {self._name(by) or by} {b}")
        return a // b

    def number(self, key: str, default: float | None = None, *, least: float = 0.0, most: float = 1e12) -> float:
        """A number. Raises LoadError outside least..most."""
        value = self._get(key, default)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not least <= value <= most:  # NaN is not in between
            raise LoadError(f"{self._at(key)} must be a number from {least:g} to {most:g}, not {shown(value)}")
        return float(value)

    def bound(self, key: str) -> float:
        """What numbers must not exceed; 0 where there is no bound. Raises LoadError where it is said to be 0."""
        return self.number(key, least=1e-6) if self.has(key) else 0.0

    def numbers(self, key: str, length: int, *, least: float = 0.0, most: float = 1e12) -> list[float]:
        """A list of so many numbers. Raises LoadError outside least..most."""
        value = self._get(key, None)
        if not isinstance(value, list) or len(value) != length:
            raise LoadError(f"{self.where}: {key} must be a list of {length} numbers, not {shown(value)}")
        each = Config({f"{key}[{i}]": v for i, v in enumerate(value)}, self.where)
        return [each.number(k, least=least, most=most) for k in each.values]

    def flag(self, key: str, default: bool) -> bool:
        """A truth value."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise LoadError(f"{self._at(key)} must be true or false, not {shown(value)}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise LoadError(f"{self._at(key)} must be a string, not {shown(value)}")
        return value

    def choice(self, key: str, choices: Iterable[str], default: str | None = None) -> str:
        """One of `choices`."""
        value, choices = self._get(key, default), list(choices)
        if not isinstance(value, str) or value not in choices:
            raise LoadError(f"{self._at(key)} {shown(value)} is not supported; supported are {', '.join(choices)}")
        return value

    def choices(self, key: str, choices: Iterable[str], default: Sequence[str]) -> list[str]:
        """A list of `choices`, as long as the default is."""
        value, choices = self._get(key, list(default)), list(choices)
        good = isinstance(value, list) and len(value) == len(default)
        if not good or not all(isinstance(v, str) and v in choices for v in value):
            wanted = f"a list of {len(default)} of {', '.join(choices)}"
            raise LoadError(f"{self._at(key)} must be {wanted}, not {shown(value)}")
        return list(value)

    def integers(self, key: str) -> list[int]:
        """A list of integers; empty where it is missing."""
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
            raise LoadError(f"{self.where}: {key} must be a list of integers, not {shown(value)}")
        return value

    def section(self, key: str) -> Config:
        """A nested object; empty where it is missing."""
        value = self.get(key)
        if not isinstance(value, Mapping | None):
            raise LoadError(f"{self.where}: {key} must be an object, not {shown(value)}")
        name = self._name(key) or key
        if name not in self._sections:
            self._sections[name] = Config(value or {}, f"{self.where}: {name}")
        return self._sections[name]
