"""insert-state: a plain forward made stateful, the only way to a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial

from burnish.ir.builder import Ops
from burnish.ir.dims import Dim, Sym, bind, symbols_of
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.guards import AllTrue, AtMost, Equal, Guard
from burnish.ir.module import Module, copy_graph
from burnish.ir.ops.attention import Attention
from burnish.ir.origin import Origin
from burnish.ir.signature import CAPACITY, COUNT, PAST, TOKENS, Carry, Linked, Ring, Role, Rows, State
from burnish.ir.state import Independent, Refused, axes_with, in_steps
from burnish.ir.text import neighbourhood
from burnish.ir.types import InferError, Type
from burnish.ir.walk import above
from burnish.passes.engine import Context, Pass, PassError, Rule


class MakeStateful(Rule):
    """f(tokens) -> f(new tokens, states), states: as each op says of itself"""

    exactness = "rounding"  # sums over a state's rows add up in another order


class CrossAttentionOnce(Rule):
    """attention(q, k, v), k and v of the encoder alone -> attention(q, k of the encoder, v of the encoder)"""

    exactness = "rounding"


class InsertState(Pass):
    """attention(q, k, v) causal -> attention(q, cache_update(k_cache, k, past), cache_update(v_cache, v, past), past)

    So that a graph of tokens can be run in steps: each op says how it goes on from one step to the next (`stateful`),
    or that it does not, which is an error that shows the node. Positions count from `past[B]`; keys and values within a
    window are kept in rings; one value has one state, however many read it. What a decoder makes of its encoder's
    results alone is computed once: it moves to that graph, whose further results come in as inputs.
    """

    rules = (MakeStateful, CrossAttentionOnce)

    def run(self, module: Module, ctx: Context) -> None:
        graph = module.main
        if graph is not None and graph.input_for(PAST) is None:
            ctx.restructure(MakeStateful(), graph, partial(_make_stateful, graph=graph))
        for decoder in module.graphs.values():
            links = {v: v.role for v in decoder.inputs if isinstance(v.role, Linked)}
            for name in dict.fromkeys(link.graph for link in links.values()):
                encoder = module.graphs[name]
                results = encoder.outputs
                given = {v: results[r.name] for v, r in links.items() if r.graph == name and r.name in results}
                if decoder.input_for(PAST) is not None and (crossing := _crossing(decoder, given)):
                    change = partial(_attend_once, encoder=encoder, decoder=decoder, given=given, crossing=crossing)
                    ctx.restructure(CrossAttentionOnce(), decoder, change)


def _make_stateful(op: Ops, graph: Graph) -> None:
    tokens = graph.input_for(TOKENS)
    assert tokens is not None
    batch, length = tokens.shape
    if not isinstance(length, Sym) or not length.is_plain:
        raise PassError(f"graph {graph.name} reads {tokens.type}: the number of tokens must be a symbol")
    if batch != 1 and not isinstance(batch, Sym):
        raise PassError(f"graph {graph.name} reads {tokens.type}: the number of sequences must be a symbol, or 1")
    for guard in graph.module.guards:
        _ask_of_all(op, guard, length.text)
    steps = _Steps(op, graph, batch, length.text)
    changed: set[Value] = set()
    for node in graph.order():
        if node.is_leaf:
            continue
        with op.at(Origin.union([node.origin], MakeStateful.__name__)):
            try:
                made = in_steps(op, node, steps)
                if isinstance(made, Independent):
                    if not any(v in changed for v in node.operands):
                        continue
                    made = op.again(node)  # it reads something of another size
            except InferError as e:
                made = Refused(str(e))
        if isinstance(made, Refused):
            raise PassError(f"{node.op.name} cannot go on from step to step: {made.reason}\n{neighbourhood(node)}")
        for old, new in zip(node.outputs, made if len(node.outputs) > 1 else [made], strict=True):
            if old.type != new.type:
                changed.add(new)
            graph.replace(old, new)
    for name, value in graph.outputs.items():
        if value in changed:
            raise PassError(f"output {name} of graph {graph.name} would become {value.type} in a step")
    graph.set_outputs(graph.outputs | steps.outputs, steps.roles)


def _ask_of_all(op: Ops, guard: Guard, tokens: str) -> None:
    """What was assumed of the number of tokens holds of them all, not of those of a step alone."""
    sizes = {tokens: CAPACITY}
    if isinstance(guard, AllTrue):
        if tokens in guard.graph.symbols:
            op.assume(AllTrue(guard.reason, copy_graph(guard.graph, op.graph.module, sizes)))
    elif isinstance(guard, Equal) and {*symbols_of(guard.a), *symbols_of(guard.b)} == {tokens}:
        raise PassError(f"the model is one for a fixed number of tokens: it assumes {guard}")
    elif isinstance(guard, AtMost) and tokens in {*symbols_of(guard.a), *symbols_of(guard.b)}:
        op.assume(AtMost(bind(guard.a, sizes), bind(guard.b, sizes)))


class _Steps:
    """The states of one graph, made as they are asked for: see `burnish.ir.state.Steps`."""

    capacity: Dim = CAPACITY

    def __init__(self, op: Ops, graph: Graph, batch: Dim, tokens: str) -> None:
        self.op, self.graph, self.batch, self.tokens = op, graph, batch, tokens
        self.symbols: Mapping[str, str] = {
            **dict.fromkeys((tokens, CAPACITY.text), TOKENS.name),
            **dict.fromkeys(symbols_of(batch), "sequences"),
        }
        #: made also where nothing asks for it: a stateful graph is known by it
        self.past = graph.input(graph.free_name(PAST.name), Type("i32", (batch,)), PAST)
        self.own = {s for v in graph.inputs for s in v.type.symbols}
        self._symbol(CAPACITY.text)
        self.outputs: dict[str, Value] = {}
        self.roles: dict[str, Role] = {}
        self._known: dict[tuple[Value, Dim], Value] = {}
        self._numbers: dict[str, int] = {}

    @cached_property
    def count(self) -> Value:
        found = self.graph.input_for(COUNT)
        if found is not None:
            return found
        return self.graph.input(self.graph.free_name(COUNT.name), Type("i32", (self.batch,)), COUNT)

    def carries_tokens(self, value: Value) -> bool:
        axes = axes_with(value.type, self.tokens)
        if axes and (axes != [1] or value.shape[:2] != (self.batch, Sym(self.tokens))):
            raise InferError(f"{value.type} does not have its tokens along axis 1, behind the sequences")
        return bool(axes)

    def rows(self, label: str, new: Value) -> Value:
        def step(old: Value) -> tuple[Value, Value]:
            made = self.op.cache_update(old, new, self.past)
            return made, made

        return self._once(label, new, self.capacity, Rows(batch=0, axis=1), step)

    def before(self, label: str, new: Value, rows: int, exact: bool = False) -> Value:
        def step(old: Value) -> tuple[Value, Value]:
            ring, before = self.op.ring_update(old, new, self.past, self.count)
            return ring, before

        length = rows if exact else self._symbol(f"R{rows}")
        return self._once(label, new, length, Ring(batch=0, axis=1, most=rows), step)

    def carry(self, label: str, type: Type, step: Callable[[Value], Sequence[Value]]) -> Sequence[Value]:
        return self._state(label, type, Carry(batch=0), step)

    def _symbol(self, name: str) -> Dim:
        if name in self.own:
            raise PassError(f"graph {self.graph.name} has a symbol {name} of its own, as sizes of states are called")
        return Sym(name)

    def _once(
        self, label: str, new: Value, length: Dim, role: State, step: Callable[[Value], Sequence[Value]]
    ) -> Value:
        """One state for one value, however many ask for it."""
        if not self.carries_tokens(new):
            raise InferError(f"{new.type} has no tokens")
        if (new, length) not in self._known:
            type = new.type.with_shape((self.batch, length, *new.shape[2:]))
            self._known[new, length] = self._state(label, type, role, step)[1]
        return self._known[new, length]

    def _state(self, label: str, type: Type, role: State, step: Callable[[Value], Sequence[Value]]) -> Sequence[Value]:
        name = self.graph.free_name(label, self._numbers.get(label, 0))
        self._numbers[label] = int(name.removeprefix(label)) + 1
        results = step(self.graph.input(name, type, role))
        self.outputs[name], self.roles[name] = results[0], role
        return results


def _crossing(decoder: Graph, given: Iterable[Value]) -> list[Node]:
    """The attentions whose keys and values are made of what is given, and of nothing that the tokens have a part in."""
    fixed = set(given)
    for node in decoder.order():
        if any(v in fixed for v in node.operands) and all(v in fixed or v.time != "run" for v in node.operands):
            fixed.update(node.outputs)
    found = [n for n in decoder.order() if isinstance(n.op, Attention) and {n["k"], n["v"]} <= fixed]
    return [n for n in found if not {n["k"], n["v"]} <= set(given)]


def _attend_once(
    op: Ops, encoder: Graph, decoder: Graph, given: Mapping[Value, Value], crossing: Iterable[Node]
) -> None:
    """Those keys and values come in as results of the encoder; `given` says which of its results a value is."""
    results = encoder.outputs
    there = Ops(encoder, may_assume=False)
    moved = dict(given)
    linked: dict[Value, Value] = {}
    for i, node in enumerate(crossing):
        for name in ("k", "v"):
            value, result = node[name], f"cross_{name}{i}"
            if value not in linked:
                results[result] = _again(there, value, moved)
                linked[value] = decoder.input(result, value.type, Linked(encoder.name, result))
        with op.at(Origin.union([node.origin], CrossAttentionOnce.__name__)):
            decoder.replace(node.out, op.again(node, k=linked[node["k"]], v=linked[node["v"]]))
    op.made += there.made
    encoder.set_outputs(results)
    decoder.erase_dead(list(decoder))
    for value in given:
        if not value.uses:
            decoder.remove_input(value)


def _again(op: Ops, value: Value, moved: dict[Value, Value]) -> Value:
    """The computation of `value` in another graph, where `moved` says what is there already."""
    for node in above([value], moved):
        inputs = [None if v is None else moved[v] for v in node.inputs]
        with op.at(node.origin if node.is_leaf else Origin.union([node.origin], CrossAttentionOnce.__name__)):
            if node.is_leaf:
                made = op.emit_typed(node.op, inputs, [value.type for value in node.outputs])
            else:
                made = op.emit(node.op, inputs, node.bodies)
        moved.update(zip(node.outputs, made, strict=True))
    return moved[value]
