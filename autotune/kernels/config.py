"""One launch config of the MoE GEMM, under the engines' key names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
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
        """The engines' keys, in their order, without those that do not apply."""
        values = ((KEY_OF_FIELD[f.name], getattr(self, f.name)) for f in fields(self))
        return {key: value for key, value in values if value is not None}

    @classmethod
    def from_keys(cls, keys: Mapping[str, int]) -> Config:
        """Inverse of ``as_keys``. Raises KeyError for an unknown key, TypeError for a missing one.

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
