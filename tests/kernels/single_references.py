"""Reference implementations of single kernels; that of the layer is the product's own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ReferenceAlignment:
    """The result that alignment promises, without the unused ends of its buffers."""

    sorted_token_ids: Tensor
    """[num_tokens_post_padded] int32."""
    expert_ids: Tensor
    """[num_tokens_post_padded / BLOCK_SIZE_M] int32."""


def align_reference(topk_ids: Tensor, experts: int, block_size_m: int) -> ReferenceAlignment:
    """topk_ids [M, top_k]: each expert's slots in ascending order, padded with M * top_k."""
    flat, runs, owners = topk_ids.flatten(), [], []
    for expert in range(experts):
        slots = torch.nonzero(flat == expert).flatten()
        blocks = -(-len(slots) // block_size_m)
        padding = slots.new_full((blocks * block_size_m - len(slots),), flat.numel())
        runs += [slots, padding]
        owners += [expert] * blocks
    return ReferenceAlignment(torch.cat(runs).int(), torch.tensor(owners, dtype=torch.int32))


def gemm_reference(rows: Tensor, weights: Tensor, slot_rows: Tensor, topk_ids: Tensor) -> Tensor:
    """C [R, N] fp32: slot s is rows[slot_rows[s]] [K] × weights[expert of s] [N, K] transposed.

    rows [·, K] and weights [E, N, K] are fp32.
    """
    flat = topk_ids.flatten()
    out = rows.new_zeros(flat.numel(), weights.shape[1])
    for expert in range(len(weights)):
        slots = torch.nonzero(flat == expert).flatten()
        out[slots] = rows[slot_rows[slots]] @ weights[expert].T
    return out


def sum_reference(x: Tensor, topk_ids: Tensor) -> Tensor:
    """x [M, top_k, H] → [M, H] fp32 over the slots that are not dropped."""
    return torch.where((topk_ids >= 0)[..., None], x.float(), 0.0).sum(dim=1)
