"""The same weights as MLX stores them, unquantized, are the same model, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import burnish
from burnish.frontends.config import LoadError
from tests import models
from tests.conventions import Arrays, arrays_of, as_npz, beside, parameters_of


def mixtral() -> Any:
    sizes = {"vocab_size": 96, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    return models.made("MixtralForCausalLM", **models.SIZES, **sizes)


MODELS: dict[str, Callable[[], Any]] = {
    **{"bert": models.bert, "llama": models.llama, "t5": models.t5, "mamba": models.mamba, "mixtral": mixtral},
}


def mlx_names(model: Any) -> Arrays:
    found: Arrays = {}
    for name, array in arrays_of(model).items():
        if name in model.all_tied_weights_keys:
            continue
        block = name.partition(".experts.")[0].replace(".mlp", ".block_sparse_moe")
        if name.endswith("experts.gate_up_proj"):
            gate, up = np.split(array, 2, axis=1)
            found |= {f"{block}.switch_mlp.gate_proj.weight": gate, f"{block}.switch_mlp.up_proj.weight": up}
        elif name.endswith("experts.down_proj"):
            found[f"{block}.switch_mlp.down_proj.weight"] = array
        elif name.endswith("conv1d.weight"):
            found[name] = np.moveaxis(array, 2, 1)
        else:
            found[name.replace(".mlp.gate.", ".block_sparse_moe.gate.")] = array
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_same_model(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    arrays = {n: np.ascontiguousarray(a) for n, a in mlx_names(model).items()}
    save_file(arrays, beside(model, tmp_path / "mlx") / "model.safetensors", metadata={"format": "mlx"})
    expected = parameters_of(burnish.load(models.saved(model, tmp_path / "safe")))
    assert parameters_of(burnish.load(tmp_path / "mlx")) == expected
    assert parameters_of(burnish.load(as_npz(model, tmp_path / "npz", arrays))) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:3], "stop 4|of another shape|must have the shape|cannot be built"),
        (lambda a: a.swapaxes(1, 2), "must have the shape"),
        (lambda a: a[0], "missing tensors"),
    ],
)
def test_a_stack_of_another_shape(change: Callable[[np.ndarray], np.ndarray], message: str, tmp_path: Path) -> None:
    model = mixtral()
    arrays = {n: change(a) if "switch_mlp.up_proj" in n else a for n, a in mlx_names(model).items()}
    with pytest.raises(LoadError, match=message):
        burnish.load(as_npz(model, tmp_path, arrays))
