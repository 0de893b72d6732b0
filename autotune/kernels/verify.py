"""Comparison of the output with the reference implementation: all rows, all columns.

The error is that of the worst piece of the output, in the Frobenius norm, relative to the piece's
own. Pieces are cut twice: 64 columns of one row, which show a fault of one token, slot, expert or
tile; and all rows of as many columns as make 64 elements, from 64 rows on single columns, which
show what is wrong in one column of a tile. Noise of a piece of n elements scatters by about
1 / sqrt(2n) of itself, so the worst of any number of pieces of 64 has half as much again as the
mean; of single elements it would be five times as much, and grow with the batch size. One wrong
column of 64 is an error of sqrt(2 / 64) = 0.18, more than any dtype is allowed. (Of one token it is
one element: fp8 and int8 then show it where it is off by the row's root mean square.)

What a right kernel may differ by follows from what is rounded (``reference.py`` has the list):

    rounding    A floating-point type has steps of eps in [1, 2), so an error is uniform within half
                a step: eps / 2 / sqrt(3) over a value m. With mantissas spread evenly in the
                logarithm the mean of 1 / m² is 3 / (8 ln 2), and the relative error's root mean
                square eps / (2 sqrt(8 ln 2)): 0.0017 for bf16, 0.0002 for fp16, 0.027 for e4m3.
    int8        has steps of a row's largest value over 127: CREST / 127 / sqrt(12) of the row's
                root mean square, 0.027.
    stores      Gate, up, silu(gate), their product, down and the sum are rounded to C's type one
                after the other; then the product to A's type where activations are quantised.
    two paths   Another order of an fp32 sum tips a rounding, a tipped rounding tips those after it.
                At worst nothing is left of what kernel and reference round alike: their errors
                are independent, and the variance twice that of one path.
    safety      SAFETY times that: half as much again for the worst piece, and as much for rows in
                which few values count: one that tips is off by a whole step, eps, which is 3.3
                times the noise above.

So the tolerance is SAFETY * sqrt(2 * (6 * rounding(C)² + rounding(A)²)). Beyond:

    fp32        goes into the dot as TF32, whose 10 bits of mantissa (eps 2^-10) are cut, not
                rounded: errors up to a whole step, which count as a type's with eps 2^-9.
    int4        vLLM's kernel for few rows adds partial sums of at least 128 of K in C's type. Each
                addition rounds the sum so far, whose square is on average half of the whole's: with
                64 of them (K = 8192) another 32 roundings of gate, up and down, on its path alone.
"""

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

PIECE = 64
"""Least number of elements whose error is taken together, where there are as many."""
SAFETY = 3.0
"""Largest error of a right kernel's piece over the root mean square of all; see above."""
CREST = 12.0
"""Largest over root mean square of a row of ``silu(gate) * up``: in the median 8 of 256 columns,
10 of 768 and 16 of 7168, as ``make_inputs`` draws them."""
FLOOR = 1e-4
"""Least mean square of a piece over that of the whole: rows whose slots are all dropped are 0."""


def rounding(eps: float) -> float:
    """Return the root mean square of the relative error of rounding to a type of this eps."""
    return eps / (2 * math.sqrt(8 * math.log(2)))


def _allowed(c_eps: float, *, of_a: float = 0.0, c_roundings: float = 6) -> float:
    """Return the tolerance; ``of_a`` is the error of quantising A between the GEMMs."""
    return round(SAFETY * math.sqrt(2 * (c_roundings * rounding(c_eps) ** 2 + of_a**2)), 4)


_BF16 = torch.finfo(torch.bfloat16).eps
_E4M3 = torch.finfo(torch.float8_e4m3fn).eps
_PARTIAL_SUMS = 3 * 32 / 2
"""Roundings of int4's partial sums, on one of the two paths."""

TOLERANCE: Mapping[Dtype, float] = {
    Dtype.FP32: _allowed(2**-9),
    Dtype.FP16: _allowed(torch.finfo(torch.float16).eps),
    Dtype.BF16: _allowed(_BF16),
    Dtype.INT8_W8A16: _allowed(_BF16),
    Dtype.INT4_W4A16: _allowed(_BF16, c_roundings=6 + _PARTIAL_SUMS),
    Dtype.INT8_W8A8: _allowed(_BF16, of_a=CREST / 127 / math.sqrt(12)),
    Dtype.FP8_W8A8: _allowed(_BF16, of_a=rounding(_E4M3)),
}
"""Largest allowed ``relative_error``."""


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
    """Return the worst piece's error of [M, H], relative to the piece's norm; inf for
    not-a-number."""
    reference = reference.float()
    error, size = (output.float() - reference).square(), reference.square()
    floor = max(float(size.mean()) * FLOOR, 1e-30)
    of_rows = _worst(error, size, PIECE, floor)
    columns = -(-PIECE // len(error))
    of_columns = _worst(error.mean(0, True), size.mean(0, True), columns, floor)
    worst = float(torch.maximum(of_rows, of_columns).sqrt())
    return math.inf if math.isnan(worst) else worst


def verify(inputs: MoeInputs, buffers: MoeBuffers, config: AnyConfig, reference: Tensor) -> Verdict:
    """Run one call into poisoned buffers and compare; wait for the device.

    ``reference`` is ``reference.moe_reference(inputs)`` for the routing that ``inputs`` holds now.
    """
    buffers.poison()
    output = run_moe(inputs, buffers, config)
    return Verdict(relative_error(output, reference), TOLERANCE[inputs.problem.dtype])


def _worst(error: Tensor, size: Tensor, columns: int, floor: float) -> Tensor:
    """Return the largest error over size of pieces of each row; ``floor`` is an element's."""
    return (_sums(error, columns) / _sums(size, columns).clamp_min(floor * columns)).max()


def _sums(squares: Tensor, columns: int) -> Tensor:
    """[R, C] → [R, pieces]: sums over pieces of so many columns; the last one ends with the row."""
    columns = min(columns, squares.shape[1])
    whole = squares.unfold(1, columns, columns).sum(dim=2)
    return torch.cat((whole, squares[:, -columns:].sum(dim=1, keepdim=True)), dim=1)
