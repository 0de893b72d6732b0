"""A recorded landscape: every config of a space with its raw samples, per batch size."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autotune.errors import DeviceError
from autotune.spec.arrays import Floats
from autotune.spec.config import Config

_BATCH_KEY = re.compile(r"M(\d+)")
_COLUMNS = 6
"""BLOCK_SIZE_M, N, K, GROUP_SIZE_M, num_warps, num_stages."""


@dataclass(frozen=True, slots=True)
class Landscape:
    """Samples in µs of up and down GEMM. Read it with ``load_landscape``."""

    configs: tuple[Config, ...]
    """Row order of every array."""
    gemm_us: dict[int, Floats]
    """Batch size → [config, up or down, sample]; NaN where it was not measured."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        return tuple(sorted(self.gemm_us))

    def samples_us(self, tokens: int) -> Floats:
        """Up plus down, [config, sample]."""
        total: Floats = self._of(tokens).sum(axis=1)
        return total

    def median_us(self, tokens: int) -> Floats:
        """Median over all samples, [config]; NaN where any sample is missing."""
        medians: Floats = np.median(self.samples_us(tokens), axis=1)
        return medians

    def best_us(self, tokens: int) -> float:
        """The smallest median."""
        return float(np.nanmin(self.median_us(tokens)))

    def _of(self, tokens: int) -> Floats:
        if tokens not in self.gemm_us:
            sizes = ", ".join(map(str, self.batch_sizes))
            raise DeviceError(f"no batch size {tokens} in this landscape; recorded are {sizes}")
        return self.gemm_us[tokens]


def load_landscape(path: Path) -> Landscape:
    """Reads ``configs`` [n, 6] and ``M<batch>`` [n, 2, samples] of an .npz file.

    Raises DeviceError where the file is missing or is no such landscape.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _landscape(path, {name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DeviceError(f"{path} cannot be read as a landscape (.npz): {error}") from error


def _landscape(path: Path, arrays: dict[str, NDArray[np.generic]]) -> Landscape:
    table = arrays.pop("configs", None)
    if table is None or table.ndim != 2 or table.shape[1] != _COLUMNS:
        raise DeviceError(f"{path} is no landscape: it needs an array configs of [n, {_COLUMNS}]")
    sizes = {name: match for name in arrays if (match := _BATCH_KEY.fullmatch(name))}
    if not sizes:
        raise DeviceError(f"{path} is no landscape: it has no array M<batch size>")
    rows = table.astype(int).tolist()
    for name in sizes:
        shape = arrays[name].shape
        if len(shape) != 3 or shape[:2] != (len(rows), 2):
            raise DeviceError(f"{path}: {name} is {list(shape)}, not [{len(rows)}, 2, samples]")
    return Landscape(
        configs=tuple(Config(*row) for row in rows),
        gemm_us={int(m[1]): arrays[name].astype(float) for name, m in sizes.items()},
    )
