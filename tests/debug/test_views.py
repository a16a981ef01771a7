"""The views of an export at batch 1, where most of them only add or drop unit dimensions."""

from typing import Any

import pytest

from burnish.debug.views import report_views, views_of
from burnish.frontends.onnx_file import load_onnx
from burnish.ir import parse
from burnish.passes.engine import Context
from burnish.passes.pipelines import parse_pipeline

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_views_of_an_export_at_batch_1(family: str, exports: Any) -> None:
    module = load_onnx(exports(family, batch=1).onnx)
    before = len(views_of(module))
    context = Context(module)
    for pass_ in parse_pipeline("default"):
        context.run(pass_)
    report = report_views(context)
    print(f"{family} at batch 1: {before} views imported\n{report}")
    assert report.unit == []
    assert report.fates["became squeeze or unsqueeze"] > 0
    assert report.fates["merged"] > 0
    assert report.fates["cancelled"] > 0
    assert len(report.remain) < before / 2
    heads = [why for statement, why in report.remain if "= reshape(" in statement]
    assert len(heads) == 8, "q, k and v into heads, and back out of them, in two blocks"
    assert all("moves elements between axes" in why for why in heads)


def test_a_reshape_of_unit_dimensions_is_noticed() -> None:
    text = """module {
      graph forward(%x: f32[1, S, 8]) {
        %0: f32[S, 8] = reshape(%x, shape=[S, 8]) <- "squeezes"
        %1: f32[S, 2, 4] = reshape(%0, shape=[S, 2, 4]) <- "splits"
        return y=%1
      }
    }"""
    report = report_views(Context(parse(text)))
    assert [n.origin.sources for n in report.unit] == [("squeezes",)]
    assert str(report) == (
        "   0 became squeeze or unsqueeze\n   0 merged\n   0 cancelled\n   2 remain\n"
        "     %0: f32[S, 8] = reshape(%x, shape=[S, 8]): it only adds or drops unit dimensions\n"
        "     %1: f32[S, 2, 4] = reshape(%0, shape=[S, 2, 4]): f32[S, 8] to f32[S, 2, 4] moves elements between axes"
    )
