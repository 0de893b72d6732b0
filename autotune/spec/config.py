"""Launch configs of the MoE GEMMs, under the engines' key names: one for both, or a pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY_OF_FIELD: Mapping[str, str] = {
    "block_size_m": "BLOCK_SIZE_M",
    "block_size_n": "BLOCK_SIZE_N",
    "block_size_k": "BLOCK_SIZE_K",
    "group_size_m": "GROUP_SIZE_M",
    "num_warps": "num_warps",
    "num_stages": "num_stages",
    "waves_per_eu": "waves_per_eu",
    "matrix_instr_nonkdim": "matrix_instr_nonkdim",
    "kpack": "kpack",
    "use_tma": "USE_TMA",
}
"""Field of Config → key in engine files and Optuna parameters, in the engines' key order."""

BLOCK_SIZE_M = KEY_OF_FIELD["block_size_m"]
UP, DOWN = "up.", "down."
"""Prefixes of the keys of a pair's halves; the common BLOCK_SIZE_M has none."""

_FIELD_OF_KEY = {key: field for field, key in KEY_OF_FIELD.items()}


@dataclass(frozen=True, slots=True)
class Config:
    """Tile sizes, program order, warps and pipeline stages of one launch.

    The last four are None where they do not apply (AMD keys on NVIDIA, TMA before SM90).
    """

    block_size_m: int
    block_size_n: int
    block_size_k: int
    group_size_m: int
    num_warps: int = 4
    num_stages: int = 3
    waves_per_eu: int | None = None
    matrix_instr_nonkdim: int | None = None
    kpack: int | None = None
    use_tma: bool | None = None

    def as_keys(self) -> dict[str, int]:
        """Return the engines' keys, in their order, without those that do not apply."""
        values = ((key, getattr(self, field)) for field, key in KEY_OF_FIELD.items())
        return {key: value for key, value in values if value is not None}

    @classmethod
    def from_keys(cls, keys: Mapping[str, int]) -> Config:
        """Return the inverse of ``as_keys``. Raises KeyError for an unknown key, TypeError for a
        missing one.

        ``num_warps`` and ``num_stages`` default to Triton's own 4 and 3.
        """
        values: dict[str, Any] = {_FIELD_OF_KEY[key]: value for key, value in keys.items()}
        return cls(**values)

    def __str__(self) -> str:
        base = (
            f"{self.block_size_m}x{self.block_size_n}x{self.block_size_k} "
            f"G{self.group_size_m} w{self.num_warps} s{self.num_stages}"
        )
        amd = (("we", self.waves_per_eu), ("mi", self.matrix_instr_nonkdim), ("kp", self.kpack))
        extras = "".join(f" {name}{value}" for name, value in amd if value is not None)
        return base + extras + (" tma" if self.use_tma else "")


@dataclass(frozen=True, slots=True)
class ConfigPair:
    """A config for each of the two GEMMs. One alignment feeds both, so they share BLOCK_SIZE_M.

    ``use_tma`` of ``down`` decides in which order the activation between them stores.
    """

    up: Config
    down: Config

    def __post_init__(self) -> None:
        if self.up.block_size_m != self.down.block_size_m:
            raise ValueError(f"up is {self.up} and down {self.down}: BLOCK_SIZE_M must be the same")

    def as_keys(self) -> dict[str, int]:
        """BLOCK_SIZE_M, then the other keys of up and of down, each with its prefix."""
        keys = {BLOCK_SIZE_M: self.up.block_size_m}
        for prefix, half in ((UP, self.up), (DOWN, self.down)):
            rest = (item for item in half.as_keys().items() if item[0] != BLOCK_SIZE_M)
            keys |= {prefix + key: value for key, value in rest}
        return keys

    @classmethod
    def from_keys(cls, keys: Mapping[str, int]) -> ConfigPair:
        """Return the inverse of ``as_keys``. Raises as ``Config.from_keys`` does."""
        halves = (
            {k.removeprefix(prefix): v for k, v in keys.items() if k.startswith(prefix)}
            for prefix in (UP, DOWN)
        )
        up, down = (Config.from_keys({BLOCK_SIZE_M: keys[BLOCK_SIZE_M], **h}) for h in halves)
        return cls(up, down)

    def __str__(self) -> str:
        return f"up {self.up}, down {self.down}"


AnyConfig = Config | ConfigPair
"""The thing that one trial measures: one config for both GEMMs, or one for each."""


def config_from_keys(keys: Mapping[str, int]) -> AnyConfig:
    """Return the inverse of ``as_keys`` of either."""
    is_pair = any(key.startswith(UP) for key in keys)
    return ConfigPair.from_keys(keys) if is_pair else Config.from_keys(keys)


def pair_of(config: AnyConfig) -> ConfigPair:
    """Return the config of each GEMM: twice the same where one serves both."""
    return config if isinstance(config, ConfigPair) else ConfigPair(config, config)
