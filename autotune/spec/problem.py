"""The layer that one rank computes: the input of every kernel, space and measurement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from autotune.spec.arrays import Floats

Size = TypeVar("Size", int, "Floats")
"""A size, or a column of them."""


class Dtype(StrEnum):
    """The type of weights and activations in the GEMMs, in the engines' words."""

    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"
    FP8_W8A8 = "fp8_w8a8"
    INT8_W8A8 = "int8_w8a8"
    INT8_W8A16 = "int8_w8a16"
    INT4_W4A16 = "int4_w4a16"

    @property
    def is_quantized(self) -> bool:
        return self not in (Dtype.BF16, Dtype.FP16, Dtype.FP32)

    @property
    def weight_bits(self) -> int:
        """Bits of one weight element."""
        bits = {Dtype.FP32: 32, Dtype.BF16: 16, Dtype.FP16: 16, Dtype.INT4_W4A16: 4}
        return bits.get(self, 8)

    @property
    def activation_bits(self) -> int:
        """Bits of one activation element as the dot reads it."""
        bits = {Dtype.FP32: 32, Dtype.FP8_W8A8: 8, Dtype.INT8_W8A8: 8}
        return bits.get(self, 16)


class KernelMode(StrEnum):
    """The way in which the two GEMMs get their launch configs."""

    FUSED = "fused"
    """One config serves both; the layer is timed as a whole."""
    SEPARATE = "separate"
    """Each has its own, with a common BLOCK_SIZE_M; each is timed by itself."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One rank's MoE layer for one batch size.

    ``w1`` is [experts, 2 * intermediate, hidden] (intermediate alone where experts have no gate),
    ``w2`` is [experts, hidden, intermediate];
    ``tokens`` rows of ``hidden`` enter, each goes to ``top_k`` of ``experts * ep_size`` experts,
    and this rank computes those that it holds.
    """

    experts: int
    """Experts held by this rank (E), fused shared experts included."""
    top_k: int
    """Experts of each token, fused shared experts included."""
    hidden: int
    """H, the row length of the layer's input and output."""
    intermediate: int
    """N, the intermediate size of this rank's shard, after the activation."""
    tokens: int
    """M, the batch size."""
    dtype: Dtype = Dtype.BF16
    block_shape: tuple[int, int] | None = None
    """(n, k) of one weight scale; (0, group) where only K is grouped; None: no block scales."""
    per_channel_quant: bool = False
    """One weight scale per output channel and one activation scale per token."""
    zero_points: bool = False
    """Integer weights scaled in groups along K are asymmetric: a zero point beside each scale."""
    ep_size: int = 1
    ep_rank: int = 0
    fused_shared_experts: int = 0
    """Number of ``experts`` (the last ones) that are shared experts, which every token visits."""
    routing: str = "uniform"
    """Names of one routing or, with commas, several (see routing.distributions)."""
    kernel: KernelMode = KernelMode.FUSED
    gated: bool = True
    """The activation is silu(gate) * up; False: relu(up)^2, and ``w1`` has no rows for a gate."""

    @property
    def routings(self) -> tuple[str, ...]:
        """The routings that a config is timed under, in turn."""
        return tuple(self.routing.split(","))

    @property
    def name(self) -> str:
        """Readable and sortable: the same order for a human and for a dashboard."""
        quant = f" block{list(self.block_shape)}" if self.block_shape else ""
        quant += " per-channel" if self.per_channel_quant else ""
        quant += " zero-points" if self.zero_points else ""
        gate = "" if self.gated else " no-gate"
        parallel = f" EP{self.ep_size}.{self.ep_rank}" if self.ep_size > 1 else ""
        kernel = " separate" if self.kernel is KernelMode.SEPARATE else ""
        routing = "" if self.routing == "uniform" else f" {self.routing}"
        return (
            f"E={self.experts},N={self.intermediate},H={self.hidden},topk={self.top_k} "
            f"{self.dtype.value}{quant}{gate}{parallel}{kernel}{routing} M={self.tokens:05d}"
        )


def padded_slots(problem: Problem, block_size_m: Size) -> Size:
    """Return EM, the most slots that alignment can need: a multiple of ``block_size_m``.

    Each expert that gets a slot is padded by at most ``block_size_m - 1``.
    """
    slots = problem.tokens * problem.top_k
    padded = slots + min(slots, problem.experts + 1) * (block_size_m - 1)
    return -(-padded // block_size_m) * block_size_m


def weights_key(problem: Problem) -> Problem:
    """Equal for problems whose weights are the same tensors (``inputs.make_weights``)."""
    return replace(
        problem, tokens=0, routing="", top_k=0, ep_size=1, ep_rank=0, kernel=KernelMode.FUSED
    )
