"""The configs that are feasible for a problem on a device: enumerable, with reasons."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from autotune.kernels.config import KEY_OF_FIELD, Config
from autotune.kernels.device import Device
from autotune.kernels.limits import shared_bytes
from autotune.kernels.problem import Problem

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


@dataclass(frozen=True, slots=True)
class Rule:
    """A named predicate: ``why_not`` gives the reason in words, or None where all is well."""

    name: str
    why_not: Callable[[Problem, Device, Config], str | None]


def _shared_memory(problem: Problem, device: Device, config: Config) -> str | None:
    need = shared_bytes(problem, config, device.target)
    if need <= device.shared_bytes:
        return None
    return (
        f"{config.num_stages} stages of its tiles need {need} bytes of shared memory; "
        f"a block on {device.name} has {device.shared_bytes}"
    )


def _block_scale_k(problem: Problem, device: Device, config: Config) -> str | None:
    block_k = problem.block_shape[1] if problem.block_shape else 0
    if not block_k or block_k % config.block_size_k == 0:
        return None
    return f"BLOCK_SIZE_K {config.block_size_k} does not divide the scale block {block_k} along K"


def _block_scale_n(problem: Problem, device: Device, config: Config) -> str | None:
    block_n = problem.block_shape[0] if problem.block_shape else 0
    size = config.block_size_n
    if not block_n or block_n % size == 0 or size % block_n == 0:
        return None
    return f"BLOCK_SIZE_N {size} neither divides nor is a multiple of the scale block {block_n}"


RULES = (
    Rule("shared memory", _shared_memory),
    Rule("block scale K", _block_scale_k),
    Rule("block scale N", _block_scale_n),
)


class Space:
    """A set of feasible configs, in a fixed order.

    ``why_not`` answers for any config, inside the knobs or not.
    """

    def __init__(
        self, configs: Iterable[Config], explain: Callable[[Config], str | None] | None = None
    ) -> None:
        self.configs = tuple(sorted(set(configs), key=lambda c: tuple(c.as_keys().values())))
        self._set = frozenset(self.configs)
        self._explain = explain

    def __contains__(self, config: object) -> bool:
        return config in self._set

    def __len__(self) -> int:
        return len(self.configs)

    def why_not(self, config: Config) -> str | None:
        """None for a member; otherwise the first rule that it breaks, in words."""
        if config in self._set:
            return None
        reason = self._explain(config) if self._explain else None
        return reason or f"{config} is not one of the {len(self)} configs of this space"

    @cached_property
    def knobs(self) -> dict[str, tuple[int, ...]]:
        """Engine key → the values that occur, ascending: the Optuna distributions."""
        rows = [config.as_keys() for config in self.configs]
        return {key: tuple(sorted({row[key] for row in rows})) for key in rows[0]} if rows else {}

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with any config added or removed."""
        text = "\n".join(str(config) for config in self.configs)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def moe_space(problem: Problem, device: Device) -> Space:
    """Every config of the device's knobs that breaks no rule."""
    knobs = knobs_of(device)
    rows = itertools.product(*knobs.values())
    grid = (Config(**dict[str, Any](zip(knobs, row, strict=True))) for row in rows)
    feasible = (config for config in grid if broken_rule(problem, device, config) is None)
    return Space(feasible, partial(_explain, problem, device))


def knobs_of(device: Device) -> Knobs:
    """The values that the keys may take on a device."""
    return AMD_KNOBS if device.target.backend == "hip" else NVIDIA_KNOBS


def _explain(problem: Problem, device: Device, config: Config) -> str | None:
    knobs = knobs_of(device)
    for field, key in KEY_OF_FIELD.items():
        value, allowed = getattr(config, field), knobs.get(field)
        if allowed is None and value is not None:
            return f"{key} is not a key of {device.name}"
        if allowed is not None and value not in allowed:
            return f"{key} is {value}; allowed are {', '.join(map(str, allowed))}"
    return broken_rule(problem, device, config)


def broken_rule(problem: Problem, device: Device, config: Config) -> str | None:
    """The reason of the first rule that ``config`` breaks, or None."""
    reasons = (rule.why_not(problem, device, config) for rule in RULES)
    return next((reason for reason in reasons if reason), None)
