"""Sentence embeddings: what a folder in the form of sentence-transformers says of pooling."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from burnish.frontends.config import Config, LoadError, read_json, read_object, shown
from burnish.ir.builder import Ops
from burnish.ir.graph import Value

__all__ = ["Pooling", "first_token", "read_pooling"]

_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Pooling:
    """One vector for a sentence: the first token's (`cls`), or the mean over its tokens; L2-normalised, or not."""

    mode: str
    normalize: bool

    def build(self, op: Ops, hidden: Value, count: Value) -> Value:
        """hidden f32[B, S, H], count i32[B] -> f32[B, H]; tokens from count[b] on are padding."""
        with op.scope("pooling"):
            if self.mode == "cls":
                x = first_token(op, hidden)
            else:
                row = op.iota(size=hidden.shape[1])
                real = op.unsqueeze(op.less(row, op.unsqueeze(count, axes=(1,))), axes=(2,))
                total = op.reduce_sum(op.where(real, hidden, op.constant(0.0, hidden.dtype)), axes=(1,), keepdims=False)
                x = op.div(total, op.cast(op.unsqueeze(op.maximum(count, 1), axes=(1,)), to="f32"))
            if self.normalize:
                norm = op.sqrt(op.reduce_sum(op.mul(x, x), axes=(-1,)))
                x = op.div(x, op.maximum(norm, 1e-12))
            return x


def first_token(op: Ops, hidden: Value) -> Value:
    """The first token of each sequence: [B, S, H] -> [B, H]"""
    return op.squeeze(op.slice(hidden, axis=1, start=0, stop=1), axes=(1,))


def read_pooling(folder: Path) -> Pooling | None:
    """The pooling that `modules.json` lists; None where there is no such file, or it lists no pooling.

    Raises LoadError for a kind that is not supported.
    """
    file = folder / "modules.json"
    if not file.exists():
        return None
    entries = read_json(file)
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise LoadError(f"{file}: is not a list of modules")
    modules = [Config(e, f"{file}: entry {i}") for i, e in enumerate(entries)]
    kinds = [str(m.values.get("type")).rpartition(".")[2] for m in modules]
    match kinds:
        case ["Transformer"]:
            return None
        case ["Transformer", "Pooling"] | ["Transformer", "Pooling", "Normalize"]:
            return Pooling(_mode(folder, modules[1]), kinds[-1] == "Normalize")
    raise LoadError(f"{file}: supported are Transformer, Pooling and Normalize, not {shown(', '.join(kinds))}")


def _mode(folder: Path, module: Config) -> str:
    name = module.values.get("path")
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
        raise LoadError(f"{module.where}: path {shown(name)} is not the name of a folder inside the model's")
    config = Config(read_object(folder / name / "config.json"), str(folder / name / "config.json"))
    modes = [mode for key, mode in _MODES.items() if config.flag(key, False)]
    if len(modes) != 1 or modes[0] not in ("cls", "mean"):
        asked = ", ".join(modes) or "nothing"
        raise LoadError(f"{config.where}: pooling by {asked} is not supported; by cls and by mean are")
    return modes[0]
