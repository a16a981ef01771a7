"""The graph IR: dimensions, types, ops, formats, modules, their text form and verifier. Imports nothing of ours."""

from burnish.ir import formats, layouts, ops
from burnish.ir.builder import Ops
from burnish.ir.format import FORMATS, LAYOUTS, Layout, Packed, QuantFormat
from burnish.ir.graph import Graph, Node, Value
from burnish.ir.module import Module, WeightEntry
from burnish.ir.op import OPS, Op
from burnish.ir.origin import Origin
from burnish.ir.parser import TextError, parse
from burnish.ir.parts import Part
from burnish.ir.signature import Facts
from burnish.ir.types import InferError, Type
from burnish.ir.verify import VerifyError, verify

__all__ = [
    "FORMATS",
    "LAYOUTS",
    "OPS",
    "Facts",
    "Graph",
    "InferError",
    "Layout",
    "Module",
    "Node",
    "Op",
    "Ops",
    "Origin",
    "Packed",
    "Part",
    "QuantFormat",
    "TextError",
    "Type",
    "Value",
    "VerifyError",
    "WeightEntry",
    "formats",
    "layouts",
    "ops",
    "parse",
    "verify",
]

assert __name__ == "burnish.ir", f"import burnish.ir, not {__name__}: a second path would load a second op registry"
