"""roll-blocks: repeated blocks as one loop, so that what compiles a graph sees the block once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from burnish.ir.builder import Ops
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.leaves import Weight
from burnish.ir.literal import Literal
from burnish.ir.module import Module
from burnish.ir.ops.control import Repeat
from burnish.ir.origin import Origin, block_of
from burnish.ir.signature import Linked, Role, State
from burnish.passes.engine import Context, Pass, Rule
from burnish.passes.repetition import Block, Entered, External, Inner, Reference, find_blocks

Column = tuple[Value, ...]  # what stands in one place of every block


class BlocksToRepeat(Rule):
    """block, block, … -> repeat(count) { block }"""


class RollBlocks(Pass):
    """block, block, … -> repeat(count) { block } over stacked weights, states and results

    States of the blocks become one, [count, …]; so do inputs that are linked to another graph. Blocks are told from the
    graph alone, and may have several layers.
    """

    rules = (BlocksToRepeat,)

    def run(self, module: Module, ctx: Context) -> None:
        for graph in list(module.graphs.values()):
            refused: set[Node] = set()
            while blocks := find_blocks(graph, without=refused):
                roll, nodes = _Roll(graph, blocks), [n for b in blocks for n in b.nodes]
                if reason := roll.why_not():
                    ctx.remark(BlocksToRepeat(), nodes, blocks[-1].last.outputs, reason)
                    refused.update(nodes)
                elif not ctx.restructure(BlocksToRepeat(), graph, roll, nodes):
                    refused.update(nodes)


@dataclass
class _Roll:
    """One run of blocks, and what their loop reads and returns."""

    graph: Graph
    blocks: Sequence[Block]

    @cached_property
    def columns(self) -> dict[Column, list[int]]:
        """What the blocks read from outside, and the numbers under which they know it."""
        columns: dict[Column, list[int]] = {}
        for at, column in enumerate(zip(*(b.external for b in self.blocks), strict=True)):
            columns.setdefault(column, []).append(at)
        return columns

    @cached_property
    def shared(self) -> list[Column]:
        """What every block reads."""
        return [c for c in self.columns if len(set(c)) == 1]

    @cached_property
    def states(self) -> dict[Column, Inner]:
        """States of which each is read by its block alone, and returned by it."""
        return {c: made for c in self.columns if c not in self.shared and (made := self._returned(c)) is not None}

    @cached_property
    def slices(self) -> list[Column]:
        """The rest: a weight of each block, as a rule."""
        return [c for c in self.columns if c not in self.shared and c not in self.states]

    @cached_property
    def further(self) -> list[Inner]:
        """Results that leave a block otherwise than as its state or to the block that follows."""
        states = {v.name for column in self.states for v in column}
        kept = {v for name, v in self.graph.outputs.items() if name not in states}
        found: dict[Inner, None] = {}
        for i, block in enumerate(self.blocks):
            following = self.blocks[i + 1].nodes if i + 1 < len(self.blocks) else []
            known = {self.graph.ret, *block.nodes}
            for a, node in enumerate(block.nodes):
                if node is block.last and not following:
                    continue  # the loop returns it
                for o in node.outputs:
                    others = set(o.users) - known - (set(following) if node is block.last else set())
                    if others or o in kept:
                        found[Inner(a, o.index)] = None
        return list(found)

    def _returned(self, column: Column) -> Inner | None:
        places = set()
        for v, block in zip(column, self.blocks, strict=True):
            new = self.graph.outputs.get(v.name) if isinstance(v.role, State) and v.role == column[0].role else None
            if new is None or new.node not in block.nodes or any(u not in block.nodes for u in v.users):
                return None
            places.add(Inner(block.nodes.index(new.node), new.index))
        return places.pop() if len(places) == 1 else None

    def why_not(self) -> str | None:
        """None, or why the blocks cannot run in a loop."""
        nodes = {n for b in self.blocks for n in b.nodes}
        after = list(nodes)
        for node in after:
            found = [u for o in node.outputs for u in o.users if u not in nodes]
            nodes.update(found)
            after += found
        for column in self.columns:
            if (v := next((v for v in column if v.node in nodes), None)) is not None:
                return f"a block reads {v.type} of another block that is not the one before it"
        return None

    def __call__(self, op: Ops) -> None:
        """Put the loop in the place of the blocks."""
        graph, first, last = self.graph, self.blocks[0], self.blocks[-1]
        count, states = len(self.blocks), list(self.states)
        stacked_inputs = {c: self._input(c, c[0].role.stacked()) for c in states if isinstance(c[0].role, State)}
        stacks = [*stacked_inputs.values(), *(self._stack(op, c) for c in self.slices)]
        repeat = Repeat(count=count, carries=len(last.last.outputs), shared=len(self.shared), states=len(states))
        results = list(
            op.emit(repeat, [*first.before.outputs, *(c[0] for c in self.shared), *stacks], bodies=(self._body(),))
        )
        carries, rest = results[: repeat.carries], results[repeat.carries :]
        for old, new in zip(last.last.outputs, carries, strict=True):
            graph.replace(old, new)
        for column, new in zip(states, rest, strict=False):
            _rename(graph, column, stacked_inputs[column], new)
        for place, new in zip(self.further, rest[len(states) :], strict=True):
            for i, block in enumerate(self.blocks):
                graph.replace(block.nodes[place.node].outputs[place.index], op.index(new, index=i))
        graph.erase_dead([n for b in reversed(self.blocks) for n in b.nodes])
        for v in [v for c in self.columns for v in c if v in graph.inputs and not v.uses]:
            graph.remove_input(v)

    def _body(self) -> Graph:
        """The block, once."""
        body = self.graph.module.body("block")
        block = self.blocks[0]
        entered = [body.input(f"x{i or ''}", o.type) for i, o in enumerate(block.before.outputs)]
        external: dict[int, Value] = {}
        for column in [*self.shared, *self.states, *self.slices]:
            name = _free(self._body_name(column[0]), [v.name for v in body.inputs])
            value = body.input(name, column[0].type)
            external.update(dict.fromkeys(self.columns[column], value))
        made: list[Node] = []

        def operand(r: Reference) -> Value | None:
            match r:
                case Inner(node, index):
                    return made[node].outputs[index]
                case Entered(index):
                    return entered[index]
                case External(at):
                    return external[at]
                case Literal():
                    return body.ops.constant(r.data)
            return None

        for i, node in enumerate(block.nodes):
            origin = Origin.union((b.nodes[i].origin for b in self.blocks), BlocksToRepeat.__name__)
            inputs = [operand(r) for r in block.operands[i]]
            made.append(body.emit(node.op, inputs, [o.type for o in node.outputs], origin, node.bodies))
        leaving = [Inner(block.nodes.index(block.last), o.index) for o in block.last.outputs]
        values = [made[r.node].outputs[r.index] for r in [*leaving, *self.states.values(), *self.further]]
        body.set_outputs({f"y{i or ''}": v for i, v in enumerate(values)})
        return body

    def _body_name(self, value: Value) -> str:
        """What the body calls a value: a weight as its own block does, whatever was made of it meanwhile."""
        if value.node is None:
            return _stem(value.name)
        node = value.node
        while len(node.inputs) == 1 and (maker := node[node.op.operand(0)].node) is not None:
            node = maker
        if not isinstance(node.op, Weight):
            return node.op.name
        block = next((block_of(u.origin.scope) for u in value.users if u in self.blocks[0].nodes), None)
        return block.own_name(node.op.tensor) if block is not None else node.op.tensor

    def _stack(self, op: Ops, column: Column) -> Value:
        """The values of one place, stacked: where another graph makes them all, there, and once."""
        links = [v.role for v in column if isinstance(v.role, Linked)]
        maker = self.graph.module.graphs[links[0].graph] if len(links) == len(column) else None
        made = [maker.outputs.get(link.name) for link in links if link.graph == maker.name] if maker is not None else []
        mine = all(u in b.nodes for v, b in zip(column, self.blocks, strict=True) for u in v.users)
        if maker is None or not mine or len(made) != len(column) or None in made:
            readers = (n.origin for v, b in zip(column, self.blocks, strict=True) for n in v.users if n in b.nodes)
            with op.at(Origin.union(readers, BlocksToRepeat.__name__)):
                return op.stack(*column)
        gone = {link.name for link in links}
        name = _free(_stem(links[0].name), [v.name for v in maker.inputs] + [k for k in maker.outputs if k not in gone])
        stack = Ops(maker, op.fixed, may_assume=False).stack(*made)
        maker.set_outputs({k: v for k, v in maker.outputs.items() if k not in gone} | {name: stack})
        return self._input(column, Linked(maker.name, name))

    def _input(self, column: Column, role: Role) -> Value:
        """A new input for those of a column, stacked."""
        taken = [v.name for v in self.graph.inputs if v not in column]
        name = _free(_stem(column[0].name), [*taken, *self.graph.outputs])
        return self.graph.input(name, column[0].type.with_shape((len(column), *column[0].shape)), role)


def _rename(graph: Graph, column: Column, state: Value, new: Value) -> None:
    """Return `new` as the state in the place of those of a column."""
    names = [v.name for v in column]
    roles = {} if state.role is None else {state.name: state.role}
    graph.set_outputs({k: v for k, v in graph.outputs.items() if k not in names} | {state.name: new}, roles)


def _stem(name: str) -> str:
    """A name without the number at its end."""
    return re.sub(r"\d+$", "", name) or name


def _free(name: str, taken: Sequence[str]) -> str:
    """The name, with a number where it is taken."""
    n, free = 1, name
    while free in taken:
        n += 1
        free = f"{name}_{n}"
    return free
