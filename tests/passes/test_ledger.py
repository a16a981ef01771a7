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
from burnish.passes.engine import Context, Pass, PassError, Pattern, RewritePass, Rule, Unaccounted
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
    scope "layers[0]"
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
    with pytest.raises(Unaccounted, match=what or None) as e:
        for pass_ in passes:
            context.run(pass_)
    assert e.value.pass_text == PASS
    assert str(e.value).startswith(f"pass {PASS} went round the door: ")


# ------------------------------------------------------------------------------------------------- all that is compared


OPERANDS, OUTPUTS = "the operands of a node were changed", "inputs or outputs of graph forward were changed"
ADDED = "graph (another|aside) was added|the module's graphs were changed|a node was made"
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
    "a graph added": (lambda m: m.graph("another"), ADDED),
    "a graph exchanged": (lambda m: m.graphs.update(aside=m.copy().graphs["aside"]), ADDED),
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


# ------------------------------------------------------------------------------ where an application touches it as well


def replace_neg(module: Module, ctx: Context) -> None:
    """A lawful application at `neg`, which `if` reads."""
    neg = node(module, "neg")
    assert ctx.rewrite(Anything(), [neg], neg.outputs, lambda op: op.sub(0.0, neg.inputs[0])) is not None


def replace_sub(module: Module, ctx: Context) -> None:
    """A lawful application at `sub`, which the graph returns."""
    sub = node(module, "sub")
    assert ctx.rewrite(Anything(), [sub], sub.outputs, lambda op: op.again(sub)) is not None


READERS: dict[str, tuple[Change, Callable[[Module, Context], None], str]] = {
    "its operands": (lambda m: node(m, "if").set_input(0, None), replace_neg, "the operands of a node"),
    "its op": (lambda m: setattr(node(m, "if"), "op", Tanh()), replace_neg, "the op of a node"),
    "its type": (lambda m: setattr(node(m, "if").out, "type", BF16), replace_neg, "the types of a node"),
    "its bodies": (lambda m: setattr(node(m, "if"), "bodies", ()), replace_neg, "the graphs of a node"),
    "its origin": (lambda m: setattr(node(m, "if"), "origin", Origin()), replace_neg, "the origin of a node"),
    "the names of outputs": (lambda m: forward(m).output_names.reverse(), replace_sub, "the outputs of graph forward"),
    "the roles of outputs": (lambda m: forward(m).roles.clear(), replace_sub, "the outputs of graph forward"),
    "an input": (lambda m: forward(m).inputs.pop(), replace_sub, "the outputs of graph forward"),
}


@pytest.mark.parametrize("case", READERS)
def test_a_changed_reader_of_what_is_replaced(case: str) -> None:
    """The application that comes after is not taken for what changed it."""
    change, replace, what = READERS[case]
    named([evil(lambda m, ctx: (change(m), replace(m, ctx)))], what=what)


def test_a_reader_that_build_changes() -> None:
    def run(module: Module, ctx: Context) -> None:
        neg, x = node(module, "neg"), forward(module).inputs[1]

        def build(op: Ops) -> Value:
            node(module, "if").set_input(1, x)
            return op.sub(0.0, neg.inputs[0])

        ctx.rewrite(Anything(), [neg], neg.outputs, build)

    named([evil(run)], what=OPERANDS)


