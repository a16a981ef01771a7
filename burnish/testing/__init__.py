"""The public laws: what every op, format, rule and architecture obeys, ours and a plugin's alike.

    check_op(MyOp, Example(MyOp(axis=1), (x,), oracle=lambda x: numpy.cumsum(x, 1)))
    check_format(FORMATS["q4_0"])
    check_rule(MyRule)
    check_architecture(MyModel, {"hidden_size": 32, "num_hidden_layers": 2, …})

Each raises AssertionError, with the law and the numbers, at the first law that is broken.
"""

from burnish.testing.architectures import check_architecture, logits_by_steps
from burnish.testing.formats import check_format
from burnish.testing.ops import Example, check_op, examples
from burnish.testing.rules import check_rule
from burnish.testing.running import run_graph, run_jax, run_numpy

__all__ = [
    "Example",
    "check_architecture",
    "check_format",
    "check_op",
    "check_rule",
    "examples",
    "logits_by_steps",
    "run_graph",
    "run_jax",
    "run_numpy",
]
