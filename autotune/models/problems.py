"""A model shape, and how it is split over ranks → the problem that one rank computes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache

from autotune.errors import ModelError, UsageError
from autotune.models.shape import ModelShape, WeightQuantization
from autotune.spec.problem import Dtype, Problem

logger = logging.getLogger(__name__)

# The group size that published AWQ and GPTQ checkpoints have. The int4 kernels need a group, and
# a checkpoint that is not int4 names none.
INT4_GROUP = 128

_MOST_RANKS = 128  # error messages list the sizes that divide up to here


@dataclass(frozen=True, slots=True)
class Parallelism:
    """The split of one MoE layer over ranks: by intermediate size (TP) or by experts (EP).

    The engines write ``N = intermediate / (tp / ep)`` where ``tp`` counts all ranks of the
    layer. Here ``tp_size`` counts the ranks that share one expert, so it must be 1 when
    ``ep_size > 1``: each rank then holds ``experts / ep_size`` whole experts. An SGLang server
    started with ``--tp-size 8 --ep-size 8`` is ``Parallelism(tp_size=1, ep_size=8)``.

    Raises:
        UsageError: a size below 1, a rank outside 0 … ep_size - 1, or TP and EP together.
    """

    tp_size: int = 1
    ep_size: int = 1
    ep_rank: int = 0

    def __post_init__(self) -> None:
        for flag, size in (("--tp-size", self.tp_size), ("--ep-size", self.ep_size)):
            if size < 1:
                raise UsageError(f"{flag} is {size}; it is a whole number from 1. Try {flag} 1")
        if not 0 <= self.ep_rank < self.ep_size:
            raise UsageError(
                f"expert-parallel rank is {self.ep_rank}; with --ep-size {self.ep_size} it is "
                f"0 to {self.ep_size - 1}. Try rank 0"
            )
        if self.ep_size > 1 and self.tp_size > 1:
            raise UsageError(
                f"--tp-size {self.tp_size} with --ep-size {self.ep_size}: --tp-size must be 1 "
                f"when --ep-size is over 1, because each rank then holds whole experts. "
                f"Try --tp-size 1 --ep-size {self.ep_size}, which is also what an SGLang server "
                f"with --tp-size {self.ep_size} --ep-size {self.ep_size} computes"
            )


def problem_of(
    shape: ModelShape,
    parallelism: Parallelism,
    dtype: Dtype | None,
    *,
    per_channel_quant: bool = False,
    fuse_shared_experts: bool,
    tokens: int,
    routing: str,
) -> Problem:
    """Return the problem that one rank computes of one layer for ``tokens`` rows.

    ``dtype`` None is what the checkpoint has. Block scales are the checkpoint's where ``dtype``
    is the checkpoint's, else there are none (int4: groups of 128 along K).

    With ``fuse_shared_experts`` a model whose shared expert SGLang serves as one more routed
    expert gets ``E + 1`` and ``top_k + 1``. Under expert parallelism SGLang on CUDA serves the
    shared expert on its own, whatever the flag says, so there E is ``experts / ep_size``.

    Raises:
        UsageError: sizes that do not divide, or flags that contradict each other.
        ModelError: ``dtype`` is None and the checkpoint's is not one that is computed here.
    """
    if tokens < 1:
        raise UsageError(f"--batch-size is {tokens}; it is a whole number from 1. Try 1")
    _check_divides(shape, "--tp-size", parallelism.tp_size, "intermediate size", shape.intermediate)
    _check_divides(shape, "--ep-size", parallelism.ep_size, "experts", shape.experts)
    scales = _scales(shape, dtype, per_channel_quant)
    fused = _fused(shape, parallelism, fuse_shared_experts)
    problem = Problem(
        experts=shape.experts // parallelism.ep_size + fused,
        top_k=shape.top_k + fused,
        hidden=shape.hidden,
        intermediate=shape.intermediate // parallelism.tp_size,
        tokens=tokens,
        dtype=scales.dtype or shape.dtype,
        block_shape=scales.block_shape,
        per_channel_quant=scales.per_channel_quant,
        zero_points=scales.zero_points,
        ep_size=parallelism.ep_size,
        ep_rank=parallelism.ep_rank,
        fused_shared_experts=fused,
        routing=routing,
    )
    _warn_of_cut_blocks(shape, problem)
    return problem


def _check_divides(shape: ModelShape, flag: str, ranks: int, what: str, size: int) -> None:
    if size % ranks == 0:
        return
    allowed = [n for n in range(1, min(size, _MOST_RANKS) + 1) if size % n == 0]
    below = max(n for n in allowed if n < ranks)
    raise UsageError(
        f"{flag} {ranks} does not divide the {what} of {shape.name}, {size}; allowed are "
        f"{', '.join(map(str, allowed))}. Try {flag} {below}"
    )


def _fused(shape: ModelShape, parallelism: Parallelism, wanted: bool) -> int:
    if not wanted or not shape.fused_shared_experts:
        return 0
    if parallelism.ep_size > 1:
        logger.info(
            "%s: the shared expert is not fused under expert parallelism, as in serving",
            shape.name,
        )
        return 0
    return shape.fused_shared_experts


def _scales(shape: ModelShape, dtype: Dtype | None, per_channel: bool) -> WeightQuantization:
    """Return the quantisation to compute with: the checkpoint's where it fits, else the bare
    dtype's."""
    stored = shape.quantization or WeightQuantization("none", shape.dtype)
    wanted = dtype or stored.dtype
    if wanted is None:
        raise ModelError(
            f"{shape.name} stores its experts as {stored.method}, which the Triton kernels here "
            f"do not compute; allowed are {', '.join(d.value for d in Dtype)}. Try --dtype bf16"
        )
    if per_channel and wanted not in (Dtype.FP8_W8A8, Dtype.INT8_W8A8):
        raise UsageError(
            f"--per-channel-quant with dtype {wanted.value}: only fp8_w8a8 and int8_w8a8 have "
            f"scales per channel and token. Try --dtype fp8_w8a8, or leave the flag out"
        )
    if wanted is not stored.dtype:
        block = (0, INT4_GROUP) if wanted is Dtype.INT4_W4A16 else None
        return WeightQuantization("flag", wanted, block, per_channel)
    if per_channel and stored.block_shape:
        _warn_once(
            f"--per-channel-quant is left out: {shape.name} has block scales "
            f"{list(stored.block_shape)}, and engines serve it so"
        )
    block_shape = stored.block_shape
    per_channel = (per_channel or stored.per_channel_quant) and block_shape is None
    # Only kernels for weights in groups along K read zero points.
    zero_points = stored.zero_points and block_shape is not None and block_shape[0] == 0
    return WeightQuantization(stored.method, wanted, block_shape, per_channel, zero_points)


def _warn_of_cut_blocks(shape: ModelShape, problem: Problem) -> None:
    """Warn of a shard that cuts a scale's block in two: it is tunable, but engines refuse to load
    it."""
    if problem.block_shape is None:
        return
    block = max(problem.block_shape)
    if problem.intermediate % block:
        _warn_once(
            f"{shape.name}: N={problem.intermediate} cuts scale blocks of {block} in two, which "
            f"engines refuse to load. A smaller --tp-size, or --ep-size, keeps them whole"
        )


@cache
def _warn_once(text: str) -> None:
    """Warn once a process: a run makes a problem for each batch size."""
    logger.warning(text)
