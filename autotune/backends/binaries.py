"""A binary is one compile, as data that travels to the process that compiles it.

Our GEMM's is named by problem and config. An engine's is what Triton wrote down of its launch
(``gpu/launches.py``): nothing about the engine's kernels is known here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from autotune.spec.binary import BOTH, Which, binary_key
from autotune.spec.config import AnyConfig, Config, pair_of
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure, CompileResult
from autotune.spec.problem import Problem


@dataclass(frozen=True, slots=True)
class GemmBinary:
    """Our kernel, compiled for one GEMM of a config."""

    key: str
    """See ``binary_key``."""
    problem: Problem
    config: Config
    which: Which


@dataclass(frozen=True, slots=True)
class LaunchBinary:
    """Somebody's kernel, compiled for one launch of it."""

    key: str
    """Equal for equal source, types, constants and options."""
    module: str
    """Module that has the kernel."""
    function: str
    """Name of the kernel in its module."""
    specialization: str
    """Types, constants and options of the launch, and the target, in Triton's own JSON."""


Binary = GemmBinary | LaunchBinary
Binaries = Mapping[Which, Binary]
"""The compiles that a config needs, by GEMM; those of up and down may have one key."""


def gemm_binaries(problem: Problem, config: AnyConfig) -> Binaries:
    """Return the compiles of our kernel that a config needs."""
    pair = pair_of(config)
    halves: dict[Which, Config] = {"up": pair.up, "down": pair.down}
    return {w: GemmBinary(binary_key(problem, halves[w], w), problem, halves[w], w) for w in BOTH}


def launch_key(module: str, function: str, source: str, specialization: str) -> str:
    """Return the key of a LaunchBinary; ``source`` is Triton's digest of the kernel's source."""
    text = "\n".join((module, function, source, specialization))
    return f"{module}.{function} {hashlib.sha256(text.encode()).hexdigest()[:24]}"


def compile_binary(binary: Binary, target: Target) -> CompileResult:
    """Compile into Triton's disk cache, without a GPU. Imports torch, and the kernel's module."""
    from autotune.kernels.compile import compile_gemm, compile_launch

    if isinstance(binary, GemmBinary):
        found = compile_gemm(binary.problem, binary.config, target, binary.which)
    else:
        found = compile_launch(binary.module, binary.function, binary.specialization, target)
    return found if isinstance(found, CompileFailure) else found.resources
