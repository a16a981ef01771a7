"""The exceptions: what XLA does better when it is told how, one file each. All else is traced through `evaluate`.

XLA unpacks a whole matrix, and copies a block's weights or cache out of their stack, before it multiplies. On a CPU,
compiled kernels read both where they lie (`foreign`); where there are none, these read both in parts, inside a loop, so
that no temporary holds either. They mean what `evaluate` means, to the rounding of sums. A file here is found by being
here.
"""

from burnish.backends.xla_kernels.kernel import XLA_KERNELS, InStack, Slot, XlaKernel, part_of, whole
from burnish.ir.discover import import_all

__all__ = ["XLA_KERNELS", "InStack", "Slot", "XlaKernel", "part_of", "whole"]

import_all(__name__, __path__)
