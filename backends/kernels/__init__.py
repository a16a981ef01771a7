"""Compiled kernels for the places where the time goes, one file each; a file here is found by being here.

A kernel is a class: see `kernel.Kernel`, and `linear` for one. Importing this package is cheap: Numba, and with
it `kernels.simd`, is imported when a kernel is first compiled.
"""

from burnish.backends.kernels.kernel import KERNELS, Choice, Kernel, find_kernel, layouts_for
from burnish.ir.discover import import_all

__all__ = ["KERNELS", "Choice", "Kernel", "find_kernel", "layouts_for"]

import_all(__name__, __path__)
