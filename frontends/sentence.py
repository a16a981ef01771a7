"""Sentence-transformers' own files: which modules follow the model, how a text is cut, and what stands before it.

Format: `modules.json` and what `save` writes beside it, in versions 2 to 6 of sentence-transformers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from burnish.frontends.config import Config, LoadError, parse_object, read_json, read_object, shown
from burnish.frontends.pooling import MODES, Pooling
from burnish.frontends.weight_files import weights_in
from burnish.ir.builder import Ops
from burnish.ir.graph import Value
from burnish.ir.signature import LOGITS
from burnish.ir.weights import StoredTensor

if TYPE_CHECKING:
    from burnish.frontends.architecture import Layers

__all__ = ["Sentence", "lowered", "model_folder", "module_folders", "read_sentence", "reranker"]

MODULES, _OWN = "modules.json", "config_sentence_transformers.json"
#: how older files say a mode, in the order in which several are joined
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SETTINGS = [f"sentence_{n}_config.json" for n in "bert roberta distilbert camembert albert xlm-roberta xlnet".split()]
#: how a model is asked for what is pooled
_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}
_VECTOR = "sentence_embedding"
_LONGEST = 1 << 24  # tokens; tokenizers without a limit say 1e30
_TORCH = "torch.nn.modules"
_ACTIVATIONS: Mapping[str, Callable[[Ops, Value], Value]] = {
    f"{_TORCH}.linear.Identity": lambda op, x: x,
    f"{_TORCH}.activation.GELU": lambda op, x: op.gelu(x),
    f"{_TORCH}.activation.ReLU": lambda op, x: op.relu(x),
    f"{_TORCH}.activation.SiLU": lambda op, x: op.silu(x),
    f"{_TORCH}.activation.Sigmoid": lambda op, x: op.sigmoid(x),
    f"{_TORCH}.activation.Tanh": lambda op, x: op.tanh(x),
}


class Step(Protocol):
    """A module behind the pooling."""

    def build(self, op: Layers, x: Value) -> Value:
        """f32[B, H] -> f32[B, H']"""
        ...


@dataclass(frozen=True)
class Normalize:
    """x / |x|, L2"""

    def build(self, op: Layers, x: Value) -> Value:
        norm = op.sqrt(op.reduce_sum(op.mul(x, x), axes=(-1,)))
        return op.div(x, op.maximum(norm, 1e-12))


@dataclass(frozen=True)
class Dense:
    """act(x @ w.T + b), with x (or a product of it) added where there is a residual; its weights lie in `path`."""

    path: str
    inputs: int
    outputs: int
    bias: bool
    activation: str
    residual: bool

    def build(self, op: Layers, x: Value) -> Value:
        if x.shape[-1] != self.inputs:
            raise LoadError(f"{self.path}: in_features is {self.inputs}, but what goes in has {x.shape[-1]} numbers")
        with op.scope(self.path):
            y = _ACTIVATIONS[self.activation](op, op.linear("linear", x, self.outputs, self.bias))
            if not self.residual:
                return y
            return y + (x if self.inputs == self.outputs else op.linear("residual", x, self.outputs))


@dataclass(frozen=True)
class LayerNorm:
    """A layer norm, as torch has it; its weights lie in `path`."""

    path: str

    def build(self, op: Layers, x: Value) -> Value:
        with op.scope(self.path):
            return op.layer_norm("norm", x, 1e-5)


@dataclass(frozen=True)
class Sentence:
    """How the hidden states of a model become one vector for a text, and how the text becomes tokens."""

    pooling: Pooling
    steps: Sequence[Step] = ()
    #: of the steps, by their names in the module
    tensors: Mapping[str, StoredTensor] = field(default_factory=dict)
    #: see `burnish.ir.signature.Facts`
    facts: Mapping[str, Any] = field(default_factory=dict)

    def build(self, op: Layers, hidden: Value, count: Value) -> Value:
        """hidden f32[B, S, H], count i32[B] -> f32[B, H']; tokens from count[b] on are padding."""
        x = self.pooling.build(op, hidden, count)
        for step in self.steps:
            x = step.build(op, x)
        return x


def model_folder(folder: Path) -> Path:
    """Where the model and its tokenizer lie: in `folder`, or in one inside that `modules.json` names.

    Raises LoadError.
    """
    first = next(iter(_modules(folder)), None)
    return folder if first is None else _inside(folder, first)


def read_sentence(folder: Path) -> Sentence | None:
    """What `modules.json` lists; None where there is no such file, or it lists the model alone.

    Raises LoadError, naming what is not supported.
    """
    modules = _modules(folder)
    kinds = [_kind(m) for m in modules]
    if len(kinds) < 2:
        return None
    if kinds[1] != "Pooling":
        raise LoadError(f"{folder / MODULES}: behind the Transformer a Pooling is supported, not {shown(kinds[1])}")
    settings = _settings(_inside(folder, modules[0]))
    prompts = _prompts(folder)
    pooling, with_prompt = _pooling(_inside(folder, modules[1]))
    if not with_prompt and any(prompts.get("prompts", ())):
        where = _inside(folder, modules[1]) / "config.json"
        raise LoadError(f"{where}: include_prompt false is not supported: the prompts' tokens are pooled too")
    steps, tensors = list[Step](), dict[str, StoredTensor]()
    for module, kind in zip(modules[2:], kinds[2:], strict=True):
        step = _step(folder, module, kind)
        if step is not None:
            steps.append(step)
        if isinstance(step, Dense | LayerNorm):
            tensors |= _weights(folder, step.path)
    return Sentence(pooling, steps, tensors, {"pooling": tuple(pooling.modes)} | settings | prompts)


def module_folders(folder: Path) -> list[str]:
    """The folders inside `folder` that modules lie in, by their paths from there. Raises LoadError."""
    found = (_inside(folder, m).relative_to(folder).as_posix() for m in _modules(folder))
    return [path for path in found if path != "."]


def reranker(folder: Path, config: Config) -> tuple[Config, dict[str, Any]]:
    """The config of the model in `folder`, and facts of its texts, with what is kept beside it if it is a reranker.

    Format: what `CrossEncoder.save_pretrained` of sentence-transformers 6 writes; earlier ones kept it in config.json.
    Raises LoadError.
    """
    file = folder / _OWN
    own = Config(read_object(file) if file.exists() else {}, str(file))
    if own.get("model_type") != "CrossEncoder":
        return config, {}
    activation = own.get("activation_fn")
    if any((own.get("prompts") or {}).values()) or own.get("default_prompt_name"):
        raise LoadError(f"{own.where}: prompts of a reranker are not supported")
    _all_read(own, "keep_in_fp32_modules", "requirements")
    c = _settings_file(folder)
    c.choice("transformer_task", ["sequence-classification"], "sequence-classification")
    c.choice("module_output_name", ["scores"], "scores")
    if c.get("modality_config") not in (None, {"text": _TEXT | {"method_output_name": LOGITS.name}}):
        raise LoadError(f"{c.where}: modality_config {shown(c.get('modality_config'))} is not supported")
    longest = {"longest": c.integer("max_seq_length", most=_LONGEST)} if c.has("max_seq_length") else {}
    _all_read(c, "unpad_inputs", "tokenizer_name_or_path")
    kept = {"sentence_transformers": {"activation_fn": activation}} if activation else {}
    return Config({**config.values, **kept}, config.where), longest


def _modules(folder: Path) -> list[Config]:
    file = folder / MODULES
    if not file.exists():
        return []
    entries = read_json(file)
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
        raise LoadError(f"{file}: is not a list of modules")
    modules = [Config(e, f"{file}: entry {i}") for i, e in enumerate(entries)]
    if (kind := _kind(modules[0])) != "Transformer":
        raise LoadError(f"{file}: the first module must be a Transformer; {shown(kind)} is not supported")
    return modules


def _kind(module: Config) -> str:
    kind = module.text("type")
    if not kind.startswith("sentence_transformers."):
        raise LoadError(f"{module.where}: type {shown(kind)} is code of its own, which is not supported")
    return kind.rpartition(".")[2]


def _inside(folder: Path, module: Config) -> Path:
    """The folder of a module."""
    name = module.text("path", "")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts:
        raise LoadError(f"{module.where}: path {shown(name)} is not the name of a folder inside the model's")
    return folder.joinpath(*parts)


def _of(folder: Path) -> Config:
    file = folder / "config.json"
    return Config(read_object(file), str(file))


def _pooling(folder: Path) -> tuple[Pooling, bool]:
    """And whether the tokens of a prompt are pooled too."""
    c = _of(folder)
    flags = [mode for key, mode in _FLAGS.items() if c.flag(key, False)]  # each is read, whichever counts
    modes: Any = c.get("pooling_mode") or flags or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not all(isinstance(m, str) and m in MODES for m in modes):
        raise LoadError(f"{c.where}: pooling by {shown(modes)} is not supported; supported are {', '.join(MODES)}")
    with_prompt = c.flag("include_prompt", True)
    _all_read(c, "word_embedding_dimension", "embedding_dimension")
    return Pooling(tuple(modes)), with_prompt


def _step(folder: Path, module: Config, kind: str) -> Step | None:
    at = _inside(folder, module)
    match kind:
        case "Dropout":  # of training
            return None
        case "Normalize":
            if (at / "config.json").exists():
                _on_the_vector(c := _of(at))
                _all_read(c)
            return Normalize()
        case "LayerNorm":
            _all_read(_of(at), "dimension")
            return LayerNorm(at.relative_to(folder).as_posix())
        case "Dense":
            c = _of(at)
            _on_the_vector(c)
            sizes = c.integer("in_features"), c.integer("out_features")
            activation = c.choice("activation_function", _ACTIVATIONS, f"{_TORCH}.activation.Tanh")
            found = Dense(
                at.relative_to(folder).as_posix(),
                *sizes,
                c.flag("bias", True),
                activation,
                c.flag("use_residual", False),
            )
            _all_read(c)
            return found
    known = "Transformer, Pooling, Dense, LayerNorm, Normalize and Dropout"
    raise LoadError(f"{module.where}: a module {shown(kind)} is not supported; supported are {known}")


def _on_the_vector(c: Config) -> None:
    for key in ("module_input_name", "module_output_name"):
        c.choice(key, [_VECTOR], _VECTOR)


def _weights(folder: Path, path: str) -> dict[str, StoredTensor]:
    return {f"{path}.{name}": tensor for name, tensor in weights_in(folder / path).items()}


def _all_read(c: Config, *without_effect: str) -> None:
    if unread := c.unread(without_effect):
        raise LoadError(f"{c.where}: {', '.join(unread)} is not supported")


# ------------------------------------------------------------------------------------------------------ text to tokens


def _settings_file(folder: Path) -> Config:
    """What is said of the model's texts: the first of the files that says anything."""
    for name in _SETTINGS:
        if (folder / name).exists() and (values := read_object(folder / name)):
            return Config(values, str(folder / name))
    return Config({}, str(folder / _SETTINGS[0]))


def _settings(folder: Path) -> dict[str, Any]:
    c = _settings_file(folder)
    c.choice("transformer_task", ["feature-extraction"], "feature-extraction")
    c.choice("module_output_name", ["token_embeddings"], "token_embeddings")
    ways = c.get("modality_config")
    if ways is not None and not (isinstance(ways, dict) and ways.get("text") == _TEXT):
        raise LoadError(f"{c.where}: modality_config must have text={_TEXT}, not {shown(ways)}")
    c.flag("do_lower_case", False)  # see `lowered`
    for key in ("model_args", "tokenizer_args", "config_args", "model_kwargs", "processor_kwargs", "config_kwargs"):
        if c.get(key):
            raise LoadError(f"{c.where}: {key} {shown(c.get(key))} is not supported")
    longest = c.integer("max_seq_length", most=_LONGEST) if c.has("max_seq_length") else None
    _all_read(c, "unpad_inputs", "tokenizer_name_or_path")
    file = folder / "tokenizer_config.json"
    tokenizer = Config(read_object(file), str(file)) if file.exists() else Config({}, str(file))
    tokenizer.choice("truncation_side", ["right"], "right")
    if longest is not None:
        return {"longest": longest}
    limits = [tokenizer.get("model_max_length"), _of(folder).get("max_position_embeddings")]
    known = [int(n) for n in limits if isinstance(n, int | float) and 0 < n <= _LONGEST]
    return {"longest": min(known)} if known else {}


def _prompts(folder: Path) -> dict[str, Any]:
    file = folder / _OWN
    c = Config(read_object(file) if file.exists() else {}, str(file))
    c.choice("model_type", ["SentenceTransformer"], "SentenceTransformer")
    given = c.get("prompts") or {}
    if not isinstance(given, dict) or not all(isinstance(v, str | None) for v in given.values()):
        raise LoadError(f"{c.where}: prompts must be an object from names to texts, not {shown(given)}")
    default = c.text("default_prompt_name", "")
    if default and default not in given:
        raise LoadError(f"{c.where}: default_prompt_name {shown(default)} is none of the prompts, {shown(list(given))}")
    nearness = c.choice("similarity_fn_name", ("cosine", "dot", "euclidean", "manhattan"), "cosine")
    _all_read(c, "requirements")
    facts: dict[str, Any] = {} if nearness == "cosine" else {"similarity": nearness}
    if not given:
        return facts
    prompts = {"prompt_names": tuple(given), "prompts": tuple(v or "" for v in given.values())}
    return facts | prompts | {"default_prompt": default}


def lowered(folder: Path, tokenizer: str) -> str:
    """The `tokenizer.json` of a model's folder, made to lower texts first where the settings beside it say so.

    Raises LoadError.
    """
    if not _settings_file(folder).flag("do_lower_case", False):
        return tokenizer
    values = parse_object(tokenizer.encode(), str(folder / "tokenizer.json"))
    given = values.get("normalizer")
    before = given.get("normalizers", []) if isinstance(given, dict) and given.get("type") == "Sequence" else [given]
    rest = [n for n in before if n is not None]
    if {"type": "Lowercase"} in rest:
        return tokenizer
    values["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *rest]}
    return json.dumps(values, ensure_ascii=False)
