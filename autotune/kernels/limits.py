"""Shared memory that a config needs, before anything is compiled."""

from __future__ import annotations

from autotune.kernels.config import Config
from autotune.kernels.device import Target
from autotune.kernels.problem import Problem


def shared_bytes(problem: Problem, config: Config, target: Target) -> int:
    """Bytes of shared memory of the pipelined A and B tiles: a lower bound of what Triton takes.

    Each stage holds one [BLOCK_SIZE_M, BLOCK_SIZE_K] tile of A and one
    [BLOCK_SIZE_K, BLOCK_SIZE_N] tile of B.
    """
    a_bits = config.block_size_m * config.block_size_k * problem.dtype.activation_bits
    b_bits = config.block_size_n * config.block_size_k * problem.dtype.weight_bits
    return config.num_stages * (a_bits + b_bits) // 8
