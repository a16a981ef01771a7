"""Attention without a matrix of scores: tiles of rows over the keys that they see, in blocks.

A tile is some queries of one sequence, and some heads that share a key head; its rows are query by query. Keys stand at
absolute positions: blocks of 64 begin at multiples of 64, and are merged in order into segments of 256, at multiples of
that, which are merged in order too. So the bits of a row do not depend on what else is computed. A tile goes over all
of its segments; or, where tiles are few, each of its segments is a piece of work, and `join` merges them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.simd import attention_arguments as arg
from burnish.backends.kernels.simd import attention_registers as ar
from burnish.backends.kernels.simd import floats as f
from burnish.backends.kernels.simd import functions as fn
from burnish.backends.kernels.simd import registers as r
from burnish.backends.kernels.simd.attention_arguments import BLOCK, REGISTERS, SEGMENT
from burnish.backends.kernels.simd.attention_tiles import QUERIES, tiles
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.kernels.simd.words import byte_at, i32_at, store_word, word

__all__ = ["functions"]


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`attend`: an item is a tile, or a share of the work on segments; `join`: a tile whose segments are done."""
    lanes = isa.lanes
    pack, widen, scores, softmax, merge, values, clear, fold = tiles(isa)
    load, store, splat = f.load16("f32", lanes), f.store16(lanes), f.splat16(lanes)
    multiply, fma, fadd, fsub, divide = r.multiply, r.fma, f.fadd, f.fsub, f.divide
    exp, tanh, larger, no_infinity = f.exp, r.elementwise()(fn.tanh), f.larger, ar.no_infinity
    between, shown, where_zero, one = ar.between(lanes), ar.shown(lanes), f.where_zero, f.constant(lanes, 1.0)

    @njit(nogil=True)
    def origin_of(a: int, b: int) -> int:
        """The position of the first row of k."""
        return i32_at(word(a + arg.PAST) + 4 * b) if word(a + arg.BEFORE) >= 0 else 0

    @njit(nogil=True)
    def seen(a: int, b: int, i: int) -> tuple[int, int]:
        """The first position that query i of sequence b sees, and the end; both grow with i."""
        at = i + (i32_at(word(a + arg.PAST) + 4 * b) if word(a + arg.PAST) else 0)
        origin, window = origin_of(a, b), word(a + arg.WINDOW)
        low, high = max(0, origin - max(0, word(a + arg.BEFORE))), origin + word(a + arg.KEYS)
        if word(a + arg.COUNT):
            high = min(high, origin + i32_at(word(a + arg.COUNT) + 4 * b))
        if word(a + arg.CAUSAL):
            high = min(high, at + 1)
            if window:
                low = max(low, at - window + 1)
        elif window:
            low, high = max(low, i - window + 1), min(high, i + window)
        return low, high

    @njit(nogil=True)
    def segments_of(a: int, b: int, first: int, last: int) -> tuple[int, int]:
        """The first segment that any of these queries sees, and how many there are."""
        low, high = seen(a, b, first)[0], seen(a, b, last)[1]
        return (low // SEGMENT, (high - 1) // SEGMENT - low // SEGMENT + 1) if low < high else (0, 0)

    @njit(nogil=True)
    def tile_of(a: int, item: int) -> tuple[int, int, int, int, int, int]:
        """Its sequence, key head, first head and how many, first query and how many; the last queries come first."""
        key_heads, most, per = word(a + arg.KEY_HEADS), word(a + arg.HEADS_EACH), word(a + arg.QUERIES)
        group = word(a + arg.HEADS) // key_heads
        parts = (group + most - 1) // most
        part, b = item % parts, item // (parts * key_heads) % word(a + arg.BATCH)
        key_head = item // parts % key_heads
        # Later tiles see more keys: in this order every run of items has as much to do.
        turn, last = item // (parts * key_heads * word(a + arg.BATCH)), (word(a + arg.TOKENS) - 1) // per
        first = (turn // 2 if turn % 2 else last - turn // 2) * per
        head = part * most
        return (
            b,
            key_head,
            key_head * group + head,
            min(most, group - head),
            first,
            min(per, word(a + arg.TOKENS) - first),
        )

    @njit(nogil=True)
    def gather(a: int, b: int, head: int, heads: int, first: int, queries: int, to: int, step: int) -> int:
        """Rows of q, scaled; the last ones again, up to whole blocks. How many that makes."""
        n, rows = word(a + arg.HEAD), queries * heads
        padded, scale = (rows + QUERIES - 1) // QUERIES * QUERIES, splat(a + arg.SCALE)
        for i in range(queries):
            for h in range(heads):
                at = (
                    word(a + arg.Q)
                    + b * word(a + arg.Q_B)
                    + (first + i) * word(a + arg.Q_T)
                    + (head + h) * word(a + arg.Q_H)
                )
                for d in range(0, n, 16):
                    store(to + (i * heads + h) * step + 4 * d, 16, multiply(load(at + 4 * d, n - d), scale))
        for i in range(rows, padded):
            for d in range(0, step, 64):
                store(to + i * step + d, 16, load(to + (rows - 1) * step + d, 16))
        return padded

    @njit(nogil=True)
    def find_rows(a: int, b: int, head: int, key: int, begin: int, end: int, keys: int, values: int) -> None:
        """Addresses of the block's rows of k and of v; of what is not seen, that of a row that is."""
        origin, before = origin_of(a, b), word(a + arg.BEFORE)
        k, v = (
            word(a + arg.K) + b * word(a + arg.K_B) + head * word(a + arg.K_H),
            word(a + arg.V) + b * word(a + arg.V_B) + head * word(a + arg.V_H),
        )
        kb = word(a + arg.K_BEFORE) + b * word(a + arg.KB_B) + head * word(a + arg.KB_H)
        vb = word(a + arg.V_BEFORE) + b * word(a + arg.VB_B) + head * word(a + arg.VB_H)
        kr = word(a + arg.K_RING) + b * word(a + arg.KR_B) + head * word(a + arg.KR_H)
        vr = word(a + arg.V_RING) + b * word(a + arg.VR_B) + head * word(a + arg.VR_H)
        for j in range(BLOCK):
            i = key - origin + min(max(j, begin), end - 1)
            if i >= 0:
                store_word(keys + 8 * j, k + i * word(a + arg.K_T))
                store_word(values + 8 * j, v + i * word(a + arg.V_T))
            else:
                row = i + before
                in_ring = (origin + row) % before
                if row < word(a + arg.K_FIRST):
                    store_word(keys + 8 * j, kb + row * word(a + arg.KB_T))
                else:
                    store_word(keys + 8 * j, kr + in_ring * word(a + arg.KR_T))
                if row < word(a + arg.V_FIRST):
                    store_word(values + 8 * j, vb + row * word(a + arg.VB_T))
                else:
                    store_word(values + 8 * j, vr + in_ring * word(a + arg.VR_T))

    @njit(nogil=True)
    def adjust(a: int, b: int, head: int, heads: int, first: int, queries: int, key: int, end: int, at: int) -> None:
        """Scores of a block: capped, with their bias, and -inf where a key is not seen."""
        bias, step, is_mask = word(a + arg.BIAS), word(a + arg.BIAS_K), word(a + arg.IS_MASK)
        capped, cap, uncap = word(a + arg.CAP) != 0, splat(a + arg.CAP), splat(a + arg.UNCAP)
        for i in range(first, first + queries):
            low, high = seen(a, b, i)
            for h in range(head, head + heads):
                here = (
                    bias + b * word(a + arg.BIAS_B) + h * word(a + arg.BIAS_H) + i * word(a + arg.BIAS_T) + key * step
                )
                to = low if bias and is_mask and not step and not byte_at(here) else high
                for j in range(0, BLOCK, 16):
                    x = load(at + 4 * j, 16)
                    if capped:
                        x = multiply(tanh(multiply(x, uncap)), cap)
                    if bias and is_mask:
                        if step:
                            x = shown(x, here + j, end - j)
                    elif bias:
                        x = fadd(x, load(here + 4 * j, end - j) if step else splat(here))
                    store(at + 4 * j, 16, between(x, low - key - j, to - key - j))
                at += 4 * BLOCK

    @njit(nogil=True)
    def finish(a: int, b: int, head: int, heads: int, first: int, queries: int, state: int) -> None:
        """The outputs of a tile's rows."""
        n, room, width, at = word(a + arg.VALUE), word(a + arg.ROOM), word(a + arg.WIDTH), state
        for i in range(first, first + queries):
            for h in range(head, head + heads):
                total, factor = splat(at + 4 * room), one()
                if word(a + arg.SINKS):
                    sink, top = splat(word(a + arg.SINKS) + 4 * h), splat(at)
                    most = no_infinity(larger(top, sink))
                    factor = exp(fsub(top, most))
                    total = fma(total, factor, exp(fsub(sink, most)))
                if word(a + arg.NAN) == 0:
                    total = where_zero(total, one())
                factor = divide(factor, total)
                row = state + 4 * (2 * room + ((at - state) >> 2) * width)
                to = word(a + arg.OUT) + 4 * ((b * word(a + arg.TOKENS) + i) * word(a + arg.HEADS) + h) * n
                for d in range(0, n, 16):
                    store(to + 4 * d, n - d, multiply(load(row + 4 * d, 16), factor))
                at += 4

    @njit(nogil=True)
    def tile(a: int, item: int, only: int, scratch: int) -> None:
        """All segments of a tile; or the one that is the `only` one, into the partial results."""
        b, key_head, head, heads, first, queries = tile_of(a, item)
        room, width, n, last = word(a + arg.ROOM), word(a + arg.WIDTH), word(a + arg.HEAD), first + queries - 1
        segment, count = segments_of(a, b, first, last)
        if only >= count:
            return
        low, high = seen(a, b, first)[0], seen(a, b, last)[1]
        all_from, all_to = seen(a, b, last)[0], seen(a, b, first)[1]  # what every row sees
        adjusted = word(a + arg.BIAS) != 0 or word(a + arg.CAP) != 0
        old, new, largest, sums = scratch, scratch + 4 * room, scratch + 8 * room, scratch + 12 * room
        total = scratch + 16 * room
        here = total + 4 * room * (2 + width)
        keys = here + 4 * room * (2 + width)
        step, s = 4 * ((n + 15) // 16 * 16), keys + 16 * BLOCK
        q = s + 4 * BLOCK * room
        packed = q + room * step
        wide = packed + BLOCK * step
        rows = gather(a, b, head, heads, first, queries, q, step)
        if only >= 0:
            here = word(a + arg.PARTIAL) + (item * word(a + arg.SEGMENTS) + only) * 4 * room * (2 + width)
            segment, count = segment + only, 1
        else:
            clear(total, room, rows, width)
        for i in range(segment, segment + count):
            clear(here, room, rows, width)
            for key in range(i * SEGMENT, (i + 1) * SEGMENT, BLOCK):
                begin, end = max(low - key, 0), min(high - key, BLOCK)
                if begin < end:
                    find_rows(a, b, key_head, key, begin, end, keys, keys + 8 * BLOCK)
                    pack(keys, n, packed, BLOCK * word(a + arg.K_T))
                    scores(q, step, packed, n, begin & -(REGISTERS * lanes), end, s, rows)
                    if adjusted or key < all_from or key + BLOCK > all_to:
                        adjust(a, b, head, heads, first, queries, key, end, s)
                    softmax(s, rows, largest, sums)
                    merge(here, room, largest, sums, rows, old, new)
                    widen(keys + 8 * BLOCK, begin, end, word(a + arg.VALUE), wide, width, BLOCK * word(a + arg.V_T))
                    values(s, begin, end, wide, width, here + 8 * room, rows, old, new)
            if only < 0:
                fold(total, here, room, rows, width, old, new)
        if only < 0:
            finish(a, b, head, heads, first, queries, total)

    def attend(a: int, begin: int, end: int, scratch: int) -> None:
        """See the names of the arguments."""
        if word(a + arg.PARTIAL) == 0:
            for item in range(begin, end):
                tile(a, item, -1, scratch)
            return
        used = 0
        for b in range(word(a + arg.BATCH)):
            used = max(used, segments_of(a, b, 0, word(a + arg.TOKENS) - 1)[1])
        for share in range(begin, end):
            work = share
            while work < used * word(a + arg.TILES):
                tile(a, work % word(a + arg.TILES), work // word(a + arg.TILES), scratch)
                work += word(a + arg.SHARES)

    def join(a: int, begin: int, end: int, scratch: int) -> None:
        """See the names of the arguments."""
        room, width = word(a + arg.ROOM), word(a + arg.WIDTH)
        size = 4 * room * (2 + width)
        for item in range(begin, end):
            b, _, head, heads, first, queries = tile_of(a, item)
            count = segments_of(a, b, first, first + queries - 1)[1]
            total, at = scratch + 16 * room, word(a + arg.PARTIAL) + item * word(a + arg.SEGMENTS) * size
            clear(total, room, queries * heads, width)
            for i in range(count):
                fold(total, at + i * size, room, queries * heads, width, scratch, scratch + 4 * room)
            finish(a, b, head, heads, first, queries, total)

    return {"attend": attend, "join": join}
