"""Storage types of the GEMMs' operands: a Dtype in PyTorch's words."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from autotune.spec.device import Target
from autotune.spec.problem import Dtype


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
