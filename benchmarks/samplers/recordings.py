"""Recorded landscapes of both formats as one thing: rows of parameters, each with its time."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.backends.hardware import find_spec
from autotune.backends.replay.landscape import load_landscape
from autotune.backends.replay.recording_format import read_recording
from autotune.engines import ENGINES
from autotune.spec.arrays import Floats
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import Dtype, Problem
from autotune.studies.outcome import Outcome

PROBLEMS: dict[str, dict[str, Any]] = {
    "moe_h200_qwen3-30b-a3b_tp1_bf16": {
        "experts": 128, "top_k": 8, "hidden": 2048, "intermediate": 768,
    },
    "moe_h200_deepseek-v3_tp8_fp8block": {
        "experts": 257, "top_k": 9, "hidden": 7168, "intermediate": 256,
        "dtype": Dtype.FP8_W8A8, "block_shape": (128, 128),
    },
}  # fmt: skip
"""File stem → what was recorded, less the batch size."""
FEWEST = 500
"""Configs from which a recording of ours is raced on."""
_SPEC = find_spec("NVIDIA H200")
DEVICE = Device(
    DeviceKind.REPLAY, _SPEC.name, _SPEC.target, _SPEC.shared_per_block, "3.6.0", "race"
)


@dataclass(frozen=True, eq=False)
class Recording:
    """One landscape at one batch size. What is infeasible is no row."""

    name: str
    group: str
    """Model or kernel: recordings of one group are siblings."""
    rows: tuple[dict[str, Any], ...]
    us: Floats
    """Median of each row; NaN: it failed."""
    complete: NDArray[np.bool_]
    """False where the recording stopped early (many times slower than the best): pruned."""
    problem: Problem | None = None

    @property
    def optimum_us(self) -> float:
        return float(self.us[self.complete].min())

    @property
    def configs(self) -> tuple[Config, ...]:
        return tuple(Config.from_keys(row) for row in self.rows)

    @property
    def defaults(self) -> list[dict[str, Any]]:
        """Both engines' heuristic defaults, as far as the space has them."""
        if self.problem is None:
            return []
        engines = ENGINES.values()
        found = [e.launched(self.problem, e.default_config(self.problem, DEVICE)) for e in engines]
        known = set(self.configs)
        return [config.as_keys() for config in dict.fromkeys(found) if config in known]


@cache
def recordings(folder: Path) -> dict[str, Recording]:
    """Every recording below ``folder``: name → recording."""
    moe = [
        r for path in sorted(folder.glob("moe_*.npz")) if path.stem in PROBLEMS for r in _moe(path)
    ]
    ours = [r for path in sorted(folder.glob("*.npz")) if path.stem not in PROBLEMS
            for r in _ours(path)]  # fmt: skip
    others = [_kernel_tuner(path) for path in sorted(folder.glob("*.json.gz"))]
    return {recording.name: recording for recording in moe + ours + others}


def _moe(path: Path) -> list[Recording]:
    landscape, model = load_landscape(path), path.stem.split("_")[2]
    made = []
    for tokens in landscape.batch_sizes:
        samples = landscape.samples_us(tokens)
        kept = np.flatnonzero(np.isfinite(samples).any(axis=1))
        made.append(
            Recording(
                name=f"{model} M={tokens}",
                group=model,
                rows=tuple(landscape.configs[row].as_keys() for row in kept),
                us=np.exp(np.nanmean(np.log(samples[kept]), axis=1)),
                complete=np.isfinite(samples[kept]).all(axis=1),
                problem=Problem(tokens=tokens, **PROBLEMS[path.stem]),
            )
        )
    return made


def _ours(path: Path) -> list[Recording]:
    """What ``record`` wrote of fused kernels; what is recorded is the space."""
    made, model = [], path.stem.split("_")[0]
    for key, results in read_recording(path).studies.items():
        timed = {c: r for c, r in results.items() if isinstance(c, Config) and r.measurement}
        if len(timed) < FEWEST:
            continue
        made.append(
            Recording(
                name=f"ours, {model} M={key.problem.tokens}",
                group=f"ours, {model}",
                rows=tuple(config.as_keys() for config in timed),
                us=np.array([r.measurement.geomean_us for r in timed.values() if r.measurement]),
                complete=np.array([r.outcome is Outcome.OK for r in timed.values()]),
                problem=key.problem,
            )
        )
    return made


def _kernel_tuner(path: Path) -> Recording:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        data = json.load(file)
    entries = list(data["cache"].values())
    times = [e["time"] if isinstance(e["time"], (int, float)) else np.nan for e in entries]
    us = 1e3 * np.array(times, dtype=float)
    rows = tuple({key: entry[key] for key in data["tune_params_keys"]} for entry in entries)
    name = path.name.split(".")[0]
    return Recording(name, name, rows, us, np.isfinite(us))
