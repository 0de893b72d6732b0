"""Rules of every engine for a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autotune.engines.entries import GRF_MODE, NUM_CTAS, why_bad_value
from autotune.engines.gpus import UNKNOWN
from autotune.spec.config import Config
from autotune.spec.device import Device, Target
from autotune.spec.limits import shared_bytes
from autotune.spec.problem import Problem

_AMD_FIELDS = ("waves_per_eu", "matrix_instr_nonkdim", "kpack")
_MOST_THREADS = 1024
"""Threads of a block that AMD's GPUs take: HIP's ``maxThreadsPerBlock``."""
_LDS_BYTES = {"gfx908": 65536, "gfx90a": 65536, "gfx942": 65536, "gfx950": 163840}
"""Shared memory of a block: AMD's whitepapers on CDNA to CDNA 4."""
_AMD_VALUES = {"matrix_instr_nonkdim": (0, 16, 32), "kpack": (1, 2), "waves_per_eu": range(9)}
"""Field → the values that mean something on CDNA. Triton 3.9 (backends/amd/compiler.py,
``HIPOptions``) takes any number: compiled for gfx942, tiles of 32x32x128 take 318 registers with
matrix_instr_nonkdim 4 or 7, and 72 with 16; more waves than a SIMD unit's 8 are passed over."""
_FIRST_CLUSTERS = 90
"""Compute capability from which Triton compiles blocks of a cluster."""


def scale_block(problem: Problem) -> tuple[int, int] | None:
    """(n, k) of a two-dimensional scale block; None for groups along K alone and for no scales."""
    shape = problem.block_shape
    return shape if shape and all(shape) else None


def why_not_shared(problem: Problem, device: Device, config: Config) -> str | None:
    """Return the first rule of both engines that ``config`` breaks, in words."""
    bad_values = (why_bad_value(key, value) for key, value in config.as_keys().items())
    return (
        next(filter(None, bad_values), None)
        or _bad_block(problem, config)
        or _foreign_key(device, config)
        or _compiler_crash(problem, device, config)
    )


def _bad_block(problem: Problem, config: Config) -> str | None:
    block = scale_block(problem)
    if block is None:
        return None
    block_n, block_k = block
    if block_k % config.block_size_k:
        return f"BLOCK_SIZE_K {config.block_size_k} does not divide the scale block {block_k}"
    if block_n % config.block_size_n and config.block_size_n % block_n:
        return (
            f"BLOCK_SIZE_N {config.block_size_n} neither divides nor is a multiple of the "
            f"scale block {block_n}"
        )
    return None


def _compiler_crash(problem: Problem, device: Device, config: Config) -> str | None:
    """Name tiles with which the engines' kernels, unlike ours, fail in Triton's layout pass.

    Seen on an H200 with Triton 3.6.0 and SGLang's kernel: all 16 bf16 configs of 256x64 tiles
    with 4 warps, and 4 of 16 of 256x128. None of the others of 256 rows with 4 warps came within
    twice the best time there, so nothing is lost by leaving them all out.
    """
    on_sm90 = device.target.backend == "cuda" and device.target.arch == 90
    if on_sm90 and config.block_size_m == 256 and config.num_warps == 4:
        return "256 rows with 4 warps can crash Triton's compiler on SM90 in the engine's kernel"
    return None


def default_stages(target: Target) -> int | None:
    """Return the ``num_stages`` of Triton where an entry has none; None for an unknown GPU."""
    return {"cuda": 3, "hip": 2, "xpu": 2}.get(target.backend)


def why_no_option(device: Device, entry: Mapping[str, Any]) -> str | None:
    """Say why Triton on this device does not take the entry's launch options; None if it does."""
    target = device.target
    if GRF_MODE in entry and target.backend != "xpu" and target != UNKNOWN:
        return f"{GRF_MODE} is a key for Intel; {device.name} is {target}"
    few = target.backend == "cuda" and int(target.arch) < _FIRST_CLUSTERS
    if few and entry.get(NUM_CTAS, 1) > 1:
        return f"{NUM_CTAS} above 1 needs SM{_FIRST_CLUSTERS} or newer; {device.name} is {target}"
    return None


def why_no_room(problem: Problem, device: Device, config: Config) -> str | None:
    """Say why a block is too large for an AMD GPU; None where it fits, may fit, or elsewhere."""
    target = device.target
    if target.backend != "hip":
        return None
    threads = config.num_warps * target.warp_size
    if threads > _MOST_THREADS:
        return (
            f"num_warps {config.num_warps} are {threads} threads on {device.name}, whose warps "
            f"have {target.warp_size}; a block has {_MOST_THREADS} at most"
        )
    return _too_much_shared(problem, device, replace(config, num_stages=1))


def _too_much_shared(problem: Problem, device: Device, config: Config) -> str | None:
    target = device.target
    have, need = _LDS_BYTES.get(str(target.arch)), shared_bytes(problem, config, target)
    if have is None or need <= have:
        return None
    return f"its tiles need {need} bytes of shared memory at least; a block on {target} has {have}"


def odd_on_amd(problem: Problem, device: Device, config: Config) -> list[str]:
    """Return a sentence for each value of AMD's keys that no matrix core of CDNA has, and for
    stages that the LDS has no room for. SGLang ships two such files, for Triton 3.1."""
    if str(device.target.arch) not in _LDS_BYTES:
        return []
    too_much = _too_much_shared(problem, device, config)
    staged = [f"{too_much} for {config.num_stages} stages"] if too_much else []
    values = ((field, getattr(config, field), known) for field, known in _AMD_VALUES.items())
    return staged + [
        f"{field} is {value}: Triton takes it, but on {device.target} only "
        f"{', '.join(map(str, known))} mean something"
        for field, value, known in values
        if value is not None and value not in known
    ]


def _foreign_key(device: Device, config: Config) -> str | None:
    if device.target.backend == "hip" or device.target == UNKNOWN:
        return None
    for field in _AMD_FIELDS:
        if getattr(config, field) is not None:
            return f"{field} is a key for AMD; {device.name} is {device.target}"
    return None
