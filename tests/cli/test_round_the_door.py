"""A plugin's pass that goes round the one door, among innocent ones: every command names it, and nothing else."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.decoder import decoder

pytestmark = pytest.mark.usefixtures("registries")
PIPELINE = ("--pipeline", "fuse-qkv,evil,fuse-fma")
DEAD = '    %dead: i32[B, S] = neg(%ids) <- "dead"\n'

OPERANDS = "the operands of a node were changed"
#: what is done to `module` and its `graph`, and what the ledger says of it
WAYS = {
    "set_input": ("named('mul').set_input(0, named('add').inputs[1])", OPERANDS),
    "replace": ("graph.replace(named('mul').out, named('mul').inputs[0])", OPERANDS),
    "erase": ("graph.erase(named('neg'))", "a node was erased: <neg() of"),
    "outputs renamed": (
        "graph.set_outputs({'scores': graph.outputs['logits']})",
        "outputs of graph forward were changed",
    ),
    "a type": ("named('mul').out.type = named('reshape').out.type", "the types of a node were changed"),
    "a weight's entry": (
        "module.weights['embed.weight'] = module.weights['layers.0.scale']",
        "the module's weights were changed",
    ),
}
CHANGE = """
from burnish.passes.engine import Pass, RewritePass, Rule

def change(module):
    graph = module.graphs["forward"]
    def named(op):
        return next(n for n in graph if n.op.name == op)
"""
#: where it is done: in a function, or in one of the applications of a rule that is right otherwise
PLACES = {
    "a function": '''
class Evil(Pass):
    """A function."""
    def run(self, module, ctx):
        change(module)
''',
    "a build": '''
class AddSub(Rule):
    """add(x, linear(y, w)) -> sub(x, -linear(y, w))"""
    exactness = "rounding"
    def match(self, op, x, y, w):
        return op.add(x, op.linear(y, w))
    def build(self, op, x, y, w, out):
        if out.node.origin.scope == "layers[1]":
            change(out.graph.module)
        return op.sub(x, op.mul(op.linear(y, w), -1.0))

class Evil(RewritePass):
    """A rule."""
    rules = (AddSub,)
''',
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A decoder, and a node that nothing reads."""
    file = tmp_path / "decoder.graph"
    file.write_text(str(decoder()).replace("    return ", f"{DEAD}    return "))
    return file


@pytest.mark.parametrize(
    ("way", "place"),
    [
        pytest.param(w, p, marks=pytest.mark.slow if p == "a build" and w != "set_input" else ())
        for w in WAYS
        for p in PLACES
    ],
)
def test_it_is_named_by_every_command(cli: Cli, model: Path, tmp_path: Path, way: str, place: str) -> None:
    change, what = WAYS[way]
    plugin, written = tmp_path / "plugin.py", tmp_path / "out.graph"
    plugin.write_text(f"{CHANGE}    {change}\n{PLACES[place]}")
    line = (model, "--plugin", plugin, *PIPELINE)

    code, out, err = cli("opt", *line, "-o", written)
    assert (code, out, written.exists()) == (4, "", False)
    assert err.startswith("error: pass evil went round the door: ") and what in err.splitlines()[0]
    assert "application" not in err and "fuse-" not in err

    code, out, same = cli("debug", "check", *line)
    assert (code, same) == (4, err)
    assert [row.split()[:2] for row in out.splitlines()] == [["ok", "fuse-qkv"]]

    code, out, nothing = cli("debug", "bisect", *line)
    assert (code, nothing) == (1, "")
    found = f"fault: {err.removeprefix('error: ')}culprit: pass evil\nnot one of its applications (2 runs)\n"
    assert out.startswith(found)

    code, out, _ = cli("debug", "bisect", *line, "--json")
    report = json.loads(out)
    assert (code, report["pass"], report["culprits"], report["changes"]) == (1, "evil", [], {})


@pytest.mark.parametrize("command", ["opt", "debug check", "debug bisect"])
def test_without_it_nothing_is_wrong(cli: Cli, model: Path, command: str) -> None:
    assert cli(*command.split(), model, "--pipeline", "fuse-qkv,fuse-fma").code == 0
