"""What `pyproject.toml` cannot say: a wheel has machine code beside the sources.

Why: docs/decisions/0033-machine-code.md.
"""

import platform
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithKernels(build_py):
    """Copies the sources, and builds the kernels of the copy."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # a checkout builds what it runs
        sys.path.insert(0, str(Path(self.build_lib).resolve()))
        from burnish.backends.native.builders import can_build
        from burnish.backends.native.code import build_all
        from burnish.backends.native.cpu import INSTRUCTION_SETS
        from burnish.backends.native.image import SHIPPED

        if sys.platform != "linux" or platform.machine() != "x86_64" or not can_build():
            print("no machine code: that takes Linux on x86-64, and Numba", file=sys.stderr)
            return
        shutil.rmtree(SHIPPED, ignore_errors=True)  # of an earlier build
        for isa in INSTRUCTION_SETS:
            build_all(isa, SHIPPED)


setup(cmdclass={"build_py": BuildWithKernels})
