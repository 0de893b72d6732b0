"""Figures of a GPU that microbenchmarks give beyond its datasheet: none of them knows MoE, but for
one, which says so.

Measured on an H100 SXM (132 SMs at 1980 MHz, 3.35 TB/s) with ``benchmarks/estimate``'s
``microbenchmarks.cu`` and ``tile_cost.py``. A clock is one of the SM. Other GPUs are taken to
need as many clocks.
"""

from __future__ import annotations

LAUNCH_US = 3.0
"""Between two events around an empty kernel, after a kernel that empties the L2."""

BLOCK_CLOCKS = 160.0
"""Start and end of one of many blocks: 20,000 empty blocks of 128 threads take 12 µs more
than one."""

TILE_CLOCKS = 4500.0
"""A block outside its K loop: its start, dependent loads to know rows and expert, the first
copies, its end. With one block an SM, ``tile_cost.py`` gives 5,900 (bf16 64x128x64, 8 warps) to
12,000 (128x256x64, 8 warps) clocks a tile, copies and store included. This and the next fit
those tiles best (root mean square 13 % of fixed part plus two K steps; 15 % at 5500 and 10)."""

ACCUMULATOR_CLOCKS = 10.0
"""The same for each accumulator of a thread (convert, address, mask, store): 128x128x64 takes
8,100 with 8 warps, 9,750 with 4."""

L2_CLOCKS = 350.0
"""A tile from the L2, issue to barrier: one tile of 8 KB in flight an SM gives 3.9 TB/s. (A
pointer chase takes 276 clocks a hop.)"""

MEMORY_US = 0.5
"""The same from device memory: one tile of 8 KB in flight an SM gives 1.66 TB/s, of 4 KB 0.88;
less the transfer that is 1,000 clocks. (The chase takes 590 to 620.)"""

MEMORY_SHARE = 0.915
"""Best read over the datasheet's bandwidth: 3.07 of 3.35 TB/s (H100), 4.39 of 4.8 (H200)."""

ROW_BYTES = (64.0, 128.0, 256.0)
ROW_SHARES = (0.88, 0.975, 1.0)
"""Share of that left where the rows of a tile have so many bytes: 2.64 to 2.80, 2.95 to 3.03 and
3.05 to 3.07 TB/s with 48 KB and more in flight an SM."""

L2_ROW_BYTES = (32.0, 64.0, 128.0)
L2_ROW_SHARES = (0.5, 0.5, 1.0)
"""Share of ``L2_SM_BYTES`` and ``L2_UNIQUE_BYTES`` left where a tile's rows have so many bytes. The
one figure here that comes from recorded MoE kernels: found on those of one model, right on the
others' (``benchmarks/estimate/halves.py``). Why is not known: were it that the L2 gives whole lines
of 128 bytes, rows of 32 would have half the share of rows of 64. The stream of
``microbenchmarks.cu`` gets 0.81 to 0.88 of the rate of 128 bytes with 64 on an H200, with as many
bytes in flight where SMs share what they read: a part of it."""

L2_SM_BYTES = 64.0
"""Bytes a clock into one SM: the width of its port to the L2. Where SMs share what they read,
the stream of ``microbenchmarks.cu`` gets 13.3 to 19 TB/s on an H100's 132 SMs, 51 to 73 bytes a
clock."""

L2_UNIQUE_BYTES = 27.0
"""The same where every SM reads its own data from L2 (7.0 TB/s)."""

OVERLAP = 3.0
"""p of the p-norm that adds up works that hide each other. Over the 55 K steps of
``tile_cost.py`` that spill nothing (5 tiles, 4 and 8 warps, 2 to 5 stages, bf16 and block-fp8),
modelled / measured clocks are 0.98 on average with a standard deviation of 12 %; with p = 2 they
are 1.2, with p = 6 0.8."""

STEP_CLOCKS = 100.0
"""Barrier, wait and drain of the matrix pipe in one K step: four wgmma m64n16k16 and a wait take
142 clocks with one warpgroup, 90 of each of two; the barrier comes on top."""

SYNC_SHARE_HALF = 0.61
"""mma.sync over the dense rate on SM90: 605 of 989 TFLOP/s (0.63 on an H800, arXiv 2402.13499).
Assumed for later GPUs too. SM80 and SM89 have no other instruction."""

SYNC_SHARE_BYTE = 0.76
"""The same for e4m3: 1510 of 1979 TFLOP/s; assumed for int8."""

SHARED_BYTES = 128.0
"""Shared memory of an SM, a clock: 32 banks of 4 bytes."""
