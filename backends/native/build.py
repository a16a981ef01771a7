"""Compiles functions into images: `python -m burnish.backends.native.build CPU`, see `builders`.

A process of its own, for LLVM is told once what CPU it compiles for, and whoever only runs images needs neither it nor
Numba. A unit is `module` or `module:argument`: a module of `kernels/simd` whose `functions(isa, argument)` gives
Python functions of four i64: the address of arguments, the first item, the end, the address of scratch memory.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import pkgutil
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from burnish.backends.native.image import IMPORTS, pack_image

__all__ = ["build_image", "every_unit", "link_object"]

SIMD = "burnish.backends.kernels.simd"

ARGUMENTS = 4


def link_object(obj: bytes) -> bytes:
    """An x86-64 ELF object of LLVM's large code model -> an image's bytes. Raises ValueError for what has no place.

    That model has one kind of relocation, an address of 8 bytes (System V ABI for x86-64, R_X86_64_64).
    """
    (sections_at,), (count,) = struct.unpack_from("<Q", obj, 40), struct.unpack_from("<H", obj, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", obj, sections_at + 64 * i) for i in range(count)]
    code, base, imports = bytearray(), dict[int, int](), dict[str, list[int]]({"": []})
    for i, (_, kind, flags, _, offset, size, _, _, align, _) in enumerate(sections):
        allocated, writable, unwinding = flags & 2, flags & 1, 0x70000001
        if not allocated or not size or kind == unwinding:
            continue
        if kind != 1 or writable:
            raise ValueError(f"section {i} holds data that code writes")
        code += bytes(-len(code) % max(align, 1))
        base[i] = len(code)
        code += obj[offset : offset + size]
    table = next(s for s in sections if s[1] == 2)
    symbols = [struct.unpack_from("<IBBHQQ", obj, table[4] + 24 * i) for i in range(table[5] // 24)]

    def name(symbol: tuple[int, ...]) -> str:
        return obj[sections[table[6]][4] + symbol[0] :].split(b"\0", 1)[0].decode()

    for section in sections:
        if section[1] != 4 or section[7] not in base:
            continue
        for i in range(section[5] // 24):
            offset, info, addend = struct.unpack_from("<QQq", obj, section[4] + 24 * i)
            at, symbol = base[section[7]] + offset, symbols[info >> 32]
            here = symbol[3] in base
            if info & 0xFFFFFFFF != 1 or not (here or name(symbol) in IMPORTS):
                raise ValueError(f"relocation {info & 0xFFFFFFFF} of {name(symbol)!r} is not one that images have")
            struct.pack_into("<q", code, at, addend + (base[symbol[3]] + symbol[4] if here else 0))
            imports.setdefault("" if here else name(symbol), []).append(at)
    global_function = 0x12
    return pack_image(bytes(code), {name(s): base[s[3]] + s[4] for s in symbols if s[1] == global_function}, imports)


def build_image(functions: Mapping[str, Callable[[int, int, int, int], None]]) -> bytes:
    """Compile for the CPU that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name."""
    from llvmlite import binding as llvm
    from numba.core import compiler, types
    from numba.core.registry import cpu_target

    target: Any = cpu_target.target_context
    cpu_target.typing_context.refresh()
    target.refresh()
    _only_link(target)
    flags: Any = compiler.Flags()  # type: ignore[no-untyped-call]  # Numba's own has no types
    flags.error_model, flags.no_cpython_wrapper, flags.no_cfunc_wrapper, flags.nrt = "numpy", True, True, False
    whole = llvm.parse_assembly("")
    for name, python in functions.items():
        signature = (types.int64,) * ARGUMENTS
        done: Any = compiler.compile_extra(cpu_target.typing_context, target, python, signature, types.void, flags, {})  # type: ignore[no-untyped-call]
        module, native = llvm.parse_bitcode(done.library._final_module.as_bitcode()), done.fndesc.llvm_func_name
        for value in (*module.functions, *module.global_variables):
            if not value.is_declaration:
                value.linkage = "external" if value.name == native else "internal"
        whole.link_in(module)
        given = ", ".join(f"i64 %{i}" for i in range(ARGUMENTS))
        passed = "".join(f", i64 %{i}" for i in range(ARGUMENTS))
        wrapper = f"""declare i32 @"{native}"(ptr, ptr{", i64" * ARGUMENTS})
            define i64 @"{name}"({given}) {{ %r = alloca ptr
            %e = alloca ptr
            %s = call i32 @"{native}"(ptr %r, ptr %e{passed})
            ret i64 0 }}"""
        whole.link_in(llvm.parse_assembly(wrapper))
        whole.get_function(native).linkage = "internal"
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"], 3, "static", "large"
    )
    passes: Any = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(whole, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3)))
    whole.verify()
    return link_object(machine.emit_object(whole))


def _only_link(target: Any) -> None:
    """Have Numba link functions and no more: it would optimise and compile each one as it comes, together with all that
    it calls, and what Python calls it by. LLVM does that once, of all that a unit is.
    """
    codegen = target.codegen()

    class Linked(codegen._library_class):  # type: ignore[name-defined,misc]
        def _optimize_final_module(self) -> None:
            pass

        def _finalize_final_module(self) -> None:
            self._finalized = True

        def get_pointer_to_function(self, name: str) -> int:
            self._ensure_finalized()
            return 0

    codegen._library_class, codegen.set_env = Linked, lambda *_: None
    target.create_cpython_wrapper = target.create_cfunc_wrapper = lambda *_, **__: None


def build_unit(unit: str, isa: str) -> bytes:
    """The image of a unit."""
    from burnish.backends.kernels.simd.instructions import INSTRUCTIONS

    module, _, argument = unit.partition(":")
    source = importlib.import_module(f"{SIMD}.{module}")
    return build_image(source.functions(INSTRUCTIONS[isa], *[argument] if argument else []))


def every_unit() -> list[str]:
    """The units that there are: a module whose functions are made for an argument lists those, in `arguments()`.

    Raises TypeError where one does not.
    """
    units = []
    for module in sorted(m.name for m in pkgutil.iter_modules(importlib.import_module(SIMD).__path__)):
        source = importlib.import_module(f"{SIMD}.{module}")
        if hasattr(source, "arguments"):
            units += [f"{module}:{a}" for a in source.arguments()]
        elif hasattr(source, "functions"):
            if len(inspect.signature(source.functions).parameters) > 1:
                raise TypeError(f"kernels/simd/{module}.py has no arguments(), of which there is code")
            units.append(module)
    return units


def define(name: str, meaning: Mapping[str, Any]) -> None:
    """Have a format that a plugin of the process that asks defines."""
    from burnish.ir.format import FORMATS, QuantFormat

    if name not in FORMATS:
        type(name, (QuantFormat,), dict(meaning))


def main(isa: str) -> None:
    """Answer each request that comes in, until there are no more, with a result and what went wrong.

    A request is a unit, or "" for the list of all, and what its argument means.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what compilers print goes to standard error
    while True:
        try:
            unit, meaning = pickle.load(sys.stdin.buffer)
        except EOFError:
            return  # whoever asked is done, or is no more
        answer: object = None
        error = ""
        try:
            if meaning is not None:
                define(unit.partition(":")[2], meaning)
            answer = build_unit(unit, isa) if unit else every_unit()
        except Exception:
            error = traceback.format_exc()
        answers.write(pickle.dumps((answer, error)))
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
