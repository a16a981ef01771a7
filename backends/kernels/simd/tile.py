"""The tile of a linear: a block of outputs, for any format that means scale * (code - zero) + minimum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.instructions import Dot, Instructions
from burnish.backends.kernels.tiles import WORD_INPUTS, offsets
from burnish.ir.format import QuantFormat
from burnish.ir.parts import slices

__all__ = ["BLOCK", "TileFunction", "affine_tile"]

#: tile(codes, code_stride, scales, scale_stride, x, token_stride, groups, out, out_stride, rows, bias), all int64: the
#: address of a row tile's codes and scales, each with the bytes from one row tile to the next; of inputs in int8_32,
#: with the bytes from token to token; the groups in a row, or the blocks of 32 inputs where a row is one group; the
#: address of the output, with the bytes from token to token; how many rows there are from here on; that of f32 to add
#: to them, or 0.
TileFunction = Callable[..., Any]
BLOCK = 40  # bytes of 32 inputs in int8_32: an f32 scale, two i16 sums of sixteen codes each, the codes
SCALE, SUMS, CODES = 0, 4, 8


def affine_tile(format: QuantFormat, isa: Instructions, rows: int, tokens: int, ahead: int) -> TileFunction:
    """Compile the product of `rows` row tiles and `tokens` tokens, that prefetches `ahead` bytes of codes ahead.

    Sums are integers within a run, or 32 inputs of it; these are scaled and added up in the order of the inputs. Numba
    leaves out the branches of what the format lacks.
    """
    lanes, dot, halves = isa.lanes, _dot(format, isa), _halves(format)
    run = format.run or format.group
    whole_groups = format.group > 0
    runs, blocks = format.group // run if run else 1, max(run // WORD_INPUTS, 1)  # in a group; in a run
    block_codes = 4 * lanes * format.code.width  # bytes
    # What is taken off a product for each sum of inputs; the second factor of a pair is that of the latter sixteen.
    offset = 0 if format.part("zero") else format.zero + dot.zero
    both, former, latter = 0x10001, 0x1, 0x10000
    pairs_of_sums = (both, both) if halves == 1 else (former, latter)
    offsets_of_sums = [r.constant("i32", lanes, _i32(p * (-offset & 0xFFFF))) for p in pairs_of_sums]
    ones_of_sums = [r.constant("i32", lanes, p) for p in pairs_of_sums]
    (first_offset, second_offset), (first_one, second_one) = offsets_of_sums, ones_of_sums
    dot2, whole_sums = isa.dot2, dot.widen is r.same
    # Compiled code sees no classes: what it calls are names bound here.
    dot4, widen, hold = dot.dot4, dot.widen, r.pin if tokens > 1 else r.same
    prefetch = r.prefetch(block_codes // halves if ahead else 0, rows)
    store_part, load_part, fadd = r.store_part, r.load_part(lanes, rows), f.fadd
    either, add, subtract, times = r.either, r.add, r.subtract, r.times
    multiply, fma, to_f32 = r.multiply, r.fma, r.to_f32
    inputs, floats = r.splat("i32", lanes, tokens), r.splat("f32", lanes, tokens)
    no_output, no_total = r.zeros("f32", lanes, rows, tokens), r.zeros("i32", lanes, rows, tokens)
    no_sums = r.zeros(dot.element, dot.lanes, rows, tokens)

    # Of the 8 registers of codes of 32 inputs, two a time: 2j and 2j + 1, in the order of `Tiles8`.
    pairs, register = 4 // halves, 4 * lanes
    between = min(pairs, dot.room(format.code.width) // 2)
    load = r.load("i8", register, rows)
    whole_bytes, (lower, upper) = format.code.width == 8, (*slices(format.code.width), 0)[:2]
    lower_bits, upper_bits = r.bits(lower), r.bits(upper, lower)
    lower_pairs, upper_pairs = max(4 // lower, 1), 4 // max(upper, 1)  # in a word

    at = offsets(format, lanes)
    group_scales = at[""]  # bytes
    load_scale, to_scale, _ = _reader(format, "scale", lanes, rows)
    load_minimum, to_minimum, _ = _reader(format, "minimum", lanes, rows)
    load_subscale, to_subscale, subscale_size = _reader(format, "subscale", lanes, rows)
    load_subminimum, to_subminimum, subminimum_size = _reader(format, "subminimum", lanes, rows)
    load_zero, to_i32 = r.load("i8", lanes, rows), r.to_i32
    has_minimum, has_zero, has_subscale, has_subminimum = (
        format.part(name) is not None for name in ("minimum", "zero", "subscale", "subminimum")
    )
    scale_at, minimum_at, zero_at = at["scale"], at.get("minimum", 0), at.get("zero", 0)
    subscale_at, subminimum_at = at.get("subscale", 0), at.get("subminimum", 0)
    has_offset = offset != 0

    @njit(nogil=True)
    def tile(
        codes: int, code_stride: int, scales: int, scale_stride: int, x: int, token_stride: int, groups: int,
        out: int, out_stride: int, rows_left: int, bias: int,
    ) -> None:  # fmt: skip
        output = no_output()
        for _ in range(groups if whole_groups else 1):
            group_scale = to_scale(load_scale(scales + scale_at, scale_stride))
            if has_minimum:
                group_minimum = to_minimum(load_minimum(scales + minimum_at, scale_stride))
            if has_zero:
                zero = to_i32(load_zero(scales + zero_at, scale_stride))
            for i in range(runs):
                half = i % halves
                through = (half + 1) // halves  # 1 at the last run of 32 inputs
                scale = group_scale
                if has_subscale:
                    subscale = to_subscale(load_subscale(scales + subscale_at + subscale_size * i, scale_stride))
                    scale = multiply(group_scale, subscale)
                if has_minimum:
                    minimum = group_minimum
                if has_subminimum:
                    subminimum = load_subminimum(scales + subminimum_at + subminimum_size * i, scale_stride)
                    minimum = multiply(group_minimum, to_subminimum(subminimum))
                for _ in range(blocks if whole_groups else groups):
                    prefetch(codes + half * (block_codes // halves) + ahead, code_stride)
                    if has_offset or has_zero or has_minimum:
                        sums_of_inputs = inputs(x + 4, token_stride)
                    total = no_total()
                    if has_offset:
                        total = add(total, dot2(sums_of_inputs, first_offset() if half == 0 else second_offset()))
                    for pair in range(half * pairs, (half + 1) * pairs, between):
                        sums = total if whole_sums else no_sums()
                        for j in range(pair, pair + between):
                            if whole_bytes:
                                code = load(codes + register * 2 * j, code_stride)
                            else:
                                word = load(codes + register * (j // lower_pairs), code_stride)
                                code = lower_bits(word, j % lower_pairs * 2 * lower)
                            if upper:
                                above = load(codes + register * (lower + j // upper_pairs), code_stride)
                                code = either(code, upper_bits(above, j % upper_pairs * 2 * upper))
                            sums = hold(dot4(sums, code, inputs(x + 8 + 8 * j, token_stride)))
                            # What is computed on this side of `hold` would want a register on that one too.
                            if whole_bytes:
                                code = load(codes + register * (2 * j + 1), code_stride)
                            else:
                                code = lower_bits(word, j % lower_pairs * 2 * lower + lower)
                            if upper:
                                code = either(code, upper_bits(above, j % upper_pairs * 2 * upper + upper))
                            sums = hold(dot4(sums, code, inputs(x + 12 + 8 * j, token_stride)))
                        total = widen(sums) if whole_sums else add(total, widen(sums))
                    if has_zero or has_minimum:
                        total_of_inputs = dot2(sums_of_inputs, first_one() if half == 0 else second_one())
                    if has_zero:
                        total = subtract(total, times(zero, total_of_inputs))
                    input_scale = floats(x, token_stride)
                    output = fma(multiply(scale, input_scale), to_f32(total), output)
                    if has_minimum:
                        output = fma(minimum, multiply(input_scale, to_f32(total_of_inputs)), output)
                    # Addresses that are sums of products with a loop's variable take LLVM 8% more time.
                    codes, x = codes + through * block_codes, x + through * 40
            scales += group_scales
        if bias:
            output = fadd(output, load_part(bias, rows_left))
        store_part(out, out_stride, rows_left, output)

    return tile


def _i32(word: int) -> int:
    """A word of 32 bits as a signed number."""
    word &= 0xFFFFFFFF
    return word - (word >> 31 << 32)


def _halves(format: QuantFormat) -> int:
    """The runs in 32 inputs: a part of them, or all of one."""
    return WORD_INPUTS // min(format.run or format.group or WORD_INPUTS, WORD_INPUTS)


def _dot(format: QuantFormat, isa: Instructions) -> Dot:
    return isa.signed if format.code.width == 8 else isa.unsigned


def _reader(format: QuantFormat, name: str, lanes: int, rows: int) -> tuple[r.Intrinsic, r.Intrinsic, int]:
    """How elements of a part are loaded, and made f32, and their bytes in a tile; of a part that is not there, any."""
    part = format.part(name)
    dtype = part.dtype if part is not None else "f4"
    element = {"f2": "f16", "f4": "f32", "i1": "i8", "u1": "i8"}[dtype]
    convert = r.unsigned_to_f32 if dtype == "u1" else r.to_f32
    return r.load(element, lanes, rows), convert, lanes * int(dtype[1])
