"""What microbenchmarks say of a GPU beyond its datasheet: none of them knows MoE.

Measured on an H100 SXM (132 SMs at 1980 MHz, 3.35 TB/s) with ``benchmarks/estimate``'s
``microbenchmarks.cu`` and ``tile_cost.py``. A clock is one of the SM. Other GPUs are taken to
need as many clocks.
"""

from __future__ import annotations

LAUNCH_US = 3.0
"""Between two events around an empty kernel, after a kernel that empties the L2."""

BLOCK_CLOCKS = 160.0
"""To start and end one of many blocks: 20,000 empty blocks of 128 threads take 12 µs more
than one."""

TILE_CLOCKS = 5500.0
"""Of a block outside its K loop: its start, three dependent loads to know rows and expert, the
drain of the accumulator, its end. This project's kernel with one expert, one K step, operands
in L2 and one or two blocks an SM takes 6,100 to 9,000 clocks a tile; less the copies, the step
and the store: 4,500 to 6,900 (bf16 64x64x64, 16x128x128, 128x128x64)."""

L2_CLOCKS = 350.0
"""L2 hit: 276 from the near partition, 430 from the far one (pointer chase)."""

MEMORY_US = 0.34
"""Device memory: 680 clocks (pointer chase over 2 GB)."""

MEMORY_SHARE = 0.915
"""Best read over the datasheet's bandwidth: 3.07 of 3.35 TB/s (H100), 4.39 of 4.8 (H200)."""

HALF_LINE_SHARE = 0.88
"""Share of that left where a row of a tile has 64 bytes in place of 128 (2.7 TB/s)."""

L2_SM_BYTES = 50.0
"""Bytes a clock into one SM where SMs share what they read (13.3 TB/s on 132 SMs); half of it
where a row of the tile has 64 bytes (7.6 TB/s): a request fetches up to 128."""

L2_UNIQUE_BYTES = 27.0
"""The same where every SM reads its own data from L2 (7.0 TB/s)."""

OVERLAP = 3.0
"""p of the p-norm that adds up works that hide each other. With cp.async tiles of 128-byte rows
and 8, 16, 24 and 32 KB in flight an SM, device memory gives 1.7, 2.5, 2.7 and 2.9 TB/s; p = 3
says 1.5, 2.4, 2.8 and 2.9."""

STEP_CLOCKS = 100.0
"""Barrier, wait and drain of the matrix pipe in one K step: four wgmma m64n64k16 and a wait take
80 clocks more than the wgmma where one warpgroup runs alone."""

SUSTAINED_SHARE = 0.81
"""Large dense bf16 GEMM over the datasheet's rate: 799 of 989 TFLOP/s (H200), 798 (H100): power."""

SYNC_SHARE_HALF = 0.61
"""mma.sync over the dense rate on SM90: 605 of 989 TFLOP/s (0.63 on an H800, arXiv 2402.13499).
Assumed for later GPUs too. SM80 and SM89 have no other instruction."""

SYNC_SHARE_BYTE = 0.76
"""The same for e4m3: 1510 of 1979 TFLOP/s; assumed for int8."""

SHARED_BYTES = 128.0
"""Shared memory of an SM, a clock: 32 banks of 4 bytes."""
