"""Pairs of configs, one for each GEMM: too many to list, so each half has a space of its own.

The halves share BLOCK_SIZE_M and nothing else, and their times add up. So a trial of one pair
measures two halves, and halves of different trials may be put together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from autotune.spec.binary import BOTH, Which
from autotune.spec.config import (
    BLOCK_SIZE_M,
    DOWN,
    UP,
    AnyConfig,
    Config,
    ConfigPair,
    pair_of,
)
from autotune.spec.device import Device
from autotune.spec.measurement import typical_us
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.space import SearchSpace, Space, completed, moe_space
from autotune.studies.trial_record import TrialRecord


class PairSpace:
    """Every pair of an up and a down config with the same BLOCK_SIZE_M. Implements SearchSpace."""

    def __init__(self, up: Space, down: Space) -> None:
        """Configs whose BLOCK_SIZE_M the other half lacks are left out."""
        common = set(up.knobs.get(BLOCK_SIZE_M, ())) & set(down.knobs.get(BLOCK_SIZE_M, ()))
        self.up, self.down = (_restricted(half, common) for half in (up, down))

    def half(self, which: Which) -> Space:
        """The space of one GEMM's configs."""
        return self.up if which == "up" else self.down

    @cached_property
    def configs(self) -> tuple[ConfigPair, ...]:
        return tuple(pair_of(config) for config in self.up.configs if config in self.down)

    @cached_property
    def knobs(self) -> dict[str, tuple[int, ...]]:
        """Parameter → the values that occur, in the order of ``ConfigPair.as_keys``."""
        knobs = {BLOCK_SIZE_M: self.up.knobs[BLOCK_SIZE_M]} if len(self) else {}
        for prefix, half in ((UP, self.up), (DOWN, self.down)):
            knobs |= {prefix + k: v for k, v in half.knobs.items() if k != BLOCK_SIZE_M}
        return knobs

    @cached_property
    def fingerprint(self) -> str:
        text = f"{self.up.fingerprint} {self.down.fingerprint}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def __contains__(self, config: object) -> bool:
        return isinstance(config, ConfigPair) and config.up in self.up and config.down in self.down

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        sizes = [[config.block_size_m for config in self.half(which).configs] for which in BOTH]
        return sum(sizes[0].count(size) * sizes[1].count(size) for size in set(sizes[0]))

    def why_not(self, config: AnyConfig) -> str | None:
        """A reason says which GEMM's config it is about."""
        pair = pair_of(config)
        for which in BOTH:
            if reason := self.half(which).why_not(getattr(pair, which)):
                return f"{which}: {reason}"
        return None

    def is_exhausted(self, taken: Collection[ConfigPair]) -> bool:
        """True where every half was in some pair."""
        ups, downs = {pair.up for pair in taken}, {pair.down for pair in taken}
        return len(ups) >= len(self.up) and len(downs) >= len(self.down)


def space_of(problem: Problem, device: Device) -> SearchSpace:
    """Return the space that a study searches: configs, or for separate kernels pairs."""
    space = moe_space(problem, device)
    return PairSpace(space, space) if problem.kernel is KernelMode.SEPARATE else space


def completed_as_asked(
    problem: Problem, device: Device, config: AnyConfig, down: Config | None = None
) -> AnyConfig:
    """``config`` as the problem's space has it, every key filled in: a pair for separate kernels,
    with ``down`` for the down GEMM, or the same where there is no other.

    A pair whose halves do not share BLOCK_SIZE_M cannot be launched: then ``config`` is both.
    """
    pair = pair_of(config)
    up = completed(problem, device, pair.up)
    if problem.kernel is not KernelMode.SEPARATE:
        return up
    other = completed(problem, device, down or pair.down)
    return ConfigPair(up, other if other.block_size_m == up.block_size_m else up)


def together(problem: Problem, device: Device, up: Config, down: Config) -> AnyConfig:
    """Return what SGLang launches with an up and a down file that say these, every key filled in:
    both GEMMs share up's BLOCK_SIZE_M. Where both are the same, a fused problem has one config."""
    whole = completed(problem, device, up)
    other = completed(problem, device, replace(down, block_size_m=up.block_size_m))
    is_one = whole == other and problem.kernel is not KernelMode.SEPARATE
    return whole if is_one else ConfigPair(whole, other)


@dataclass(frozen=True, slots=True)
class HalfTime:
    """One GEMM's config, and its typical time in some trial."""

    config: Config
    geomean_us: float


def half_times(entries: Iterable[TrialRecord], which: Which) -> list[HalfTime]:
    """The complete measurements of one half, in order of trial number."""
    found = []
    for entry in entries:
        samples = entry.up_us if which == "up" else entry.down_us
        if entry.complete and samples and isinstance(entry.config, ConfigPair):
            found.append(
                HalfTime(getattr(entry.config, which), typical_us(samples, entry.routings))
            )
    return found


def best_pairs(entries: Collection[TrialRecord]) -> list[ConfigPair]:
    """Return, for each BLOCK_SIZE_M, the fastest up with the fastest down, from whatever trials;
    the smallest sum first."""
    best: dict[Which, Mapping[int, HalfTime]] = {
        which: _fastest(half_times(entries, which)) for which in BOTH
    }
    ups, downs = best["up"], best["down"]
    halves = [(ups[size], downs[size]) for size in ups.keys() & downs.keys()]
    halves.sort(key=lambda pair: pair[0].geomean_us + pair[1].geomean_us)
    return [ConfigPair(up.config, down.config) for up, down in halves]


def _fastest(times: Iterable[HalfTime]) -> dict[int, HalfTime]:
    """Return the fastest by BLOCK_SIZE_M."""
    best: dict[int, HalfTime] = {}
    for time in sorted(times, key=lambda time: -time.geomean_us):
        best[time.config.block_size_m] = time
    return best


def _restricted(space: Space, sizes: Collection[int]) -> Space:
    configs = [config for config in space.configs if config.block_size_m in sizes]
    return space if len(configs) == len(space) else Space(configs, space.explain)
