"""Burnish: a graph compiler and executor for language models.

    module = burnish.load("path/to/model")              # any supported file or folder -> the graph IR
    print(module)                                       # what it is made of, as text
    module = burnish.optimize(module)                   # passes; or "recover,quantize-weights{recipe=q4_0},fuse"
    burnish.compile(module, "out")                      # a package, free of any target
    executable = burnish.executable(module)             # prefill, decode, generate; optimises what was not optimised
    model = burnish.open("path/to/model")               # texts in; labels, answers, embeddings, texts out
    chat = burnish.chat("path/to/model")                # chat.send("Hello") gives the answer, piece by piece

The command `burnish` has the same doors.
"""

from typing import TYPE_CHECKING

from burnish.runtime.doors import chat, compile, executable, load, open, optimize

if TYPE_CHECKING:
    from burnish.ir.module import Module

__version__ = "0.1.0"
__all__ = ["Module", "chat", "compile", "executable", "load", "open", "optimize"]


def __getattr__(name: str) -> object:
    """`Module`, whose file imports NumPy: what only asks for the version, or completes a command, waits for neither."""
    if name == "Module":
        from burnish.ir.module import Module

        return Module
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