#: changes of a node, before a lawful application replaces it by one that is made of what it is then, or after
OF_ONE_NODE: dict[str, Callable[[Node], object]] = {
    "operands": lambda n: n.set_input(0, forward(n.out.graph.module).inputs[3]),
    "op": lambda n: setattr(n, "op", Exp()),
    "types": lambda n: setattr(n.out, "type", BF16),
    "origin": lambda n: setattr(n, "origin", Origin("layers[1]", ("another",))),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", OF_ONE_NODE)
def test_a_node_that_is_rewritten_too(what: str, when: str) -> None:
    def run(module: Module, ctx: Context) -> None:
        old = node(module, "neg")
        if when == "before":
            OF_ONE_NODE[what](old)
        new = ctx.rewrite(Anything(), [old], old.outputs, lambda op: op.emit_typed(old.op, old.inputs, [old.out.type]))
        if when == "after":
            assert new
            OF_ONE_NODE[what](new[0])

    named([evil(run)], what=f"the {what} of a node were changed")


def test_a_node_into_which_another_is_merged() -> None:
    def run(module: Module, ctx: Context) -> None:
        into = node(module, "mul")
        into.set_input(0, forward(module).inputs[3])
        ctx.merge(Anything(), node(module, "neg"), into=into)

    named([evil(run)], what=OPERANDS)


TABLES = [way for way, (_, what) in WAYS.items() if what.startswith("the module's") and way != "graphs reordered"]


@pytest.mark.parametrize("way", TABLES)
def test_a_table_that_is_changed_before_an_application_adds_a_guard(way: str) -> None:
    change, what = WAYS[way]

    def run(module: Module, ctx: Context) -> None:
        change(module)
        sqrt = node(module, "sqrt")
        ctx.rewrite(
            Anything(), [sqrt], sqrt.outputs, lambda op: (op.assume(Equal(Sym("S"), Sym("Q"))), op.again(sqrt))[1]
        )

    named([evil(run)], what=what)


# --------------------------------------------------------------------- what is kept twice, or in no graph of the module


def assumed(module: Module) -> Graph:
    guard = module.guards[1]
    assert isinstance(guard, AllTrue)
    return guard.graph


def another_constant(module: Module) -> None:
    """In the graph of a guard."""
    constant = next(n for n in assumed(module) if isinstance(n.op, Constant))
    constant.op = Constant(value=Literal(constant.out.literal * 2))


HIDDEN: dict[str, Change] = {
    "weights reordered": lambda m: m.weights.update(a=m.weights.pop("a")),
    "the weights' source": lambda m: setattr(m, "source", {}),
    "a guard's graph": another_constant,
    "the outputs of a guard's graph": lambda m: setattr(assumed(m), "output_names", ["some"]),
    "a graph removed": lambda m: m.graphs.pop("aside"),
    "a graph twice": lambda m: m.graphs.update(again=m.graphs["aside"]),
    "a use forgotten": lambda m: node(m, "neg").out.uses.clear(),
    "a use invented": lambda m: node(m, "mul").out.uses.update({(node(m, "sub"), 0): None}),
    "the maker of a value": lambda m: setattr(node(m, "neg").out, "node", None),
    "the graph of a node": lambda m: setattr(node(m, "neg"), "graph", m.graphs["aside"]),
}


@pytest.mark.parametrize("way", HIDDEN)
def test_a_change_that_is_hard_to_see(way: str) -> None:
    named([evil(lambda m, ctx: HIDDEN[way](m))])


def test_a_pass_does_not_run_another() -> None:
    context = Context(parse(MODEL))
    with pytest.raises(PassError, match=r"pass canonicalize: pass evil.* has not ended"):
        context.run(evil(lambda m, ctx: ctx.run(parse_pass("canonicalize"))))


#: a change of a signature that leaves behind what `restructure` does not look at, and a later pass stumbles over
LEFT: dict[str, Change] = {
    "an operand read by hand": lambda m: node(m, "sub").inputs.__setitem__(1, forward(m).inputs[3]),
    "a use of no reader": lambda m: node(m, "mul").out.uses.update({(node(m, "sub"), 0): None}),
    "an input of another type": lambda m: setattr(forward(m).inputs[1], "type", BF16),
    "an input that is read taken away": lambda m: forward(m).inputs.pop(1),
    "a weight of another type": lambda m: m.weights.update(a=WeightEntry(BF16)),
    "no weight": lambda m: m.weights.pop("a"),
}


@pytest.mark.parametrize("way", LEFT)
def test_a_restructuring_that_leaves_something_unsound_is_named(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # verify as it is done outside of tests: what was touched
    context = Context(parse(MODEL))
    with pytest.raises(PassError, match=f"pass {PASS}"):
        context.run(evil(lambda m, ctx: ctx.restructure(Anything(), m.graphs["aside"], lambda op: LEFT[way](m))))


def test_after_a_failure_no_other_pass_runs() -> None:
    """What is left of the module is nobody's."""
    context = Context(parse(MODEL))
    with pytest.raises(Unaccounted, match="evil"):
        context.run(evil(lambda m, ctx: node(m, "sub").set_input(1, node(m, "mul").out)))
    with pytest.raises(
        PassError, match=r"pass innocent: pass evil.* has not ended, or failed: begin a new"
    ):
        context.run(Innocent())


# ----------------------------------------------------------------------------------- and what went through it is lawful


def to_if(module: Module, ctx: Context) -> None:
    neg, condition = node(module, "neg"), forward(module).inputs[2]

    def build(op: Ops) -> Value:
        bodies = [module.body(name) for name in ("then", "else")]
        for body in bodies:
            body.set_outputs({"r": body.ops.neg(body.input("v", F32))})
        return op.if_(condition, neg.inputs[0], bodies=bodies)

    ctx.rewrite(Anything(), [neg], neg.outputs, build)


def from_if(module: Module, ctx: Context) -> None:
    if_ = node(module, "if")
    ctx.rewrite(Anything(), [if_], if_.outputs, lambda op: op.tanh(if_.inputs[1]))


def again(module: Module, ctx: Context) -> None:
    if_ = node(module, "if")
    ctx.rewrite(Anything(), [if_], if_.outputs, lambda op: op.again(if_))


def in_a_body(module: Module, ctx: Context) -> None:
    then = node(module, "then")
    ctx.rewrite(Anything(), [then], then.outputs, lambda op: op.sub(0.0, then.inputs[0]))


def merge(module: Module, ctx: Context) -> None:
    ctx.merge(Anything(), node(module, "neg"), into=node(module, "add"))


def restructure(module: Module, ctx: Context) -> None:
    def change(op: Ops) -> None:
        op.graph.remove_input(op.graph.inputs[3])
        op.graph.set_outputs({"only": node(module, "neg").out})
        module.graphs["aside"].set_outputs({"y": module.graphs["aside"].inputs[0]})

    ctx.restructure(Anything(), forward(module), change)


def skipped(module: Module, ctx: Context) -> None:
    ctx.controller = Skip(["evil"])
    neg = node(module, "neg")
    assert ctx.rewrite(Anything(), [neg], neg.outputs, lambda op: op.exp(1.0)) is None
    assert not ctx.merge(Anything(), neg, into=node(module, "add"))
    assert not ctx.restructure(Anything(), forward(module), lambda op: forward(module).inputs.clear())


def guarded(module: Module, ctx: Context) -> None:
    neg = node(module, "neg")

    def build(op: Ops) -> Value:
        op.assume(Equal(Sym("S"), Sym("Q")))
        return op.again(neg)

    ctx.rewrite(Anything(), [neg], neg.outputs, build)


LAWFUL: dict[str, Any] = {
    f.__name__: f for f in (again, to_if, from_if, in_a_body, merge, restructure, skipped, guarded)
}


@pytest.mark.parametrize("way", LAWFUL.values())
def test_what_goes_through_the_door_is_accounted_for(way: Callable[[Module, Context], None]) -> None:
    context = Context(parse(MODEL))
    context.run(evil(way))
    context.controller = Skip(())
    context.run(Innocent())
    assert context.applied[-1].pass_name == "innocent"
