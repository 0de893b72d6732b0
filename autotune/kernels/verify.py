"""Comparison of the output with the reference implementation: all rows, all columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autotune.kernels.inputs import MoeInputs
from autotune.kernels.moe import MoeBuffers, run_moe
from autotune.spec.config import AnyConfig
from autotune.spec.problem import Dtype

TOLERANCE: Mapping[Dtype, float] = {
    Dtype.FP32: 0.02,
    Dtype.FP16: 0.01,
    Dtype.BF16: 0.05,
    Dtype.INT8_W8A16: 0.05,
    Dtype.INT4_W4A16: 0.05,
    Dtype.INT8_W8A8: 0.08,
    Dtype.FP8_W8A8: 0.25,
}
"""Largest allowed ``relative_error``.

The reference rounds where the kernels do, so a right kernel differs by the order of its fp32 sums,
which now and then tips a rounding: of an output (bf16: 2^-9 of values up to 6 times the root
mean square), or of the quantised row between the GEMMs (fp8: a sixteenth of a value, int8: a
127th of the largest). Dots in fp32 use TF32, 2^-11 a factor. With such noise put into the
reference (E=8, H=2048, N=768, M=16, top-4) the error was 0.004 in fp32, 0.003 fp16, 0.015 bf16,
0.022 int8, 0.044 to 0.075 fp8; the table allows about three times that, as larger problems
have longer tails. Wrong experts, a lost tail of K or a wrong scale give 2 and more.
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The distance of one run from the reference."""

    relative_error: float
    tolerance: float

    @property
    def is_right(self) -> bool:
        return self.relative_error <= self.tolerance

    def __str__(self) -> str:
        return f"relative error {self.relative_error:.3g}, allowed {self.tolerance:g}"


def relative_error(output: Tensor, reference: Tensor) -> float:
    """Largest |output - reference| of [M, H], each over its row's root mean square.

    Rows of zeros (all slots dropped) count by a hundredth of the whole's. Not-a-number is inf.
    """
    difference = (output.float() - reference).abs().amax(dim=1)
    mean_squares = reference.square().mean(dim=1)
    floor = mean_squares.mean() / 1e4
    scale = torch.maximum(mean_squares, floor).sqrt().clamp_min(1e-30)
    return float((difference / scale).nan_to_num(nan=math.inf).max())


def verify(inputs: MoeInputs, buffers: MoeBuffers, config: AnyConfig, reference: Tensor) -> Verdict:
    """Run one call into poisoned buffers and compare; wait for the device.

    ``reference`` is ``reference.moe_reference(inputs)`` for the routing that ``inputs`` holds now.
    """
    buffers.poison()
    output = run_moe(inputs, buffers, config)
    return Verdict(relative_error(output, reference), TOLERANCE[inputs.problem.dtype])
