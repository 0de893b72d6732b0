"""Storage types of the GEMMs' operands: a Dtype in PyTorch's words."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from autotune.spec.device import Target
from autotune.spec.problem import Dtype


@dataclass(frozen=True, slots=True)
class Elements:
    """Element types of one GEMM's A, B and C."""

    a: torch.dtype
    b: torch.dtype
    c: torch.dtype

    @property
    def quantizes_activations(self) -> bool:
        return self.a != self.c


def elements_of(dtype: Dtype, target: Target) -> Elements:
    """Return storage types of ``dtype``. CDNA3 (gfx94x) has its own fp8: no infinities, no -0."""
    is_cdna3 = target.backend == "hip" and str(target.arch).startswith("gfx94")
    fp8 = torch.float8_e4m3fnuz if is_cdna3 else torch.float8_e4m3fn
    bf16 = torch.bfloat16
    return {
        Dtype.BF16: Elements(bf16, bf16, bf16),
        Dtype.FP16: Elements(torch.float16, torch.float16, torch.float16),
        Dtype.FP32: Elements(torch.float32, torch.float32, torch.float32),
        Dtype.FP8_W8A8: Elements(fp8, fp8, bf16),
        Dtype.INT8_W8A8: Elements(torch.int8, torch.int8, bf16),
        Dtype.INT8_W8A16: Elements(bf16, torch.int8, bf16),
        Dtype.INT4_W4A16: Elements(bf16, torch.uint8, bf16),
    }[dtype]
