"""The configs that are feasible for a problem on a device: enumerable, with reasons."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any, Protocol

from autotune.spec.binary import Scales, scales_of
from autotune.spec.config import KEY_OF_FIELD, AnyConfig, Config
from autotune.spec.device import Device
from autotune.spec.limits import (
    shared_bytes,
    why_no_dot,
    why_no_dtype,
    why_no_tma,
    why_no_tma_tile,
)
from autotune.spec.problem import Dtype, KernelMode, Problem

Knobs = Mapping[str, tuple[int, ...]]
"""Field of Config → the values it may take."""

NVIDIA_KNOBS: Knobs = {
    "block_size_m": (16, 32, 64, 128, 256),
    "block_size_n": (32, 64, 128, 256),
    "block_size_k": (32, 64, 128, 256),
    "group_size_m": (1, 8, 16, 32, 64),
    "num_warps": (4, 8),
    "num_stages": (2, 3, 4, 5),
}
"""The engines' grid of 1920, and BLOCK_SIZE_K 32 and GROUP_SIZE_M 8 of SGLang's default."""

AMD_KNOBS: Knobs = {
    "block_size_m": (16, 32, 64, 128, 256),
    "block_size_n": (16, 32, 64, 128, 256),
    "block_size_k": (32, 64, 128, 256),
    "group_size_m": (1, 4, 8, 16, 32),
    "num_warps": (1, 2, 4, 8),
    "num_stages": (2,),
    "waves_per_eu": (0, 1, 2, 4),
}
"""SGLang's AMD grid with vLLM's waves_per_eu."""

CDNA_HALF_KNOBS: Knobs = {"matrix_instr_nonkdim": (16, 32), "kpack": (1, 2)}
"""Knobs that vLLM adds where 16-bit numbers are multiplied on AMD's matrix cores."""

_DEFAULTS = {"num_warps": 4, "num_stages": 3, "waves_per_eu": 0, "kpack": 1, "use_tma": False}
"""Values that a launch takes for keys that are left out."""
_MFMA_SIDES = (32, 16)
"""Sides of AMD's matrix instructions; Triton takes the larger one that fits the tile."""


Rule = Callable[[Problem, Device, Config], str | None]
"""Returns why a config cannot or should not run, in words, or None where all is well."""


def _dtype(problem: Problem, device: Device, config: Config) -> str | None:
    return why_no_dtype(problem.dtype, device.target)


def _dot(problem: Problem, device: Device, config: Config) -> str | None:
    return why_no_dot(problem, config)


def _shared_memory(problem: Problem, device: Device, config: Config) -> str | None:
    need = shared_bytes(problem, config, device.target)
    if need <= device.shared_bytes:
        return None
    return (
        f"{config.num_stages} stages of its tiles need {need} bytes of shared memory; "
        f"a block on {device.name} has {device.shared_bytes}"
    )


def _block_scale_k(problem: Problem, device: Device, config: Config) -> str | None:
    _, block_k = problem.block_shape or (0, 0)
    size = config.block_size_k
    if not block_k or scales_of(problem) is not Scales.BLOCK or block_k % size == 0:
        return None
    return f"BLOCK_SIZE_K {size} does not divide the scale block {block_k} along K"


def _block_scale_n(problem: Problem, device: Device, config: Config) -> str | None:
    block_n, _ = problem.block_shape or (0, 0)
    size = config.block_size_n
    if not block_n or scales_of(problem) is not Scales.BLOCK:
        return None
    if block_n % size == 0 or size % block_n == 0:
        return None
    return f"BLOCK_SIZE_N {size} neither divides nor is a multiple of the scale block {block_n}"


def _group_scale(problem: Problem, device: Device, config: Config) -> str | None:
    """Kernels look up a scale for each k, so every tile is right; one that cuts a group reads
    scales anew in each step."""
    _, group = problem.block_shape or (0, 0)
    size = config.block_size_k
    if not group or scales_of(problem) is not Scales.GROUP:
        return None
    if group % size == 0 or size % group == 0:
        return None
    return f"BLOCK_SIZE_K {size} neither divides nor is a multiple of the scale group {group}"


