"""Every change goes through the one door: one that went round it is found, and the pass that made it is named."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from burnish.debug.controllers import Skip
from burnish.ir import Module, Node, Ops, Value, parse
from burnish.ir.dims import Sym
from burnish.ir.graph import Graph
from burnish.ir.guards import AllTrue, AtMost, Equal
from burnish.ir.leaves import Constant
from burnish.ir.literal import Literal
from burnish.ir.module import WeightEntry
from burnish.ir.ops.elementwise import Exp, Tanh
from burnish.ir.origin import Origin
from burnish.ir.signature import EMBEDDING, MASK
from burnish.ir.types import Type
from burnish.passes.engine import Context, Match, Pass, PassError, Pattern, RewritePass, Rule, Unaccounted
from burnish.passes.pipelines import parse_pass

pytestmark = pytest.mark.usefixtures("registries")
Change = Callable[[Module], object]
PASS = "evil{strength=2}"
F32, BF16 = Type("f32", (4,)), Type("bf16", (4,))
MODEL = """module {
  task = "feature-extraction"
  weights {
    @a: f32[4]
    @b: f32[4] <- "b of the checkpoint"
  }
  guard equal(B, P)
  guard "all of a constant" graph assumed() {
    %0: bool[2] = equal(f32([1.0, 2.0]), f32([1.0, 2.0])) <- "compare"
    return all=%0
  }
  graph forward(%ids: i32[B, S] is tokens, %x: f32[4], %c: bool[1], %unread: f32[4]) {
    scope "layers.0"
    %0.0: f32[4] = mul(%x, @a) <- "mul"
    %0.1: f32[4] = add(%0.0, @b) <- "add"
    %0.2: f32[4] = neg(%0.1) <- "neg"
    %0.3: f32[4] = if(%c, %0.2) {
      graph then(%v: f32[4]) {
        %0: f32[4] = neg(%v) <- "then"
        return r=%0
      }
      graph else(%v: f32[4]) {
        %0: f32[4] = exp(%v) <- "else"
        return r=%0
      }
    } <- "if"
    %0.4: f32[4] = repeat(%0.3, count=2, carries=1, shared=0, states=0) {
      graph block(%v: f32[4]) {
        %0: f32[4] = tanh(%v) <- "block"
        return r=%0
      }
    } <- "repeat"
    %0.5: f32[4] = sub(%0.4, %x) <- "sub"
    %0.6: f32[4] = exp(%x) <- "dead"
    return y=%0.4 is hidden, z=%0.5
  }
  graph aside(%x: f32[4]) {
    %0: f32[4] = sqrt(%x) <- "sqrt"
    return y=%0
  }
}
"""


def node(module: Module, source: str) -> Node:
    """The node from that source, wherever it is."""
    return next(n for g in module.every_graph for n in g if source in n.origin.sources)


def forward(module: Module) -> Graph:
    return module.graphs["forward"]


def first_weight(module: Module) -> Node:
    return next(n for n in forward(module) if n.is_leaf)


class Anything(Rule):
    """anything -> anything else"""


class SqrtToAbs(Rule):
    """sqrt(x) -> abs(x), which is not so, but lawful"""

    def match(self, op: Ops, x: Value) -> Pattern:
        return op.sqrt(x)

    def build(self, op: Ops, x: Value) -> Value:
        return op.abs(x)


def lawful(module: Module, ctx: Context) -> None:
    """An application in the graph that no change is about."""
    sqrt = node(module, "sqrt")
    assert ctx.rewrite(Anything(), [sqrt], sqrt.outputs, lambda op: op.again(sqrt)) is not None


class Innocent(Pass):
    """sqrt(x) -> sqrt(x)"""

    def run(self, module: Module, ctx: Context) -> None:
        lawful(module, ctx)


def evil(run: Callable[[Module, Context], object]) -> Pass:
    """A function over the module as a pass."""

    class Evil(Pass, replace=True):
        """x -> whatever `run` makes of it"""

        strength: int = 1

        def run(self, module: Module, ctx: Context) -> None:
            run(module, ctx)

    return Evil(strength=2)


def named(passes: Sequence[Pass], module: Module | None = None, what: str = "") -> None:
    """Run until one is found out, which must be the evil one, by its whole text."""
    context = Context(parse(MODEL) if module is None else module)
    with pytest.raises(Unaccounted, match=what) as e:
        for pass_ in passes:
            context.run(pass_)
    assert e.value.pass_text == PASS
    assert str(e.value).startswith(f"pass {PASS} went round the door: ")


# ------------------------------------------------------------------------------------------------- all that is compared


OPERANDS, OUTPUTS = "the operands of a node were changed", "inputs or outputs of graph forward were changed"
WAYS: dict[str, tuple[Change, str]] = {
    "set_input": (lambda m: node(m, "add").set_input(0, forward(m).inputs[1]), OPERANDS),
    "an operand by hand": (lambda m: node(m, "sub").inputs.__setitem__(1, forward(m).inputs[3]), OPERANDS),
    "an operand left out": (lambda m: node(m, "add").set_input(1, None), OPERANDS),
    "operands swapped": (lambda m: node(m, "sub").inputs.reverse(), OPERANDS),
    "replace": (lambda m: forward(m).replace(node(m, "mul").out, forward(m).inputs[3]), OPERANDS),
    "replace what is returned": (lambda m: forward(m).replace(node(m, "sub").out, node(m, "mul").out), OUTPUTS),
    "erase": (lambda m: forward(m).erase(node(m, "dead")), r"a node was erased: <exp\(\)"),
    "an op exchanged": (lambda m: setattr(node(m, "neg"), "op", Exp()), "the op of a node were changed"),
    "a type": (lambda m: setattr(node(m, "neg").out, "type", BF16), "the types of a node were changed"),
    "an origin": (lambda m: setattr(node(m, "neg"), "origin", Origin("", ("neg",))), "the origin of a node"),
    "results": (lambda m: setattr(node(m, "neg"), "outputs", ()), "the types of a node were changed"),
    "bodies exchanged": (lambda m: setattr(n := node(m, "if"), "bodies", n.bodies[::-1]), "the graphs of a node"),
    "a node emitted": (lambda m: forward(m).ops.neg(forward(m).inputs[1]), r"a node was made\n(.*\n)+  > .* = neg"),
    "a weight's leaf emitted": (lambda m: m.graphs["aside"].ops.weight("a"), "a node was made"),
    "a constant emitted": (lambda m: forward(m).ops.constant([1.0]), "a node was made"),
    "a graph added": (lambda m: m.graph("another"), "graph another was added"),
    "a graph exchanged": (lambda m: m.graphs.update(aside=m.copy().graphs["aside"]), "graph aside was added"),
    "a graph renamed": (lambda m: setattr(forward(m), "name", "forwards"), "graph forwards were changed"),
    "graphs reordered": (lambda m: m.graphs.update(forward=m.graphs.pop("forward")), "the module's graphs"),
    "outputs renamed": (lambda m: setattr(forward(m), "output_names", ["y", "w"]), OUTPUTS),
    "outputs exchanged": (lambda m: forward(m).output_names.reverse(), OUTPUTS),
    "an output taken away": (lambda m: forward(m).set_outputs({"y": forward(m).outputs["y"]}), OUTPUTS),
    "an input added": (lambda m: forward(m).input("more", F32), OUTPUTS),
    "an input removed": (lambda m: forward(m).remove_input(forward(m).inputs[3]), OUTPUTS),
    "an input renamed": (lambda m: setattr(forward(m).inputs[1], "name", "w"), OUTPUTS),
    "inputs reordered": (lambda m: forward(m).inputs.reverse(), OUTPUTS),
    "an input's type": (lambda m: setattr(forward(m).inputs[3], "type", BF16), OUTPUTS),
    "an input's role": (lambda m: setattr(forward(m).inputs[0], "role", MASK), OUTPUTS),
    "an output's role": (lambda m: forward(m).roles.update(y=EMBEDDING), OUTPUTS),
    "an output's role taken away": (lambda m: forward(m).roles.clear(), OUTPUTS),
    "a weight's entry": (lambda m: m.weights.update(a=WeightEntry(BF16)), "the module's weights were changed"),
    "where a weight is from": (lambda m: m.weights.update(b=WeightEntry(F32)), "the module's weights were changed"),
    "a weight removed": (lambda m: m.weights.pop("a"), "the module's weights were changed"),
    "a weight added": (lambda m: m.weights.update(more=WeightEntry(F32)), "the module's weights were changed"),
    "a guard added": (lambda m: m.guards.append(AtMost(1, Sym("B"))), "the module's guards were changed"),
    "a guard removed": (lambda m: m.guards.pop(0), "the module's guards were changed"),
    "guards reordered": (lambda m: m.guards.reverse(), "the module's guards were changed"),
    "facts": (lambda m: setattr(m, "facts", dataclasses.replace(m.facts, context=8)), "the module's facts"),
    "a body of an if": (lambda m: setattr(node(m, "then"), "op", Exp()), r"the op of a node .*\n +> %0: .* = exp"),
    "an operand in a body": (lambda m: node(m, "else").set_input(0, None), OPERANDS),
    "a body of a repeat": (lambda m: node(m, "repeat").bodies[0].ops.neg(node(m, "block").out), "a node was made"),
    "a body's outputs": (lambda m: setattr(node(m, "if").bodies[0], "output_names", ["s"]), "of graph then"),
    "a body's inputs": (lambda m: node(m, "repeat").bodies[0].input("more", F32), "of graph block"),
}


class Changing(SqrtToAbs):
    """sqrt(x) -> abs(x), and something else at the moment `when`"""

    when: str
    change: Change

    def at_moment(self, when: str, value: Value) -> None:
        if when == self.when:
            type(self).change(value.graph.module)

    def find(self, node: Node) -> Any:
        for match in super().find(node):
            self.at_moment("find", match.roots[0])
            yield match

    def where(self, out: Value) -> str | None:
        self.at_moment("where", out)
        return None

    def build(self, op: Ops, x: Value) -> Value:
        self.at_moment("build", x)
        return op.abs(x)


def rewriting(when: str, change: Change) -> Pass:
    class Evil(RewritePass, replace=True):
        """A rule that does more than it says."""

        rules = (type("Rewritten", (Changing,), {"when": when, "change": staticmethod(change)}),)
        strength: int = 1

    return Evil(strength=2)


#: when in a pass it is changed: in a function, and in each part of a rule
MOMENTS: dict[str, Callable[[Change], Pass]] = {
    "alone": lambda change: evil(lambda m, ctx: change(m)),
    "before an application": lambda change: evil(lambda m, ctx: (change(m), lawful(m, ctx))),
    "after an application": lambda change: evil(lambda m, ctx: (lawful(m, ctx), change(m))),
    "in a find": lambda change: rewriting("find", change),
    "in a where": lambda change: rewriting("where", change),
    "in a build": lambda change: rewriting("build", change),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_change_round_the_door_names_the_pass(way: str, moment: str) -> None:
    change, what = WAYS[way]
    named([Innocent(), MOMENTS[moment](change), Innocent()], what=what)
