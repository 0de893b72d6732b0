"""What both engines ask of a model that is split over ranks: whole experts, whole scale blocks."""

from __future__ import annotations

from collections.abc import Collection
from math import gcd

from autotune.engines.legality import scale_block
from autotune.errors import NotServedError, UsageError
from autotune.models.problems import Parallelism
from autotune.models.shape import ModelShape
from autotune.spec.problem import Problem

_LEAST_BLOCK = 32
"""vLLM refines to no smaller one (model_executor/layers/fused_moe/oracle/fp8.py:319)."""


def ranks_of_expert(parallel: Parallelism) -> int:
    """Return how many ranks share an expert in SGLang, its ``moe_tp_size``
    (srt/model_executor/model_runner_components/moe_ep_setup.py:154).

    Raises UsageError where the ranks cannot be split so.
    """
    tp_size, ep_size = parallel.tp_size, parallel.ep_size
    if tp_size == 1:
        return 1
    if tp_size % ep_size:
        allowed = [n for n in range(1, tp_size + 1) if tp_size % n == 0]
        raise UsageError(
            f"--tp-size {tp_size} with --ep-size {ep_size}: the EP size divides the TP size, "
            f"which counts all ranks; allowed are {', '.join(map(str, allowed))}. Try --tp-size "
            f"{ep_size} --ep-size {ep_size} for whole experts on {ep_size} ranks"
        )
    return tp_size // ep_size


def check_spread_over_all(title: str, parallel: Parallelism) -> None:
    """Raises NotServedError unless experts are spread over all ranks or none."""
    if parallel.tp_size > 1 and parallel.ep_size not in (1, parallel.tp_size):
        raise NotServedError(
            f"--tp-size {parallel.tp_size} with --ep-size {parallel.ep_size}: {title} spreads the "
            "experts over all TP x DP ranks (--enable-expert-parallel) or over none; allowed are "
            f"--ep-size 1 and {parallel.tp_size}. Try --engine sglang, which has both"
        )


def check_method(title: str, shape: ModelShape, problem: Problem, unknown: Collection[str]) -> None:
    """Raises NotServedError where the engine has none of the checkpoint's method."""
    stored = shape.quantization
    if stored and stored.method in unknown and problem.dtype is stored.dtype:
        raise NotServedError(
            f"{shape.name}: {title} has no quantisation {stored.method}, as the checkpoint calls "
            "it. Try the other engine"
        )


def cut_block(problem: Problem, ranks: int) -> tuple[int, int] | None:
    """Return the scale block that this shard of N cuts in two; None where all stay whole.

    ``ranks`` share an expert: only then is the down GEMM cut along K.
    """
    block = scale_block(problem)
    if block is None:
        return None
    block_n, block_k = block
    whole = problem.intermediate % block_n == 0
    return None if whole and (ranks == 1 or problem.intermediate % block_k == 0) else block


def refined_block(problem: Problem, block: tuple[int, int]) -> tuple[int, int] | None:
    """Return the block into which vLLM cuts a checkpoint's, so that N has whole ones
    (``refine_fp8_moe_block_shape``, model_executor/layers/fused_moe/oracle/fp8.py:292)."""
    side = gcd(*block, problem.intermediate, problem.hidden)
    return (side, side) if side >= _LEAST_BLOCK else None


def blocks_are_cut(title: str, shape: ModelShape, problem: Problem, more: str) -> NotServedError:
    """Return the error of an engine that refuses a cut block; ``more`` ends its advice."""
    block = max(problem.block_shape or (1,))
    whole = [
        ranks
        for ranks in range(1, shape.intermediate + 1)
        if shape.intermediate % ranks == 0 and shape.intermediate // ranks % block == 0
    ]
    allowed = f"{', '.join(map(str, whole))} ranks may share an expert" if whole else "none can be"
    return NotServedError(
        f"{shape.name}: N={problem.intermediate} is no multiple of the scale block {block}, and "
        f"{title} refuses to load it; {allowed}. {more}"
    )
