"""Pipelines as text: read, printed, and refused with the nearest names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.passes.engine import PASSES, Context, PassError
from burnish.passes.pipelines import PIPELINES, PipelineError, parse_pass, parse_pipeline, quantized
from tests.decoder import decoder


@pytest.mark.parametrize("name", PIPELINES)
def test_a_named_pipeline_is_its_passes(name: str) -> None:
    passes = parse_pipeline(name)
    parts = [q for p, _ in PIPELINES[name] for q in (parse_pipeline(p) if p in PIPELINES else [parse_pass(p)])]
    assert passes == parts
    assert parse_pipeline(",".join(map(str, passes))) == passes


@pytest.mark.parametrize(
    "text",
    [
        "fuse-fma",
        "quantize-weights{recipe=q8_0}",
        "quantize-weights{recipe=embedding=q4_0;lm=none;q8_0}",
        "expect{op=linear,per_block=2,plus=1}",
    ],
)
def test_a_pass_prints_as_it_is_read(text: str) -> None:
    assert str(parse_pass(text)) == text


def test_options_that_are_the_defaults_are_not_printed() -> None:
    assert str(parse_pass("quantize-weights{recipe=q4_0}")) == "quantize-weights"


def test_names_and_options_mix() -> None:
    passes = parse_pipeline("recover,quantize-weights{recipe=lm=none;q8_0},fuse, fuse-fma")
    assert str(passes[len(parse_pipeline("recover"))]) == "quantize-weights{recipe=lm=none;q8_0}"
    assert str(passes[-1]) == "fuse-fma"
    assert len(passes) == len(parse_pipeline("default")) + 2


def test_quantization_stands_between_what_finds_products_and_what_joins_them() -> None:
    assert parse_pipeline("default") == parse_pipeline("recover,fuse")
    assert quantized("lm=none;q8_0") == "recover,quantize-weights{recipe=lm=none;q8_0},fuse"
    assert quantized("none") == quantized("None") == "default"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fuse-fmm", "no pass 'fuse-fmm'; did you mean fuse-fma"),
        ("defaults", "did you mean default"),
        ("quantize-weights{bits=4}", "has no option 'bits=4'; it has recipe"),
        ("quantize-weights{recipe}", "has no option 'recipe'"),
        ("fuse-fma{a=1}", "it has none"),
        ("expect", "expect needs op"),
        ("expect{op=linear,per_block=two}", "per_block must be of type int, not 'two'"),
        ("quantize-weights{recipe=q9}", "quantize-weights: unknown format 'q9'"),
        ("quantize-activations{formats=q40}", "there is no format 'q40'; did you mean q4_0"),
        ("squeeze,fma", "no pass 'squeeze'"),
        ("canonicalize fuse-fma", "cannot read the pass"),
        ("canonicalize{}fuse-fma", "cannot read the pass"),
        ("canonicalize,", "cannot read the pipeline"),
        ("canonicalize}", "cannot read the pipeline"),
        ("quantize-weights{recipe=q4_0", "cannot read the pipeline"),
        ("quantize-weights{recipe=q4_0,recipe=q8_0}", "is given recipe twice"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        parse_pipeline(text)


def test_expect_counts_by_block() -> None:
    context = Context(decoder(blocks=3))
    context.run(parse_pass("expect{op=attention,per_block=1}"))
    context.run(parse_pass("expect{op=linear,per_block=4,plus=1}"))
    with pytest.raises(PassError, match="found 13 of 14 linear in 3 blocks"):
        context.run(parse_pass("expect{op=linear,per_block=4,plus=2}"))


def test_every_pass_of_a_pipeline_exists() -> None:
    assert {p.name for name in PIPELINES for p in parse_pipeline(name)} <= PASSES.keys()


PRINT_ALL = """
from pathlib import Path
from burnish.ir import parse
from burnish.passes.pipelines import run_passes
from tests.decoder import decoder
given = [parse(p.read_text("utf-8")) for p in sorted(Path("tests/golden").glob("recover-*/*.before.graph"))]
for module in [*given, decoder(3)]:
    pipeline = "default,stateful" if module.facts.makes_text else "default"
    context = run_passes(module, pipeline + ",roll-blocks")
    print(context.module, *context.remarks, sep="\\n")
"""


@pytest.mark.slow
def test_a_pipeline_does_the_same_whatever_the_order_of_sets() -> None:
    """Text, ids of applications and remarks, in processes that hash strings differently."""
    root = Path(__file__).parents[2]
    texts = [
        subprocess.run(
            [sys.executable, "-c", PRINT_ALL],
            cwd=root,
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        ).stdout
        for seed in ("0", "1", "77")
    ]
    assert texts[0].count("applied") > 50
    assert len(set(texts)) == 1
