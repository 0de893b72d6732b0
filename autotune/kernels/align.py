"""Sorts slots by expert and pads each expert's run to BLOCK_SIZE_M: stable, deterministic.

Pipeline: ``count_kernel`` (slots per expert) → ``place_kernel`` (every expert writes its own
run). Dropped slots (id -1) belong to no expert and vanish.

Pointers (R = M * top_k slots):

    topk_ids_ptr                [R]   int32, -1: dropped
    counts_ptr                  [E]   int32
    sorted_token_ids_ptr        [EM]  int32 slots by expert; padding is R
    expert_ids_ptr              [EM / BLOCK_SIZE_M]  int32
    num_tokens_post_padded_ptr  [1]   int32

What lies past num_tokens_post_padded is left as it was: the GEMM stops before it.
"""

# A kernel takes its pointers and sizes as plain positional arguments without types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: PLR0917

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

CHUNK = 2048
"""Slots that a program looks at in one step: M=4096 with top-8 is 16 steps."""


@triton.jit(do_not_specialize=("num_slots",))
def count_kernel(topk_ids_ptr, counts_ptr, num_slots, CHUNK: tl.constexpr):
    """Grid: (E,). Program e counts the slots of expert e."""
    expert = tl.program_id(0)
    lanes = tl.arange(0, CHUNK)
    found = tl.zeros((CHUNK,), dtype=tl.int32)
    for start in range(0, num_slots, CHUNK):
        slots = start + lanes
        ids = tl.load(topk_ids_ptr + slots, mask=slots < num_slots, other=-1)
        found += (ids == expert).to(tl.int32)
    tl.store(counts_ptr + expert, tl.sum(found, axis=0))


@triton.jit(do_not_specialize=("num_slots", "num_experts", "block_size_m"))
def place_kernel(
    topk_ids_ptr,
    counts_ptr,
    sorted_token_ids_ptr,
    expert_ids_ptr,
    num_tokens_post_padded_ptr,
    num_slots,
    num_experts,
    block_size_m,
    CHUNK: tl.constexpr,
    EXPERTS: tl.constexpr,
):
    """Grid: (E,). Program e writes expert e's run, its padding and its expert ids.

    EXPERTS is E rounded up to a power of two.
    """
    expert = tl.program_id(0)
    experts = tl.arange(0, EXPERTS)
    counts = tl.load(counts_ptr + experts, mask=experts < num_experts, other=0)
    blocks = (counts + block_size_m - 1) // block_size_m
    first_block = tl.sum(tl.where(experts < expert, blocks, 0), axis=0)
    own_blocks = tl.sum(tl.where(experts == expert, blocks, 0), axis=0)
    if expert == 0:
        tl.store(num_tokens_post_padded_ptr, tl.sum(blocks, axis=0) * block_size_m)

    lanes = tl.arange(0, CHUNK)
    position = first_block * block_size_m
    end = position + own_blocks * block_size_m
    for start in range(0, num_slots, CHUNK):
        slots = start + lanes
        ids = tl.load(topk_ids_ptr + slots, mask=slots < num_slots, other=-1)
        is_own = (ids == expert).to(tl.int32)
        places = position + tl.cumsum(is_own, axis=0) - 1
        tl.store(sorted_token_ids_ptr + places, slots, mask=is_own != 0)
        position += tl.sum(is_own, axis=0)
    for start in range(position, end, CHUNK):
        places = start + lanes
        tl.store(sorted_token_ids_ptr + places, num_slots + lanes * 0, mask=places < end)
    for start in range(0, own_blocks, CHUNK):
        own = start + lanes
        tl.store(expert_ids_ptr + first_block + own, expert + lanes * 0, mask=own < own_blocks)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Buffers of one alignment; ``counts`` is scratch."""

    sorted_token_ids: Tensor
    expert_ids: Tensor
    num_tokens_post_padded: Tensor
    counts: Tensor


def align(topk_ids: Tensor, block_size_m: int, out: Alignment) -> None:
    """topk_ids [M, top_k] int32 → ``out``; allocates and waits for nothing.

    ``out.sorted_token_ids`` must hold ``problem.padded_slots`` entries, ``out.expert_ids`` one per
    block of them, ``out.counts`` one per expert.
    """
    experts, slots = out.counts.numel(), topk_ids.numel()
    count_kernel[(experts,)](topk_ids, out.counts, slots, CHUNK=CHUNK)
    place_kernel[(experts,)](
        topk_ids,
        out.counts,
        out.sorted_token_ids,
        out.expert_ids,
        out.num_tokens_post_padded,
        slots,
        experts,
        block_size_m,
        CHUNK=CHUNK,
        EXPERTS=triton.next_power_of_2(experts),
    )
