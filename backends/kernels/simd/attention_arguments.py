"""The arguments of `simd/attention.py`, which `kernels/attention.py` gives: the byte of each word. Needs no Numba."""

__all__ = ["BLOCK", "REGISTERS", "SEGMENT", "SIZE"]

BLOCK, SEGMENT = 64, 256  # keys that are merged at once
REGISTERS = 2  # of keys, or of outputs, that are summed at once

# An array, and the bytes from one sequence, token and head to the next; a bias has them by key too.
Q, Q_B, Q_T, Q_H, K, K_B, K_T, K_H, V, V_B, V_T, V_H = range(0, 96, 8)
K_BEFORE, KB_B, KB_T, KB_H, V_BEFORE, VB_B, VB_T, VB_H = range(96, 160, 8)
BIAS, BIAS_B, BIAS_H, BIAS_T, BIAS_K, IS_MASK = range(160, 208, 8)
OUT, PAST, COUNT, SINKS = range(208, 240, 8)  # without gaps
# Sizes: rows of q, of k, of k_before (-1 without it), heads, those of k, elements of one in k and in v.
BATCH, TOKENS, KEYS, BEFORE, HEADS, KEY_HEADS, HEAD, VALUE = range(240, 304, 8)
CAUSAL, WINDOW, SCALE, CAP, UNCAP, NAN = range(304, 352, 8)  # UNCAP is 1 / CAP; NAN, what no keys give
TILES, QUERIES, HEADS_EACH = range(352, 376, 8)  # of a tile, at most
ROOM, WIDTH = range(376, 392, 8)  # of a tile's state, see `attention_tiles`
# Partial results f32[TILES, SEGMENTS, state], or 0; and among how many items the work on them is shared.
PARTIAL, SEGMENTS, SHARES = range(392, 416, 8)
# Of `RingRows`: the ring, and how many rows lie in k_before and in v_before, which are all where there is none.
K_RING, KR_B, KR_T, KR_H, K_FIRST, V_RING, VR_B, VR_T, VR_H, V_FIRST = range(416, 496, 8)
SIZE = 496
