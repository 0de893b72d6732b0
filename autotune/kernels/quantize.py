"""Eager quantisation: how real-valued weights and activations become int or fp8 and scales, and
the types that they are stored in.

A scale belongs to a tile of a matrix. The five ways of scaling differ only in that tile::

              TENSOR     CHANNEL   BLOCK      GROUP
    weights   [N, K]     [1, K]    [gn, gk]   [1, gk]
    rows      [all, K]   [1, K]    [1, gk]    not quantised
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autotune.spec.binary import Scales, scales_of
from autotune.spec.device import Target
from autotune.spec.problem import Dtype, Problem

Tile = tuple[int, int]

SMALLEST = 1e-10
"""The least magnitude that the largest of a tile counts as: tiles of zeros need a scale too."""


@dataclass(frozen=True, slots=True)
class StorageDtypes:
    """Element types of one GEMM's A, B and C."""

    a: torch.dtype
    b: torch.dtype
    c: torch.dtype

    @property
    def quantizes_activations(self) -> bool:
        return self.a != self.c


def storage_dtypes_of(dtype: Dtype, target: Target) -> StorageDtypes:
    """Return storage types of ``dtype``. CDNA3 (gfx94x) has its own fp8: no infinities, no -0."""
    is_cdna3 = target.backend == "hip" and str(target.arch).startswith("gfx94")
    fp8 = torch.float8_e4m3fnuz if is_cdna3 else torch.float8_e4m3fn
    bf16 = torch.bfloat16
    return {
        Dtype.BF16: StorageDtypes(bf16, bf16, bf16),
        Dtype.FP16: StorageDtypes(torch.float16, torch.float16, torch.float16),
        Dtype.FP32: StorageDtypes(torch.float32, torch.float32, torch.float32),
        Dtype.FP8_W8A8: StorageDtypes(fp8, fp8, bf16),
        Dtype.INT8_W8A8: StorageDtypes(torch.int8, torch.int8, bf16),
        Dtype.INT8_W8A16: StorageDtypes(bf16, torch.int8, bf16),
        Dtype.INT4_W4A16: StorageDtypes(bf16, torch.uint8, bf16),
    }[dtype]


def weight_tile(problem: Problem, n: int, k: int) -> Tile:
    """Return the rows and columns of one expert's [n, k] weights that share a scale."""
    group_n, group_k = problem.block_shape or (0, 0)
    return {
        Scales.NONE: (n, k),
        Scales.TENSOR: (n, k),
        Scales.CHANNEL: (1, k),
        Scales.BLOCK: (group_n, group_k),
        Scales.GROUP: (1, group_k),
    }[scales_of(problem)]


def row_tile(problem: Problem, rows: int, k: int) -> Tile:
    """Return the rows and columns of [rows, k] activations that share a scale."""
    scales = scales_of(problem)
    if scales is Scales.BLOCK and problem.block_shape:
        return 1, problem.block_shape[1]
    return (1 if scales is Scales.CHANNEL else rows), k


def largest(element: torch.dtype, dtype: Dtype) -> float:
    """Return the largest magnitude of quantised values; int ranges are used symmetrically."""
    if dtype is Dtype.INT4_W4A16:
        return 7.0
    return 127.0 if element == torch.int8 else torch.finfo(element).max


def truncates(problem: Problem) -> bool:
    """Return whether activations become int by cutting fractions off, not by rounding."""
    return problem.dtype is Dtype.INT8_W8A8 and scales_of(problem) is Scales.BLOCK


def quantize(
    x: Tensor, tile: Tile, element: torch.dtype, largest: float, *, cuts: bool = False
) -> tuple[Tensor, Tensor]:
    """x [R, C] real → (values [R, C] of ``element``, scales [ceil(R/tr), ceil(C/tc)] float32).

    ``cuts`` as ``truncates`` has it.
    """
    scale = _tiles(x.float().abs(), tile).amax(dim=(1, 3)).clamp_min(SMALLEST) / largest
    values = x.float() / spread(scale, tile, x.shape)
    return round_to(values, element, largest, cuts=cuts), scale


def round_to(values: Tensor, element: torch.dtype, largest: float, *, cuts: bool = False) -> Tensor:
    """Nearest values of ``element`` within ±largest, int halves away from zero; int values toward
    zero where it ``cuts``."""
    values = values.clamp(-largest, largest)
    if not element.is_floating_point and not cuts:
        values = values + 0.5 * values.sign()
    return values.to(element)


def quantize_asymmetric(x: Tensor, tile: Tile, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """x [R, C] real → (values int8, scales float32, zero points int8, as many as scales).

    Values and zero points are signed ``bits``-bit numbers; x is about (value - zero) * scale.
    """
    tiles, levels, least = _tiles(x.float(), tile), 2**bits - 1, -(2 ** (bits - 1))
    low, high = tiles.amin(dim=(1, 3)).clamp_max(0), tiles.amax(dim=(1, 3)).clamp_min(0)
    scale = (high - low).clamp_min(1e-12) / levels
    zero = torch.floor(-low / scale + 0.5).clamp(0, levels) + least
    steps = torch.floor(x.float() / spread(scale, tile, x.shape) + 0.5)
    values = (steps + spread(zero, tile, x.shape)).clamp(least, least + levels)
    return values.to(torch.int8), scale, zero.to(torch.int8)


def dequantize(values: Tensor, scale: Tensor, tile: Tile, zero: Tensor | None = None) -> Tensor:
    """Undo ``quantize``, or with zero points ``quantize_asymmetric``: [R, C] float32."""
    steps = values.float()
    if zero is not None:
        steps = steps - spread(zero.float(), tile, values.shape)
    return steps * spread(scale, tile, values.shape)


def pack_int4(values: Tensor) -> Tensor:
    """int8 [N, K] in -8…7 → uint8 [N, K/2]: even K in the low half, stored with 8 added."""
    halves = (values + 8).to(torch.uint8)
    return halves[:, 0::2] | (halves[:, 1::2] << 4)


def unpack_int4(packed: Tensor) -> Tensor:
    """Return the inverse of ``pack_int4``."""
    halves = torch.stack((packed & 0xF, packed >> 4), dim=-1).flatten(-2)
    return halves.to(torch.int8) - 8


def pack_int4_rows(values: Tensor) -> Tensor:
    """int8 [N, G] in -8…7 → uint8 [ceil(N / 2), G]: even N in the low half, 8 added."""
    padded = torch.nn.functional.pad(values, (0, 0, 0, len(values) % 2))
    return pack_int4(padded.T).T.contiguous()


def unpack_int4_rows(packed: Tensor, rows: int) -> Tensor:
    """Return the inverse of ``pack_int4_rows``; ``rows`` is N."""
    return unpack_int4(packed.T).T[:rows]


def _tiles(x: Tensor, tile: Tile) -> Tensor:
    """[ceil(R/tr), tr, ceil(C/tc), tc], with zeros where x ends within a tile."""
    (rows, columns), (tr, tc) = x.shape, tile
    pad = (0, -columns % tc, 0, -rows % tr)
    padded = torch.nn.functional.pad(x, pad)
    return padded.reshape(-(-rows // tr), tr, -(-columns // tc), tc)


def spread(scale: Tensor, tile: Tile, shape: torch.Size) -> Tensor:
    """Return each tile's scale at every element of the tile."""
    by_row = scale.repeat_interleave(tile[0], 0)[: shape[0]]
    return by_row.repeat_interleave(tile[1], 1)[:, : shape[1]]
