"""The bundled model says what transformers says with it, by way of a package, on both backends."""

from pathlib import Path

import pytest
import torch
import transformers

import burnish
from burnish.runtime.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

TINY = Path(__file__).parents[1] / "examples/tiny-lm"
PROMPTS = [
    "Question: What is the capital of Bulavia? Answer:",
    "The capital of Metrovia is",
    "Question: How many are 12 figs and 9 figs? Answer:",
    "There are 41 bridges in",
]


@pytest.fixture(scope="module")
def oracle():
    return transformers.AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "package"
    burnish.compile(burnish.optimize(burnish.load(TINY)), out, tokenizer=TINY / "tokenizer.json")
    return burnish.load(out)


@pytest.mark.parametrize("backend", ["numpy", "xla"])
def test_greedy_text_is_the_oracles(backend, oracle, package) -> None:
    tokenizer = Tokenizer.load(TINY / "tokenizer.json")
    executable = burnish.executable(package, backend)
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt)
        with torch.no_grad():
            expected = oracle.generate(torch.tensor([ids]), max_new_tokens=40, do_sample=False)[0, len(ids) :].tolist()
        ours = list(executable.generate(ids, 40))
        assert ours == [t for t in expected if t != oracle.config.eos_token_id]


def test_it_fits() -> None:
    assert sum(f.stat().st_size for f in TINY.iterdir()) <= 8 << 20
