"""Recorded landscapes as one thing: rows of parameters, each with its time.

Recordings of MoE kernels, and Kernel Tuner's tables of other kernels (.json.gz).
"""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.backends.hardware import find_spec
from autotune.backends.replay.recording_format import read_recording
from autotune.engines import ENGINES
from autotune.errors import DeviceError
from autotune.spec.arrays import Floats
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import Problem
from autotune.studies.outcome import Outcome

SGLANGS = Path(__file__).parents[1] / "landscapes" / "sglang"
"""Recordings of SGLang's kernel; those beside this folder are of ours."""
FEWEST = 500
"""Configs from which a recording is raced on."""
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
    """Every recording of ``folder``: name → recording. Foreign .npz files are passed over."""
    moe: list[Recording] = []
    for path in sorted(folder.glob("*.npz")):
        with suppress(DeviceError):
            moe += _fused(path)
    others = [_kernel_tuner(path) for path in sorted(folder.glob("*.json.gz"))]
    return {recording.name: recording for recording in moe + others}


def _fused(path: Path) -> list[Recording]:
    """The studies of the fused kernel; what has a sample is the space."""
    is_sglangs = path.parent.name == SGLANGS.name
    made, model = [], f"{'' if is_sglangs else 'ours, '}{path.stem.split('_')[0]}"
    for key, results in read_recording(path).studies.items():
        timed = {c: r for c, r in results.items() if isinstance(c, Config) and r.measurement}
        if len(timed) < FEWEST:
            continue
        made.append(
            Recording(
                name=f"{model} M={key.problem.tokens}",
                group=model,
                rows=tuple(config.as_keys() for config in timed),
                us=np.array([r.measurement.geomean_us for r in timed.values() if r.measurement]),
                complete=np.array([r.outcome is Outcome.OK for r in timed.values()]),
                problem=as_routed(key.problem) if is_sglangs else key.problem,
            )
        )
    return made


def as_routed(problem: Problem) -> Problem:
    """Return what SGLang's kernel was recorded on: tokens chose the shared expert as any other."""
    return replace(problem, fused_shared_experts=0)


def _kernel_tuner(path: Path) -> Recording:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        data = json.load(file)
    entries = list(data["cache"].values())
    times = [e["time"] if isinstance(e["time"], (int, float)) else np.nan for e in entries]
    us = 1e3 * np.array(times, dtype=float)
    rows = tuple({key: entry[key] for key in data["tune_params_keys"]} for entry in entries)
    name = path.name.split(".")[0]
    return Recording(name, name, rows, us, np.isfinite(us))
