"""quantize-weights: golden/quantize-weights shows what it does; here, what a recipe may say, and what it does not."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import burnish
from burnish.backends.interpreter import Interpreter
from burnish.ir import Module
from burnish.ir.origin import dotted
from burnish.passes.engine import Context, PassError
from burnish.passes.pipelines import PipelineError, parse_pass, quantized, run_passes
from tests import models
from tests.decoder import decoder


@pytest.mark.parametrize(
    ("options", "case"),
    [
        ("", "model"),
        ("{recipe=lm=none;embedding=int8;q4_0}", "head_in_another"),
        ("{recipe=*=q8_0}", "tied"),
        ("{recipe=*.v_proj=q8_0;*.attn.[ko]_proj=none;q4_0|int8}", "recipe"),
    ],
)
def test_golden(golden: Callable[[str, str], None], options: str, case: str) -> None:
    golden(f"quantize-weights{options}", case)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("q9", "unknown format 'q9'; there are int4_128, int8, .*, q8_0, none"),
        ("q40", r"unknown format 'q40'; .*; did you mean q4_0"),
        ("Q4_K_M", "unknown format 'q4_k_m'; .*; llama.cpp's mixtures are recipes here"),
        ("q4_k", "q4_k is read, not made, yet; there are int4_128, int8, "),
        ("*.v_proj=q8_0|q9", "unknown format 'q9'"),
        ("=q4_0", "cannot read '=q4_0' in the recipe '=q4_0'; its form is names=format|format"),
        ("lm=", "cannot read 'lm='"),
        ("lm=none;", "cannot read ''"),
        ("q4_0||int8", "cannot read"),
    ],
)
def test_what_is_no_recipe_is_refused_before_anything_runs(recipe: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        parse_pass(f"quantize-weights{{recipe={recipe}}}")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Module:
    return burnish.load(models.saved(models.llama(), tmp_path_factory.mktemp("llama")))


def of(recipe: str, module: Module) -> Context:
    context = Context(module)
    context.run(parse_pass(f"quantize-weights{{recipe={recipe}}}"))
    return context


def test_the_case_of_a_formats_name_does_not_matter(llama: Module) -> None:
    for recipe in ("Q4_0", "*.v_proj=Q8_0;lm=NONE;Q4_0|INT8"):
        same = of(recipe.lower(), llama.copy()).module
        assert str(of(recipe, llama.copy()).module).partition("graph")[2] == str(same).partition("graph")[2]
    both = "quantize-weights{recipe=Q4_0},quantize-activations{format=Q4_0}"
    assert " = quantize(" in str(run_passes(llama.copy(), both).module.graphs["forward"])


def test_a_rule_for_nothing_is_an_error(llama: Module) -> None:
    with pytest.raises(PassError, match=r"called '\*\.v_prj'; there are model.layers.0.self_attn.v_proj, .*, …"):
        of("*.v_prj=q8_0;q4_0", llama.copy())
    for recipe in ("*=q4_0;lm=q8_0", "q4_0;layers.0.*=q8_0", "layers.*=q4_0;layers.1.*=q8_0;q4_0"):
        with pytest.raises(PassError, match="is never reached: rules before it take all"):
            of(recipe, decoder())


def test_a_role_that_a_model_does_not_have_is_none() -> None:
    assert of("router=none;embedding=none;q4_0", decoder()).applied


def stored(module: Module) -> Counter[str]:
    """How often each type of weight is read by a product or a table."""
    return Counter(str(n[n.op.weight].type) for g in module.graphs.values() for n in g if n.op.weight)


def test_what_chooses_and_weighs_experts_is_left_alone(tmp_path: Path) -> None:
    """The shared expert has a gate, a product of one output; the experts beside it are quantized."""
    config = models.SIZES | {"vocab_size": 96, "num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2}
    config |= {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 96, "max_position_embeddings": 64}
    models.header_alone("Qwen2MoeForCausalLM", tmp_path, **config)
    kept = {"mlp.gate": 2, "mlp.shared_expert_gate": 2, "model.embed_tokens": 1}
    names = Counter(
        dotted(n.origin.scope).partition("layers.")[2][2:] or dotted(n.origin.scope)
        for n in of("q4_0", burnish.load(tmp_path)).module.graphs["forward"]
        if n.op.weight and n[n.op.weight].type.format is None
    )
    assert names == kept


def test_products_of_one_format_are_joined_and_others_are_not(llama: Module) -> None:
    alike = stored(burnish.optimize(llama, quantized("q4_0")))
    assert alike["q4_0[128, 64]"] == 2  # q, k and v of two blocks
    context = run_passes(llama.copy(), quantized("*.v_proj=q8_0;q4_0"))
    mixed = stored(context.module)
    assert (mixed["q4_0[64, 64]"], mixed["q4_0[32, 64]"], mixed["q8_0[32, 64]"]) == (4, 2, 2)
    reasons = {r.reason for r in context.remarks if r.application.rule == "FuseQueryKeyValue"}
    assert reasons == {"they are stored as q4_0[64, 64], q4_0[32, 64], q8_0[32, 64]"}
    passes = context.module.facts.passes
    assert passes.index("quantize-weights{recipe=*.v_proj=q8_0;q4_0}") < passes.index("fuse-gate-up")


@pytest.mark.parametrize("format", ["q4_0", "int8"])
def test_joined_before_or_after_the_numbers_are_the_same(llama: Module, format: str) -> None:
    ids = np.arange(12, dtype="i4").reshape(2, 6)
    pipelines = (quantized(format), f"default,quantize-weights{{recipe={format}}}")
    before, after = (Interpreter(burnish.optimize(llama, p))("forward", {"ids": ids})["logits"] for p in pipelines)
    assert before.tobytes() == after.tobytes()