def _matrix_instruction(problem: Problem, device: Device, config: Config) -> str | None:
    """AMD's: an instruction works on a square of the tile."""
    side = config.matrix_instr_nonkdim or _MFMA_SIDES[-1]
    if device.target.backend != "hip":
        return None
    if side > min(config.block_size_m, config.block_size_n):
        return f"matrix_instr_nonkdim {side} is larger than the tile"
    return None


def why_not_searched(problem: Problem, device: Device, config: Config) -> str | None:
    """Say why a config that can run is left out of the search, as too slow; None where it is not:
    each warp beyond Triton's default needs a matrix instruction of AMD's for itself."""
    if device.target.backend != "hip":
        return None
    side = config.matrix_instr_nonkdim or _MFMA_SIDES[-1]
    pieces = (config.block_size_m // side) * (config.block_size_n // side)
    if config.num_warps > max(pieces, _DEFAULTS["num_warps"]):
        return f"{config.num_warps} warps share {pieces} matrix instructions: some would idle"
    return None


def _tma(problem: Problem, device: Device, config: Config) -> str | None:
    if not config.use_tma:
        return None
    return why_no_tma(problem, device.target) or why_no_tma_tile(config)


RULES: tuple[Rule, ...] = (
    _dtype,
    _dot,
    _shared_memory,
    _block_scale_k,
    _block_scale_n,
    _group_scale,
    _matrix_instruction,
    _tma,
)


class SearchSpace(Protocol):
    """The set that may be asked: configs (``Space``) or pairs of them (``pairs.PairSpace``)."""

    @property
    def configs(self) -> tuple[AnyConfig, ...]:
        """Members that a first guess is chosen from. A pair space, too large to list, has those
        here whose halves are alike."""

    @property
    def knobs(self) -> dict[str, tuple[int, ...]]:
        """Parameter → the values that occur, ascending: the Optuna distributions."""

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with any config added or removed."""

    def __contains__(self, config: object) -> bool: ...

    def __len__(self) -> int: ...

    def why_not(self, config: Any) -> str | None:
        """None for a member; otherwise the first rule that it breaks, in words."""

    def is_exhausted(self, taken: Collection[Any]) -> bool:
        """True where nothing new is left to measure beside ``taken``."""


class Space:
    """A set of feasible configs, in a fixed order; equal to another of the same configs, for which
    what was found out of one is remembered. Implements SearchSpace.

    ``why_not`` answers for any config, inside the knobs or not.
    """

    def __init__(
        self, configs: Iterable[Config], explain: Callable[[Config], str | None] | None = None
    ) -> None:
        self.configs = tuple(sorted(set(configs), key=lambda c: tuple(c.as_keys().values())))
        self._set = frozenset(self.configs)
        self.explain = explain

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __contains__(self, config: object) -> bool:
        return config in self._set

    def __len__(self) -> int:
        return len(self.configs)

    def why_not(self, config: Config) -> str | None:
        if config in self._set:
            return None
        reason = self.explain(config) if self.explain else None
        return reason or f"{config} is not one of the {len(self)} configs of this space"

    def is_exhausted(self, taken: Collection[Config]) -> bool:
        return len(taken) >= len(self)

    @cached_property
    def row_of(self) -> dict[AnyConfig, int]:
        """Config → its place in ``configs``."""
        return {config: row for row, config in enumerate(self.configs)}

    @cached_property
    def knobs(self) -> dict[str, tuple[int, ...]]:
        rows = [config.as_keys() for config in self.configs]
        return {key: tuple(sorted({row[key] for row in rows})) for key in rows[0]} if rows else {}

    @cached_property
    def fingerprint(self) -> str:
        text = "\n".join(str(config) for config in self.configs)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def regrouped(config: Config, space: SearchSpace) -> Iterator[Config]:
    """Yield ``config`` with every GROUP_SIZE_M of the space, of which some may not be members. To
    our kernel it is a number of the launch, so these share their binaries: another one costs a
    measurement and no compile. To an engine's own kernel it is a constant."""
    for size in space.knobs[KEY_OF_FIELD["group_size_m"]]:
        yield replace(config, group_size_m=size)


def beside(config: Config, space: SearchSpace) -> Iterator[Config]:
    """Yield ``config`` with the next smaller and larger BLOCK_SIZE_N of the space; some may
    not be members."""
    sizes = space.knobs[KEY_OF_FIELD["block_size_n"]]
    smaller = [size for size in sizes if size < config.block_size_n]
    larger = [size for size in sizes if size > config.block_size_n]
    for size in (*smaller[-1:], *larger[:1]):
        yield replace(config, block_size_n=size)


def moe_space(problem: Problem, device: Device) -> Space:
    """Every config of the device's knobs that breaks no rule. No rule looks at the batch size or
    the routing, so that all problems of a model have one object, which is pickled once."""
    return _moe_space(replace(problem, tokens=1, routing="uniform"), device)


@lru_cache(maxsize=32)
def _moe_space(problem: Problem, device: Device) -> Space:
    knobs = knobs_of(problem, device)
    rows = itertools.product(*knobs.values())
    grid = (Config(**dict[str, Any](zip(knobs, row, strict=True))) for row in rows)
    members = (config for config in grid if _why_no_member(problem, device, config) is None)
    return Space(members, partial(_explain, problem, device))


def knobs_of(problem: Problem, device: Device) -> Knobs:
    """The values that the keys may take for a problem on a device.

    USE_TMA is a choice of each half of a pair; one config for both GEMMs has none.
    """
    if device.target.backend == "hip":
        is_half = problem.dtype in (Dtype.BF16, Dtype.FP16)
        return {**AMD_KNOBS, **CDNA_HALF_KNOBS} if is_half else AMD_KNOBS
    if problem.kernel is KernelMode.SEPARATE and why_no_tma(problem, device.target) is None:
        return {**NVIDIA_KNOBS, "use_tma": (False, True)}
    return NVIDIA_KNOBS


def completed(problem: Problem, device: Device, config: Config) -> Config:
    """``config`` with every key of the device, as launches fill in what is left out: the same
    launch, under the name that it has in the space."""
    knobs = knobs_of(problem, device)
    missing = [field for field in knobs if getattr(config, field) is None]
    values: dict[str, Any] = {field: _default(field, config) for field in missing}
    if "use_tma" not in knobs and config.use_tma is False:
        values["use_tma"] = None
    return replace(config, **values)


def _default(field: str, config: Config) -> int:
    if field == "matrix_instr_nonkdim":
        side = min(config.block_size_m, config.block_size_n)
        return next((fits for fits in _MFMA_SIDES if fits <= side), _MFMA_SIDES[-1])
    return _DEFAULTS[field]


def _explain(problem: Problem, device: Device, config: Config) -> str | None:
    knobs = knobs_of(problem, device)
    for field, key in KEY_OF_FIELD.items():
        value, allowed = getattr(config, field), knobs.get(field)
        if allowed is None and value is not None and value is not False:
            return _why_no_key(key, problem, device)
        if allowed is not None and value not in allowed:
            return f"{key} is {value}; allowed are {', '.join(map(str, allowed))}"
    return _why_no_member(problem, device, config)


def _why_no_member(problem: Problem, device: Device, config: Config) -> str | None:
    return broken_rule(problem, device, config) or why_not_searched(problem, device, config)


def _why_no_key(key: str, problem: Problem, device: Device) -> str:
    if key == KEY_OF_FIELD["use_tma"]:
        return why_no_tma(problem, device.target) or f"{key} is for --kernel separate"
    return f"{key} is not a key of {problem.dtype.value} on {device.name}"


def broken_rule(problem: Problem, device: Device, config: Config) -> str | None:
    """The reason of the first rule that ``config`` breaks, or None."""
    reasons = (rule(problem, device, config) for rule in RULES)
    return next((reason for reason in reasons if reason), None)
