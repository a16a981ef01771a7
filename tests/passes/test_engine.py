"""The one door: what it promises, what it refuses, and that everything that goes through it can be steered."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from burnish.debug.controllers import Fuel, Record, Skip
from burnish.ir import Module, Node, Ops, Value, parse
from burnish.ir.discover import load_plugin
from burnish.ir.ops.elementwise import Add, Cast, Exp, Neg
from burnish.ir.signature import Carry, Role
from burnish.ir.types import InferError
from burnish.passes.engine import (
    Application,
    Context,
    Controller,
    Endless,
    Match,
    Pass,
    PassError,
    Pattern,
    RewritePass,
    Rule,
)
from burnish.passes.pipelines import parse_pipeline
from tests.decoder import PIPELINE, decoder

pytestmark = pytest.mark.usefixtures("registries")
CHAIN = """module {
  graph forward(%x: f32[4]) {
    scope "layers[0]"
    %0.0: f32[4] = neg(%x) <- "first"
    %0.1: f32[4] = exp(%0.0) <- "second"
    %0.2: f32[4] = tanh(%0.1) <- "third"
    return y=%0.2
  }
}
"""


def run(module: Module, pipeline: str | Sequence[Pass], controller: Controller | None = None) -> Context:
    context = Context(module.copy(), controller or Skip(()))
    for pass_ in parse_pipeline(pipeline) if isinstance(pipeline, str) else pipeline:
        context.run(pass_)
    return context


def rewriting(*rules: type[Rule]) -> list[Pass]:
    """A pass of these rules."""
    return [type("Test", (RewritePass,), {"rules": rules}, replace=True)()]


class ExpNegToTanh(Rule):
    """exp(neg(x)) -> tanh(x)"""

    def match(self, op: Ops, x: Value) -> Pattern:
        return op.exp(op.neg(x))

    def build(self, op: Ops, x: Value) -> Value:
        return op.tanh(x)


# ------------------------------------------------------------------------------------------------------------ one door:
# a tree rule (fuse-fma), several roots (fuse-qkv), a change of the signature (insert-state), a function
# (quantize-weights)


def test_every_kind_of_pass_goes_through_the_door() -> None:
    applied = run(decoder(), PIPELINE).applied
    assert [a.pass_name for a in applied] == [
        *["fuse-qkv"] * 2,
        *["fuse-fma"] * 2,
        "insert-state",
        *["quantize-weights"] * 5,
    ]
    assert len({a.id for a in applied}) == len(applied)


@pytest.mark.parametrize("fuel", range(11))
def test_fuel_allows_the_first_applications(fuel: int) -> None:
    every = run(decoder(), PIPELINE).applied
    context = run(decoder(), PIPELINE, Fuel(fuel))
    assert context.applied == every[:fuel]
    assert any(r.reason == f"out of fuel after {fuel}" for r in context.remarks) == (fuel < len(every))


@pytest.mark.parametrize("name", ["fuse-fma", "fuse-qkv", "insert-state", "quantize-weights"])
def test_a_skipped_application_is_all_that_is_missing(name: str) -> None:
    """The identities of the others are the same, and the remark says that it was skipped."""
    every = run(decoder(), name).applied
    for skipped in every:
        context = run(decoder(), name, Skip([skipped.id]))
        assert context.applied == [a for a in every if a is not skipped and a.id != skipped.id]
        assert [str(r) for r in context.remarks if r.application.id == skipped.id] == [
            f"{skipped}: skipped: {skipped.id}"
        ]
    assert str(run(decoder(), name, Skip([name])).module) == str(decoder())


@pytest.mark.parametrize(
    ("name", "made", "sources"),
    [
        ("fuse-fma", "fma", ["forward:layers[0]:add.2", "forward:layers[0]:mul"]),
        ("fuse-qkv", "split", [f"forward:layers[0].attn.{n}:linear" for n in "qkv"]),
        ("insert-state", "cache_update", ["forward:layers[0].attn:attention"]),
        ("quantize-weights", "quantize", ["forward:layers[0].attn.q:linear"]),
    ],
)
def test_what_is_made_knows_what_it_stands_for_and_who_made_it(name: str, made: str, sources: list[str]) -> None:
    context = run(decoder(), name)
    node = next(n for n in context.module.graphs["forward"] if n.op.name == made)
    assert list(node.origin.sources) == sources
    assert list(node.origin.rules) == [context.applied[0].rule]
    assert node.origin.scope.startswith("layers[0]")
    again = context.module.copy()
    assert next(n for n in again.graphs["forward"] if n.op.name == made).origin == node.origin


def test_an_identity_does_not_depend_on_what_else_is_applied() -> None:
    every = {a.id: a for a in run(decoder(), PIPELINE).applied}
    for skipped in every.values():
        others = run(decoder(), PIPELINE, Skip([skipped.id])).applied
        same = {a.id for a in others} & set(every)
        lost = set(every) - same - {skipped.id}
        # Only what reads the very nodes that were not made is another application, or none.
        assert all(every[i].pass_name == "quantize-weights" for i in lost), (skipped, lost)


def test_a_joined_node_still_stands_for_itself() -> None:
    """Where equal nodes were joined, and have both origins, what fits there is the same application as before."""
    module = parse("""module {
      graph forward(%a: f32[4], %b: f32[4]) {
        %0: f32[4] = mul(%a, %b) <- "mul"
        %1: f32[4] = add(%0, %a) <- "add"
        %2: f32[4] = mul(%a, %b) <- "mul.2"
        %3: f32[4] = add(%2, %a) <- "add.2"
        return y=%1, z=%3
      }
    }""")
    apart, joined = run(module, "fuse-fma"), run(module, "canonicalize,fuse-fma")
    (application,) = [a for a in joined.applied if a.pass_name == "fuse-fma"]
    assert application.sources == ("add", "add.2", "mul", "mul.2")
    assert application.id == apart.applied[0].id


# ------------------------------------------------------------------------------------------------------------- promises


def test_dead_operands_are_erased_at_once() -> None:
    seen: list[list[str]] = []

    class Watch:
        def applied(self, application: Application, module: Module, made: object) -> None:
            seen.append([n.op.name for n in module.graphs["forward"]])

        def after_pass(self, pass_: Pass, module: Module) -> None:
            pass

    context = Context(parse(CHAIN), observers=[Watch()])
    context.run(rewriting(ExpNegToTanh)[0])
    assert sorted(seen[0]) == ["tanh", "tanh"]


def test_an_interior_value_with_another_user_is_refused_with_the_reason() -> None:
    module = parse(CHAIN.replace("y=%0.2", "y=%0.2, z=%0.0"))
    (remark,) = run(module, rewriting(ExpNegToTanh)).remarks
    assert remark.reason == "the result of neg inside has another user, return"


def test_a_function_pass_is_held_to_the_same_promise() -> None:
    class Careless(Pass):
        """exp(neg(x)) -> tanh(x), without looking"""

        def run(self, module: Module, ctx: Context) -> None:
            (neg, exp) = list(module.graphs["forward"])[:2]
            assert ctx.rewrite(ExpNegToTanh(), [exp, neg], exp.outputs, lambda op: op.tanh(neg.inputs[0])) is None

    context = run(parse(CHAIN.replace("y=%0.2", "y=%0.2, z=%0.0")), [Careless()])
    assert "another user" in str(context.remarks[0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda op, x: x.no_such_attribute, "its build crashes: AttributeError"),
        (lambda op, x: (x, x), "builds 2 values for 1"),
        (lambda op, x: op.neg(next(iter(x.users)).out.users[0].out), "builds on the value that it replaces"),
    ],
)
def test_a_wrong_build_is_refused_by_name_and_place(build: Callable[..., Value], message: str) -> None:
    class Wrong(Rule):
        """exp(neg(x)) -> something else"""

        def match(self, op: Ops, x: Value) -> Pattern:
            return op.exp(op.neg(x))

        def build(self, op: Ops, x: Value) -> Value:
            return build(op, x)

    with pytest.raises(PassError, match=message) as e:
        run(parse(CHAIN), rewriting(Wrong))
    assert re.search(r"application [0-9a-f]{12} test/Wrong at layers\[0\]", str(e.value))
    assert '  > %0.1: f32[4] = exp(%0.0) <- "second"' in str(e.value)  # the neighbourhood, and the place in it


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda op, x: op.cast(op.add(x, 2.5), to="bf16"), r"bf16\[4\] does not stand for f32\[4\]"),
        (lambda op, x: op.unsqueeze(op.neg(op.neg(x)), axes=(0,)), r"f32\[1, 4\] does not stand for f32\[4\]"),
        (lambda op, x: op.reshape(op.mul(x, x), shape=(5,)), "reshape"),
        (lambda op, x: op.add(op.exp(x), op.constant([1.0, 2.0])), "add"),
    ],
)
def test_what_has_another_type_is_not_put_there_and_a_remark_says_so(
    build: Callable[..., Value], reason: str
) -> None:
    class Misfit(Rule):
        """exp(neg(x)) -> what does not fit"""

        def match(self, op: Ops, x: Value) -> Pattern:
            return op.exp(op.neg(x))

        def build(self, op: Ops, x: Value) -> Value:
            return build(op, x)

    context = run(parse(CHAIN), rewriting(Misfit))
    (remark,) = context.remarks
    assert re.search("what it builds does not fit: .*" + reason, str(remark))
    assert str(context.module) == CHAIN  # nothing of it is left
    assert [r.application.rule for r in run(parse(CHAIN), rewriting(Misfit, ExpNegToTanh)).remarks if not r.reason] == [
        "ExpNegToTanh"
    ]


def test_what_where_asks_about_may_not_fit_either() -> None:
    class Asks(ExpNegToTanh):
        """exp(neg(x)) -> tanh(x), unless x cannot be asked about"""

        def where(self) -> str | None:
            raise InferError("there is no such thing")

    (remark,) = run(parse(CHAIN), rewriting(Asks)).remarks
    assert remark.reason == "there is no such thing"


def test_the_verifier_names_the_pass_and_the_application() -> None:
    class Spoil(Rule):
        """neg(x) -> cast(x) of a type that it does not have"""

        def match(self, op: Ops, x: Value) -> Pattern:
            return op.neg(x)

        def build(self, op: Ops, x: Value) -> Value:
            return op.emit_typed(Cast(to="bf16"), [x], [x.type])

    message = r"(?s)after pass test, application \w+ test/Spoil at layers\[0\]: .*bf16.*  > "
    with pytest.raises(PassError, match=message):
        run(parse(CHAIN), rewriting(Spoil))


def test_a_pass_that_crashes_is_named() -> None:
    class Crash(Pass):
        """x -> an exception"""

        def run(self, module: Module, ctx: Context) -> None:
            raise KeyError("lost")

    with pytest.raises(PassError, match="pass crash crashed: KeyError: 'lost'"):
        run(parse(CHAIN), [Crash()])


def test_two_equal_identities_are_an_error() -> None:
    module = parse(CHAIN.replace("exp(%0.0)", "neg(%0.0)").replace("second", "first"))

    class NegToSub(Rule):
        """neg(x) -> sub(0, x)"""

        def match(self, op: Ops, x: Value) -> Pattern:
            return op.neg(x)

        def build(self, op: Ops, x: Value) -> Value:
            return op.sub(0.0, x)

    with pytest.raises(PassError, match=r"test/NegToSub at layers\[0\] occurs twice"):
        run(module, rewriting(NegToSub))


def test_rules_that_undo_each_other_end_in_an_error() -> None:
    class Away(Rule):
        """neg(x) -> sub(0, x)"""

        def match(self, op: Ops, x: Value) -> Pattern:
            return op.neg(x)

        def build(self, op: Ops, x: Value) -> Value:
            return op.sub(0.0, x)

    class Back(Rule):
        """sub(0, x) -> neg(x)"""

        def match(self, op: Ops, x: Value) -> Pattern:
            return op.sub(0.0, x)

        def build(self, op: Ops, x: Value) -> Value:
            return op.neg(x)

    with pytest.raises(Endless, match=r"rules Away, Back undo each other.* at layers\[0\]") as e:
        run(parse(CHAIN), rewriting(Away, Back))
    assert [(a.rule, a.scope) for a in e.value.applications] == [("Away", "layers[0]"), ("Back", "layers[0]")]
    assert '  > %0.0: f32[4] = neg(%x) <- "first"' in str(e.value)


def test_three_rules_that_undo_each_other_are_all_named() -> None:
    class First(Rule):
        """neg(x) -> sub(0, x)"""

        def match(self, op: Ops, x: Value) -> Pattern:
            return op.neg(x)

        def build(self, op: Ops, x: Value) -> Value:
            return op.sub(0.0, x)

    class Second(Rule):
        """sub(0, x) -> mul(x, -1)"""

        def match(self, op: Ops, x: Value) -> Pattern:
            return op.sub(0.0, x)

        def build(self, op: Ops, x: Value) -> Value:
            return op.mul(x, -1.0)

    class Third(Rule):
        """mul(x, -1) -> neg(x)"""

        def match(self, op: Ops, x: Value) -> Pattern:
            return op.mul(x, -1.0)

        def build(self, op: Ops, x: Value) -> Value:
            return op.neg(x)

    with pytest.raises(Endless, match="First, Second, Third undo each other"):
        run(parse(CHAIN), rewriting(First, Second, Third))


def test_rules_that_undo_each_other_a_little_further_on_are_named() -> None:
    class Wider(Rule):
        """neg(x) -> squeeze(neg(unsqueeze(x))), of one more axis each time"""

        at = (Neg,)

        def find(self, node: Node) -> Iterator[Match]:
            yield Match({"x": node["x"]}, [node], list(node.outputs), [])

        def build(self, op: Ops, x: Value) -> Value:
            return op.squeeze(op.sub(0.0, op.unsqueeze(x, axes=(0,))), axes=(0,))

    class Back(Rule):
        """sub(0, x) -> neg(x)"""

        def match(self, op: Ops, x: Value) -> Pattern:
            return op.sub(0.0, x)

        def build(self, op: Ops, x: Value) -> Value:
            return op.neg(x)

    with pytest.raises(Endless, match=r"rules (Back, Wider|Wider, Back) undo each other"):
        run(parse(CHAIN), rewriting(Wider, Back))


@pytest.mark.parametrize(
    "grown",
    [
        lambda op, x: op.neg(op.neg(op.neg(x))),
        lambda op, x: op.squeeze(op.neg(op.unsqueeze(x, axes=(0,))), axes=(0,)),
        lambda op, x: op.add(op.neg(x), op.mul(op.neg(op.exp(x)), 0.0)),
    ],
)
def test_a_rule_that_grows_for_ever_ends_in_an_error(grown: Callable[..., Value]) -> None:
    class Grow(Rule):
        """neg(x) -> more of them"""

        def match(self, op: Ops, x: Value) -> Pattern:
            return op.neg(x)

        def build(self, op: Ops, x: Value) -> Value:
            return grown(op, x)

    with pytest.raises(Endless, match=r"rule Grow fits what it makes, without end: \w+ test/Grow at layers\[0\]"):
        run(parse(CHAIN), rewriting(Grow))


def test_a_long_chain_may_be_merged_into_one() -> None:
    """Many applications at one place, each of which joins another source."""
    chain = parse("module {\n graph forward(%x: f32[4]) {\n  return y=%x\n }\n}")
    graph = chain.graphs["forward"]
    x = graph.inputs[0]
    for i in range(300):
        x = graph.ops.unsqueeze(x, axes=(i % 3 and 0,))
    graph.set_outputs({"y": x})
    context = run(chain, "simplify-memory")
    assert len(context.module.graphs["forward"]) == 1
    assert len(context.applied) == 299


# -------------------------------------------------------------------------------------------------------------- remarks


def test_an_empty_reason_refuses_without_a_remark() -> None:
    class Quiet(ExpNegToTanh):
        """exp(neg(x)) -> tanh(x), never"""

        def where(self) -> str | None:
            return ""

    context = run(parse(CHAIN), rewriting(Quiet))
    assert context.remarks == []
    assert str(context.module) == CHAIN


def test_a_refusal_at_a_place_that_is_gone_is_forgotten() -> None:
    class Refused(ExpNegToTanh):
        """exp(neg(x)) -> tanh(x), never"""

        def where(self) -> str | None:
            return "on principle"

    assert [str(r).partition(": ")[2] for r in run(parse(CHAIN), rewriting(Refused)).remarks] == ["on principle"]
    both = run(parse(CHAIN), rewriting(Refused, ExpNegToTanh)).remarks
    assert [(r.application.rule, r.reason) for r in both] == [("ExpNegToTanh", None)]


def test_a_user_that_goes_makes_room_for_another_rule() -> None:
    """neg is read by exp, which fits, and by a neg that another application takes away later."""
    module = parse("""module {
      graph forward(%x: f32[4]) {
        %0: f32[4] = neg(%x) <- "shared"
        %1: f32[4] = exp(%0) <- "exp"
        %2: f32[4] = neg(%0) <- "again"
        %3: f32[4] = add(%1, %2) <- "add"
        return y=%3
      }
    }""")

    class NegNeg(Rule):
        """neg(neg(x)) -> add(x, 0), whoever else reads neg(x)"""

        def match(self, op: Ops, y: Value) -> Pattern:
            return op.neg(y)

        def where(self, y: Value) -> str | None:
            return None if y.op is not None and y.op.name == "neg" else ""

        def build(self, op: Ops, y: Value) -> Value:
            assert y.node is not None
            x = y.node.inputs[0]
            assert x is not None
            return op.add(x, 0.0)

    context = run(module, rewriting(NegNeg, ExpNegToTanh))
    assert [a.rule for a in context.applied] == ["NegNeg", "ExpNegToTanh"]
    assert context.remarks == [r for r in context.remarks if r.reason is None]


def test_the_second_way_to_fit_is_tried_where_the_first_is_refused() -> None:
    """add is commutative: one of the products has another user, so the other is taken."""
    module = parse("""module {
      graph forward(%a: f32[4], %b: f32[4]) {
        %0: f32[4] = mul(%a, %b) <- "kept"
        %1: f32[4] = mul(%a, %a) <- "free"
        %2: f32[4] = add(%0, %1) <- "add"
        return y=%2, z=%0
      }
    }""")
    (application,) = run(module, "fuse-fma").applied
    assert application.sources == ("add", "free")


def test_the_first_reason_is_the_one_that_is_told() -> None:
    """Where a rule fits in several ways and none applies."""

    class Neither(Rule):
        """add(x, y) -> x, never"""

        at = (Add,)

        def find(self, node: Node) -> Iterator[Match]:
            yield from (Match({"x": x}, [node], list(node.outputs), []) for x in node.operands)

        def where(self, x: Value) -> str | None:
            return f"not {x.name}"

    module = parse('module { graph f(%a: f32[4], %b: f32[4]) { %0: f32[4] = add(%a, %b) <- "add" return y=%0 } }')
    assert [r.reason for r in run(module, rewriting(Neither)).remarks] == ["not a"]


def test_what_weights_determine_may_have_other_users() -> None:
    """It is no work at run time, and stays for those who read it."""

    class MulNeg(Rule):
        """mul(x, neg(w)) -> neg(mul(x, w))"""

        def match(self, op: Ops, x: Value, w: Value) -> Pattern:
            return op.mul(x, op.neg(w))

        def build(self, op: Ops, x: Value, w: Value) -> Value:
            return op.neg(op.mul(x, w))

    products = """
        %1: f32[4] = mul(%x, NEG) <- "one"
        %2: f32[4] = mul(%z, NEG) <- "other"
        return y=%1, z=%2"""
    early = f'weights {{ @0: f32[4] = neg(@w) <- "neg" }}{products.replace("NEG", "@0")}'
    late = f'%0: f32[4] = neg(%x) <- "neg"{products.replace("NEG", "%0")}'
    for statements, applied in ((early, 2), (late, 0)):
        module = parse(f"module {{ weights {{ @w: f32[4] }} graph f(%x: f32[4], %z: f32[4]) {{ {statements} }} }}")
        context = run(module, rewriting(MulNeg))
        assert (len(context.applied), len(context.remarks)) == (applied, 2)


# ------------------------------------------------------------------------------------------------------------ the rest


def test_what_reads_a_change_is_looked_at_again_by_rules_that_look_for_themselves() -> None:
    """neg becomes exp, which becomes tanh in the next round; only then the second neg has what it waits for."""

    class Finds(Rule):
        below = ""  # the op below, "" for an input

        def find(self, node: Node) -> Iterator[Match]:
            (x,) = node.operands
            if (x.op.name if x.op is not None else "") == self.below:
                yield Match({"x": x}, [node], list(node.outputs), [])

        def build(self, op: Ops, out: Value, x: Value) -> Value:
            return op.exp(x) if isinstance(out.op, Neg) else op.tanh(x)

    class First(Finds):
        """neg(x) -> exp(x), x an input"""

        at = (Neg,)

    class Second(Finds):
        """exp(x) -> tanh(x), x an input"""

        at = (Exp,)

    class Third(Finds):
        """neg(tanh(x)) -> exp(tanh(x))"""

        at, below = (Neg,), "tanh"

    chain = parse("""module {
      graph forward(%x: f32[4]) {
        %0: f32[4] = neg(%x) <- "first"
        %1: f32[4] = neg(%0) <- "second"
        return y=%1
      }
    }""")
    context = run(chain, rewriting(First, Second, Third))
    assert [a.rule for a in context.applied] == ["First", "Second", "Third"]


def test_a_graph_is_put_in_order_and_verified_though_no_node_has_changed() -> None:
    class Returned(Rule):
        """f(x) -> f(x), its outputs the other way round"""

    class Returns(Pass):
        """f(x) -> f(x), its outputs the other way round, with a role."""

        rules = (Returned,)
        role: Role | None = None

        def run(self, module: Module, ctx: Context) -> None:
            graph = module.graphs["forward"]
            outputs = dict(reversed(graph.outputs.items()))
            roles = {} if self.role is None else dict.fromkeys(outputs, self.role)
            ctx.restructure(Returned(), graph, lambda op: graph.set_outputs(outputs, roles))

    text = CHAIN.replace("exp(%0.0)", "exp(%x)").replace("return y=%0.2", "return a=%0.0, y=%0.2")
    module = run(parse(text), [Returns()]).module
    assert [n.op.name for n in module.graphs["forward"]] == ["exp", "tanh", "neg"]
    with pytest.raises(PassError, match=r"returns.*: graph forward: output y is carry"):
        run(parse(CHAIN), [Returns(role=Carry(batch=0))])


def test_a_plugin_brings_a_rule(tmp_path: Path) -> None:
    file = tmp_path / "plugin.py"
    file.write_text('''
from burnish.passes.engine import RewritePass, Rule

class TanhNeg(Rule):
    """tanh(exp(x)) -> exp(x), with a sign"""
    def match(self, op, x):
        return op.tanh(op.exp(x))
    def build(self, op, x):
        return op.neg(op.exp(x))

class FromPlugin(RewritePass):
    """A rule from elsewhere."""
    rules = (TanhNeg,)
''')
    load_plugin(file)
    context = run(parse(CHAIN), "from-plugin")
    assert [a.rule for a in context.applied] == ["TanhNeg"]


def test_the_order_of_asking_is_the_order_of_applying() -> None:
    record = Record(Skip(()))
    assert run(decoder(), PIPELINE, record).applied == list(record.allowed.values())


def test_nodes_visited_grow_linearly_with_the_blocks() -> None:
    visited = [run(decoder(blocks), "default").visited for blocks in (4, 8, 16)]
    assert visited[2] - visited[1] == 2 * (visited[1] - visited[0])
