"""Eager quantisation: how real-valued weights and activations become int or fp8 and scales.

A scale belongs to a tile of a matrix. The five ways of scaling differ only in that tile::

              TENSOR     CHANNEL   BLOCK      GROUP
    weights   [N, K]     [1, K]    [gn, gk]   [1, gk]
    rows      [all, K]   [1, K]    [1, gk]    not quantised
"""

from __future__ import annotations

import torch
from torch import Tensor

from autotune.kernels.binary import Scales, scales_of
from autotune.kernels.problem import Dtype, Problem

Tile = tuple[int, int]


def weight_tile(problem: Problem, n: int, k: int) -> Tile:
    """Rows and columns of one expert's [n, k] weights that share a scale."""
    group_n, group_k = problem.block_shape or (0, 0)
    return {
        Scales.NONE: (n, k),
        Scales.TENSOR: (n, k),
        Scales.CHANNEL: (1, k),
        Scales.BLOCK: (group_n, group_k),
        Scales.GROUP: (1, group_k),
    }[scales_of(problem)]


def row_tile(problem: Problem, rows: int, k: int) -> Tile:
    """Rows and columns of [rows, k] activations that share a scale."""
    scales = scales_of(problem)
    if scales is Scales.BLOCK and problem.block_shape:
        return 1, problem.block_shape[1]
    return (1 if scales is Scales.CHANNEL else rows), k


def largest(element: torch.dtype, dtype: Dtype) -> float:
    """The largest magnitude that quantised values take; int ranges are used symmetrically."""
    if dtype is Dtype.INT4_W4A16:
        return 7.0
    return 127.0 if element == torch.int8 else torch.finfo(element).max


def quantize(x: Tensor, tile: Tile, element: torch.dtype, largest: float) -> tuple[Tensor, Tensor]:
    """x [R, C] real → (values [R, C] of ``element``, scales [ceil(R/tr), ceil(C/tc)] float32)."""
    scale = _tile_maxima(x.float().abs(), tile).clamp_min(1e-12) / largest
    values = x.float() / _spread(scale, tile, x.shape)
    return round_to(values, element, largest), scale


def round_to(values: Tensor, element: torch.dtype, largest: float) -> Tensor:
    """Nearest values of ``element`` within ±largest; int halves go up, as the kernel's do."""
    values = values.clamp(-largest, largest)
    if not element.is_floating_point:
        values = torch.floor(values + 0.5)
    return values.to(element)


def dequantize(values: Tensor, scale: Tensor, tile: Tile) -> Tensor:
    """Inverse of ``quantize``: [R, C] float32."""
    return values.float() * _spread(scale, tile, values.shape)


def pack_int4(values: Tensor) -> Tensor:
    """int8 [N, K] in -8…7 → uint8 [N, K/2]: even K in the low half, stored with 8 added."""
    halves = (values + 8).to(torch.uint8)
    return halves[:, 0::2] | (halves[:, 1::2] << 4)


def unpack_int4(packed: Tensor) -> Tensor:
    """Inverse of ``pack_int4``."""
    halves = torch.stack((packed & 0xF, packed >> 4), dim=-1).flatten(-2)
    return halves.to(torch.int8) - 8


def _tile_maxima(x: Tensor, tile: Tile) -> Tensor:
    (rows, columns), (tr, tc) = x.shape, tile
    pad = (0, -columns % tc, 0, -rows % tr)
    padded = torch.nn.functional.pad(x, pad)
    return padded.reshape(-(-rows // tr), tr, -(-columns // tc), tc).amax(dim=(1, 3))


def _spread(scale: Tensor, tile: Tile, shape: torch.Size) -> Tensor:
    """Each tile's scale at every element of the tile."""
    by_row = scale.repeat_interleave(tile[0], 0)[: shape[0]]
    return by_row.repeat_interleave(tile[1], 1)[:, : shape[1]]
