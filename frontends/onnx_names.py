"""The names that an exporter's metadata remembers: module paths, and of which parameter an initializer is the data.

`torch.onnx.export(dynamo=True)` writes, for each node, the path of modules it was traced in and the traced call with
its parameters; for the graph, the parameters' names in the model. Initializers lose theirs when they are transposed or
merged with equal ones. The older exporter (dynamo=False) names nodes by their modules' paths, and parameters as the
model does but those that it transposed. Which modules are repeated blocks is told from their paths. Without such names,
those of the file stay, and there are no blocks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

__all__ = ["Names", "task_of"]

_PREFIX = "pkg.torch.onnx."
_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_TRANSPOSED = re.compile(r"onnx::MatMul_\d+")  # what the older exporter calls a linear's weight, as x @ w needs it
_OUTSIDE = "_empty_nn_module_stack_from_metadata_hook"
#: what the classes of transformers are for, by how their names end
_TASKS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "Model": "feature-extraction",
}


def task_of(architecture: str) -> str:
    """What a class of transformers is for; "" where its name does not say."""
    return next((task for ending, task in _TASKS.items() if architecture.endswith(ending)), "")


@dataclass
class Names:
    """What the metadata of one graph says."""

    parameters: dict[str, str] = field(default_factory=dict)  # placeholder in a traced call -> the parameter's name
    prefix: str = ""  # of a wrapper around the model, in all module paths
    shared: dict[str, str] = field(default_factory=dict)  # second names of parameters, and the first
    architecture: str = ""  # the class of transformers that was exported
    stacks: Collection[str] = ()  # module paths whose numbered modules are blocks

    @classmethod
    def of(cls, graph: Any) -> Names:
        """Read the metadata of a GraphProto."""
        signature = next((p.value for p in graph.metadata_props if p.key == _SIGNATURE), "")
        found = re.findall(r"^(\w+): PARAMETER target='([^']*)'", signature, re.MULTILINE)
        paths = {s for node in graph.node if (s := _path(node)) is not None}
        prefix = _shared(paths)
        names = cls(dict(found), prefix + "." if prefix else "", architecture=_architecture(graph))
        names.parameters = {k: names.strip(v) for k, v in names.parameters.items()}
        names.stacks = stacks_of({names.strip(p) for p in paths})
        return names

    def strip(self, name: str) -> str:
        """A name without the wrapper's prefix."""
        return name.removeprefix(self.prefix)

    def module(self, node: Any) -> str:
        """The path of the module that a node belongs to."""
        return self.strip(f"{_path(node) or ''}.").rstrip(".")

    def scope(self, node: Any) -> str:
        """The same as a scope, in which a block is declared."""
        path = self.module(node)
        for stack, index, rest in _numbers(path):
            if stack in self.stacks:
                return f"{stack}[{index}]" + (f".{rest}" if rest else "")
        return path

    def parameter_of(self, node: Any, position: int, initializers: Mapping[int, str]) -> str | None:
        """The parameter that operand `position` of a node is, as the model called it; None where that is not said.

        `initializers` are the positions of the operands that are initializers, and what these are called.
        """
        name = initializers[position]
        if _TRANSPOSED.fullmatch(name) and (module := self.module(node)):
            return f"{module}.weight"
        call = _metadata(node, "fx_node")
        arguments = re.findall(r"%(\w+)", call.partition("args = ")[2])
        known = [self.parameters[a] for a in arguments if a in self.parameters]
        if self.strip(name) in known:
            return self._first_name(self.strip(name), self.module(node))
        if "aten.linear" in call:  # written as a product and a sum
            known = known[:1] if node.op_type == "MatMul" else known[1:]
        own = [self.strip(n) for n in initializers.values()]
        nameless = [i for i, n in zip(initializers, own, strict=True) if n not in known]
        rest = [n for n in known if n not in own]
        if len(rest) < len(nameless):  # some are no parameters, but computed from them
            return None
        return self._first_name(rest[nameless.index(position)], self.module(node))

    def _first_name(self, name: str, module: str) -> str:
        """Of a parameter that two modules share, the name by which the first of them knows it."""
        here = f"{module}.{name.rpartition('.')[2]}"
        if here != name and here in self.parameters.values():
            self.shared.setdefault(name, here)
        return self.shared.get(name, name)


def stacks_of(paths: Collection[str]) -> set[str]:
    """The module paths under which the numbered modules are blocks.

    Those of which two numbers hold modules of the same names: layers do, the parts of an `nn.Sequential` do not. Where
    no two modules are alike, as with one layer, each outermost number is a block's.
    """
    inside: dict[str, dict[str, set[str]]] = {}  # stack -> index -> the names of the modules in it
    for path in paths:
        for stack, index, rest in _numbers(path):
            names = inside.setdefault(stack, {}).setdefault(index, set())
            names.update([rest.partition(".")[0]] if rest else [])
    kinds = {stack: [names for names in blocks.values() if names] for stack, blocks in inside.items()}
    alike = {stack for stack, names in kinds.items() if any(names.count(n) > 1 for n in names)}
    return alike or {first[0] for path in paths if (first := next(_numbers(path), None))}


def _numbers(path: str) -> Iterator[tuple[str, str, str]]:
    """Each number of a module path, from outside: the path before it, the number, what follows."""
    steps = path.split(".")
    for i, step in enumerate(steps):
        if re.fullmatch(r"0|[1-9]\d{0,8}", step, re.ASCII):
            yield ".".join(steps[:i]), step, ".".join(steps[i + 1 :])


def _shared(paths: Collection[str]) -> str:
    """The module path that holds all of these."""
    steps = zip(*(p.split(".") for p in paths), strict=False)
    return ".".join(step[0] for step in takewhile(lambda step: len(set(step)) == 1, steps))


def _metadata(node: Any, key: str) -> str:
    return next((p.value for p in node.metadata_props if p.key == _PREFIX + key), "")


def _architecture(graph: Any) -> str:
    classes = (c for node in graph.node for c in re.findall(r"'([\w.]+)'", _metadata(node, "class_hierarchy")))
    return next((c.rpartition(".")[2] for c in classes if c.startswith("transformers.models.")), "")


def _path(node: Any) -> str | None:
    scopes = _metadata(node, "name_scopes")
    if not scopes:
        return _path_in_name(node.name)
    try:
        path = ast.literal_eval(scopes)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    if not isinstance(path, list) or len(path) < 2 or not all(isinstance(p, str) for p in path):
        return None
    return None if path[0] == _OUTSIDE else path[-2]


def _path_in_name(name: str) -> str | None:
    """encoder.layer.0.output, of the node `/encoder/layer.0/output/Add`; a step may repeat the one before it."""
    steps: list[str] = []
    for step in name.split("/")[1:-1]:
        if steps and step.startswith(steps[-1] + "."):
            steps.pop()
        steps.append(step)
    return ".".join(steps) if steps and name.startswith("/") and all(steps) else None
