"""GPT-Neo: what says which layers are local."""

from pathlib import Path
from typing import Any

import pytest

from burnish.frontends.checkpoint import load_checkpoint
from burnish.frontends.config import LoadError
from tests import models

TINY = {"vocab_size": 96, "hidden_size": 48, "num_heads": 4, "num_layers": 2, "attention_types": [[["local"], 2]]}


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([[["local"], 1]], "attention_types .* does not give 2 layers their type"),
        ([[["local", "global"], 10**18]], "attention_types .* does not give 2 layers their type"),
        ([[[], 10**18]], "attention_types .* does not give 2 layers their type"),
        ([["local", 2, 3]], "attention_types .* does not give 2 layers their type"),
        (7, "attention_types 7 does not give 2 layers their type"),
        ([[["near"], 2]], "attention_layers must be a list of 2 of global, local"),
    ],
)
def test_what_does_not_say_it_is_refused(types: Any, message: str, tmp_path: Path) -> None:
    folder = models.saved_in_full(models.made("GPTNeoForCausalLM", **TINY), tmp_path, attention_layers=None)
    models.change_config(folder, attention_types=types)
    with pytest.raises(LoadError, match=message):
        load_checkpoint(folder)
