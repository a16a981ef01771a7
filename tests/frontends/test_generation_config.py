"""What a model's makers advise: kept as a fact, shown, and not gone by."""

import json
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.frontends.config import Config, LoadError
from burnish.frontends.generation_config import with_generation
from burnish.ir.signature import Facts
from tests import models

CONFIG = Config({}, "config.json")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ({}, ()),
        ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, ()),
        ({"temperature": 0.6}, ()),
        ({"do_sample": True}, ("temperature=1.0",)),
        ({"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.0},
         ("temperature=0.6", "top_k=20", "top_p=0.95")),
        ({"do_sample": True, "top_p": 1.0, "top_k": None, "repetition_penalty": 1}, ("temperature=1.0",)),
        ({"repetition_penalty": 1.05}, ("repetition_penalty=1.05",)),
        ({"do_sample": True, "temperature": "hot", "top_k": True, "top_p": float("inf")}, ()),
        ({"do_sample": "yes", "temperature": 0.6}, ()),
    ],
)  # fmt: skip
def test_what_is_advised(said: dict[str, Any], advice: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    assert with_generation(Facts(), tmp_path, CONFIG).sampling == advice


def test_a_file_that_is_none(tmp_path: Path) -> None:
    assert with_generation(Facts(), tmp_path, CONFIG).sampling == ()
    (tmp_path / "generation_config.json").write_text("[]")
    with pytest.raises(LoadError, match="is not a JSON object"):
        with_generation(Facts(), tmp_path, CONFIG)


def test_it_goes_with_the_model_into_its_package(tmp_path: Path) -> None:
    folder = models.saved(models.llama(), tmp_path / "model")
    (folder / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.7, "eos_token_id": 2}')
    module = burnish.load(folder)
    assert (module.facts.sampling, module.facts.eos) == (("temperature=0.7",), (2,))
    burnish.compile(burnish.optimize(module), tmp_path / "package")
    assert burnish.load(tmp_path / "package").facts.sampling == ("temperature=0.7",)
