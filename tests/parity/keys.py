"""Nothing is read in silence: each field of a config is changed in turn, here as there.

A value that transformers computes another result with must give that result here too, or be refused by the name of its
field. Every field is tried that transformers writes, so that it makes no difference which of them anybody believes to
be read.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import transformers

from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from tests import models
from tests.parity.laws import all_expected, forward_error
from tests.parity.model_type import LENGTH, ModelType, Oracle

#: what says how results are handed over, and not what they are; and notes
NOT_OF_THE_MODEL = frozenset(
    """architectures model_type dtype transformers_version _name_or_path return_dict output_hidden_states
    output_attentions id2label label2id is_encoder_decoder use_cache name_or_path""".split()
)
Outcome = Literal["same", "another", "refused", "cannot be built", "refused without its name", "WRONG", "CRASHED"]
#: of these there must be none
FAULTS: Sequence[Outcome] = ("refused without its name", "WRONG", "CRASHED")

_ROTATIONS: Sequence[Mapping[str, Any]] = (
    {"rope_type": "linear", "factor": 3.0},
    {"rope_type": "dynamic", "factor": 3.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": LENGTH // 2},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    | {"original_max_position_embeddings": LENGTH // 2},
)
_ACTIVATIONS = ("relu", "gelu_pytorch_tanh", "silu", "gelu")
#: fields of older files, and what takes their place in those of today
_OLDER = {"rope_scaling": "rope_parameters", "rope_theta": "rope_parameters"}
_ROTARY = ("rope_parameters", "rope_scaling")
#: the section of a larger model whose fields are tried too; what it makes of images is left out
_TEXT = "text_config"
#: other values of fields whose usual one does not say what kind of value they take
_OTHERS: Mapping[str, Sequence[Any]] = {
    "default_language": ("en_XX", "fr_XX"),
    "max_position_embeddings": (LENGTH // 2, LENGTH + 1, 200),
    "rope_theta": (300.0, 2e6),
    "norm_rel_ebd": ("none", "layer_norm"),
    "pos_att_type": (["p2c"], "c2p|p2c"),
    "position_embedding_type": ("relative_key", "relative_key_query"),
    "feed_forward_proj": ("gated-gelu", "relu", "gated-silu"),
}


@dataclass
class Row:
    """What came of other values of a field, or of several at once."""

    cls: str
    changes: Mapping[str, Any]
    outcome: Outcome
    about: str = ""

    def __str__(self) -> str:
        fields = " ".join(f"{k:36} {str(v)[:40]:40}" for k, v in self.changes.items())
        return f"{self.cls:36} {fields} {self.outcome}  {self.about}".rstrip()


def account(type: ModelType, most: int = 2, only: Iterable[str] = ()) -> list[Row]:
    """What `most` other values of each field come to, from the last configuration of the type."""
    variant = dict(type.variants[-1])
    base = type.made(variant)
    rows = []
    for key, value in _fields(base.config):
        if only and key not in only:
            continue
        enough = 0 if key in _ROTARY or isinstance(value, Mapping) else most
        for other in _other_values(base.config, key, value):
            row = _tried(type, variant, {key: other}, base)
            if key == _TEXT:
                row.changes = {k: v for k, v in other.items() if k not in value or value[k] != v}
            rows.append(row)
            enough -= row.outcome != "cannot be built"
            if not enough:
                break
    return rows


def mixed(type: ModelType, number: int, seed: int = 0, fields: int = 3) -> list[Row]:
    """What `number` configurations come to that have other values of some fields at once, drawn by chance.

    Those that transformers cannot build are drawn anew, a hundred times at most.
    """
    rng, rows = random.Random(f"{type.cls} {seed}"), list[Row]()
    for variant in itertools.islice(itertools.cycle(type.variants), number):
        base = type.made(variant)
        given = _fields(base.config)
        for _ in range(100):
            drawn = [(k, list(_other_values(base.config, k, v))) for k, v in rng.sample(given, fields)]
            row = _tried(type, dict(variant), {k: rng.choice(others) for k, others in drawn if others}, base)
            if row.outcome != "cannot be built" and row.changes:
                rows.append(row)
                break
    return rows


def _tried(type: ModelType, variant: Mapping[str, Any], changes: Mapping[str, Any], base: Oracle) -> Row:
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        try:
            instead = next((now for older, now in _OLDER.items() if older in changes), "")
            oracle = type.written(Path(folder), {**variant, **changes}, instead)
            after, before = _says(oracle, oracle), _says(base, oracle)
            if not all(np.isfinite(x).all() for x in all_expected(oracle)):
                raise ValueError("its results are not finite")
        except Exception as e:  # whatever it is that transformers says
            return Row(type.cls, changes, "cannot be built", f"{e.__class__.__name__}: {e}"[:80].replace("\n", " "))
        try:
            error = forward_error(load_checkpoint(Path(folder)), oracle)
        except LoadError as e:
            named = any(k in str(e) for k in _changed(variant, changes))
            return Row(type.cls, changes, "refused" if named else "refused without its name", str(e)[-200:])
        except Exception as e:  # ours: a fault, whatever it is
            return Row(type.cls, changes, "CRASHED", f"{e.__class__.__name__}: {e}"[:200])
    if not error < models.WITHIN:
        return Row(type.cls, changes, "WRONG", f"{error:.1e} of the largest")
    moved = after.shape != before.shape or np.abs(after - before).max() > models.WITHIN * np.abs(before).max()
    return Row(type.cls, changes, "another" if moved else "same", f"{error:.1e}")


def _changed(variant: Mapping[str, Any], changes: Mapping[str, Any]) -> Iterable[str]:
    """The fields whose values are others, those of sections too; but not the section of a text model."""
    for key, other in changes.items():
        if key != _TEXT:
            yield key
        if isinstance(other, Mapping):
            usual = variant.get(key) or {}
            yield from (k for k, v in other.items() if usual.get(k) != v)


def _says(oracle: Oracle, to: Oracle) -> np.ndarray:
    """What a model says of the texts that are for another one."""
    source = to.source()[0][0].tolist() if to.two_texts else None
    return oracle.says(to.ids()[0].tolist(), to.token_types()[0].tolist(), source)


def _fields(config: Any) -> list[tuple[str, Any]]:
    """Those that transformers writes, and those that it reads under older names."""
    written = {k: v for k, v in config.to_dict().items() if k not in NOT_OF_THE_MODEL}
    declared = {f.name: getattr(config, f.name, None) for f in dataclasses.fields(config)}
    older = {key: None for key, now in _OLDER.items() if now in written}
    return sorted((older | {k: v for k, v in declared.items() if k not in NOT_OF_THE_MODEL} | written).items())


def _other_values(config: Any, key: str, value: Any) -> Iterable[Any]:
    """Values of the same kind, the likeliest to be built and to matter first."""
    if isinstance(section := getattr(config, key, None), transformers.PreTrainedConfig):
        return _in_section(section, value) if key == _TEXT else ()
    if key in _OTHERS:
        return (v for v in _OTHERS[key] if v != value)
    if key in _ROTARY:
        return _rotations(value, getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    kind = _declared(config, key)
    match value:
        case bool():
            return (not value,)
        case int():
            return (v for v in (2 * value, value // 2, value + 1, value - 1, 1, 3) if v != value and v >= 0)
        case float():
            return (v for v in (value / 2 or 0.5, 2 * value or 0.25, 0.5, 0.0) if v != value)
        case str() if value in transformers.activations.ACT2FN:
            return (v for v in _ACTIVATIONS if v != value)
        case [str(), *_]:
            return _other_lists(value)
        case {**fields}:
            inner = {k: v for k, v in fields.items() if k not in NOT_OF_THE_MODEL}
            others = ((k, v) for k in inner for v in itertools.islice(_other_values(config, k, inner[k]), 2))
            return ({**fields, k: v} for k, v in others)
        case [int(), *_]:
            return ([1 - v if v in (0, 1) else v + 1 for v in value], value[::-1])
        case None:
            found: list[Any] = [True, False] if "bool" in kind else []
            found += [4, 3, 1, 8] if "int" in kind else []
            return found + ([0.5, 2.0] if "float" in kind else [])
    return ()


def _in_section(section: Any, value: Mapping[str, Any]) -> Iterable[Any]:
    """The section with another value in one field: two of each."""
    for key, usual in _fields(section):
        kept = {k: v for k, v in value.items() if k != _OLDER.get(key)}
        others = _other_values(section, key, usual)
        yield from ({**kept, key: v} for v in (others if key in _ROTARY else itertools.islice(others, 2)))


def _declared(config: Any, key: str) -> str:
    """The text of the type that a field is declared with."""
    return next((str(f.type) for f in dataclasses.fields(config) if f.name == key), "")


def _rotations(value: Any, head_dim: int) -> list[Any]:
    """Other scalings, base and share: of all layers or, where each type of layer has its own, of one after another."""
    if isinstance(value, Mapping) and value and all(isinstance(v, Mapping) for v in value.values()):
        return [{**value, k: other} for k in value for other in _rotations(value[k], head_dim)]
    base = {"rope_theta": 10000.0, **(value or {})}
    plain = {k: v for k, v in base.items() if k in ("rope_theta", "partial_rotary_factor")}
    theta, share = base["rope_theta"], base.get("partial_rotary_factor", 1.0)
    rotated = int(head_dim * share) // 2
    by_length = {"rope_type": "longrope", "original_max_position_embeddings": LENGTH // 2, "factor": 4.0}
    by_length |= {
        "short_factor": [1.0 + i / 4 for i in range(rotated)],
        "long_factor": [3.0 + i for i in range(rotated)],
    }
    scaled = [{**plain, **r} for r in (*_ROTATIONS, by_length)]
    return [*scaled, {**base, "rope_theta": theta * 7}, {**base, "partial_rotary_factor": share / 2}]


def _other_lists(value: Sequence[str]) -> Iterable[Any]:
    kinds = sorted({*value, "full_attention", "sliding_attention"})
    turned = [kinds[(kinds.index(v) + 1) % len(kinds)] for v in value]
    return itertools.chain((turned,), ([kind] * len(value) for kind in kinds if [kind] * len(value) != list(value)))
