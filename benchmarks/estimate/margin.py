"""What an estimated run writes, against each engine's default: with and without a margin.

For every recorded batch size (SGLang's kernel and ours with one config for both GEMMs, SGLang's
with one for each) the model times all configs, resources compiled, and ``tuning/engine_output``
chooses, as for a run that has tried them all. Shares are optimum / time, as recorded. "First" is
the model's first choice; "written" is with the margin of ``autotune/backends/estimate/margin.py``
over the default, from errors found on the other models' recordings alone: DeepSeek's, the only
ones of their dtype, are judged with the error of the unknown. Then the means, with margins of
other certainties beside, and the errors found on all.

    python benchmarks/estimate/margin.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from halves import Case, ours, sglangs
from judge import (
    BINARIES,
    CASES,
    DEFAULT_LANDSCAPES,
    HERE,
    NEVER,
    SMALLEST_TILE,
    SPEC,
    compiled_resources,
    read_gemm_times,
)

from autotune.backends.estimate.margin import CERTAINTY, Group, margin
from autotune.backends.estimate.measurer import EstimateMeasurer
from autotune.backends.estimate.model import gemms_us, model_us
from autotune.backends.protocol import INSTANCES
from autotune.backends.routed_rows import routed_rows
from autotune.engines import ENGINES, Engine
from autotune.spec.arrays import Floats
from autotune.spec.binary import BOTH
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.measurement import typical_us
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.pairs import completed_as_asked
from autotune.studies.trial_record import TrialRecord
from autotune.tuning import engine_output
from autotune.tuning.jobs import Incumbent, Origin

OURS = HERE.parent / "landscapes"
FAST = 1.5
"""Times the best's time: among these a run chooses. Of a config that is slower still the model need
not know by how much."""
CERTAINTIES = (0.5, 0.75, 0.84, 0.9, 0.95, 0.99)
"""0.5 is no margin."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The configs of one batch size that compile."""

    label: str
    problem: Problem
    configs: Sequence[AnyConfig]
    us: Floats
    """As recorded, [config]; NaN for what failed or was stopped."""
    best_us: float
    modelled_us: Floats
    """[instance of the routing, config]"""
    engines: Sequence[Engine]

    @property
    def model(self) -> tuple[int, int]:
        """What tells models apart."""
        return self.problem.hidden, self.problem.intermediate


@dataclass(frozen=True, slots=True)
class Written:
    """What one engine's file gets, and what the engine launches without it."""

    share: float
    default_share: float

    @property
    def gain(self) -> float:
        return self.share / self.default_share - 1


def recordings() -> list[Recording]:
    files = sorted(file for file in OURS.glob("*.npz") if "separate" not in file.stem)
    return [
        *(_fused("SGLang's", case, whole_layer=False) for case in sglangs(DEFAULT_LANDSCAPES)),
        *(_fused("ours", case, whole_layer=True) for case in ours(files)),
        *_separate(DEFAULT_LANDSCAPES),
    ]


def error_of(recording: Recording) -> float:
    """Standard deviation of log(recorded / modelled) over the fast configs."""
    fast = recording.us <= FAST * np.nanmin(recording.us)
    logs = np.log(recording.us[fast]) - np.log(recording.modelled_us[:, fast]).mean(axis=0)
    return float(logs.std())


def errors_of(found: Iterable[Recording]) -> tuple[dict[Group, float], float]:
    """Return the error of each group, and the largest of a single recording, of the fused kernels:
    the pairs' times are of the same recordings."""
    groups: dict[Group, list[float]] = {}
    for recording in found:
        if recording.problem.kernel is KernelMode.FUSED:
            groups.setdefault(Group.of(recording.problem), []).append(error_of(recording))
    pooled = {group: math.hypot(*each) / math.sqrt(len(each)) for group, each in groups.items()}
    return pooled, max(error for each in groups.values() for error in each)


def margin_for(recording: Recording, found: Iterable[Recording], certainty: float) -> float:
    """Return the margin that other models' recordings give."""
    errors, unknown = errors_of(other for other in found if other.model != recording.model)
    return margin(errors.get(Group.of(recording.problem), unknown), certainty)


def written(recording: Recording, engine: Engine, least_gain: float) -> Written:
    """Let the product choose, as for a run that has tried all configs."""
    problem, device = recording.problem, EstimateMeasurer(SPEC, cache_dir=HERE).device
    default = completed_as_asked(problem, device, engine.default_config(problem, device))
    samples = recording.modelled_us.T.tolist()
    entries = tuple(
        TrialRecord(config, tuple(us), typical_us(us), number, True)
        for number, (config, us) in enumerate(zip(recording.configs, samples, strict=True))
    )
    incumbents = (Incumbent(engine.name, Origin.DEFAULT, default),)
    result = engine_output.Result(engine, problem, device, entries, incumbents)
    with mock.patch.object(engine_output, "margin_of", lambda problem, target: least_gain):
        config = result.config
    shares = dict(zip(recording.configs, _shares(recording), strict=True))
    return Written(shares[config], shares[default])


def _shares(recording: Recording) -> list[float]:
    """0 for what failed or was stopped."""
    return [float(share) for share in np.nan_to_num(recording.best_us / recording.us)]


def _fused(label: str, case: Case, *, whole_layer: bool) -> Recording:
    kept = [
        i
        for i, (config, found) in enumerate(zip(case.configs, case.resources, strict=True))
        if found is not NEVER and config.block_size_m >= SMALLEST_TILE
    ]
    configs, resources = [case.configs[i] for i in kept], [case.resources[i] for i in kept]
    routings = [routed_rows(case.problem, instance, 0) for instance in range(INSTANCES)]
    if whole_layer:
        modelled = model_us(case.problem, configs, SPEC, routings, resources)
    else:
        both = dict.fromkeys(BOTH, resources)
        modelled = gemms_us(case.problem, configs, SPEC, routings, both).sum(axis=1)
    us = case.us[kept]
    return Recording(
        label, case.problem, configs, us, float(np.nanmin(us)), modelled, [*ENGINES.values()]
    )


def _separate(folder: Path) -> list[Recording]:
    """Pairs that SGLang's recordings allow: of twice the same config, and for each BLOCK_SIZE_M the
    one that the model puts first of all. The best is of all pairs."""
    binaries = json.loads(BINARIES.read_text())
    found = []
    for case in CASES:
        times = read_gemm_times(folder / case.file)
        resources = compiled_resources(case, times.configs, binaries)
        rows = [
            row
            for row, config in enumerate(times.configs)
            if resources[row] is not NEVER and config.block_size_m >= SMALLEST_TILE
        ]
        configs = [times.configs[row] for row in rows]
        both = dict.fromkeys(BOTH, tuple(resources[row] for row in rows))
        for tokens in times.batch_sizes:
            problem = replace(case.problem, tokens=tokens, kernel=KernelMode.SEPARATE)
            routings = [routed_rows(problem, instance, 0) for instance in range(INSTANCES)]
            modelled = gemms_us(problem, configs, SPEC, routings, both)
            us = np.median(times.gemm_us[tokens][rows], axis=2)
            found.append(_pairs(problem, configs, us, modelled))
    return found


def _pairs(problem: Problem, configs: Sequence[Config], us: Floats, modelled: Floats) -> Recording:
    """``us`` are [config, half], ``modelled`` [instance, half, config]."""
    device = EstimateMeasurer(SPEC, cache_dir=HERE).device
    heights = np.array([config.block_size_m for config in configs])
    typical = np.log(modelled).mean(axis=0)
    pairs = {(row, row) for row in range(len(configs))}
    best_us = math.inf
    for height in set(heights):
        of_height = np.flatnonzero(heights == height)
        up, down = (int(of_height[typical[half, of_height].argmin()]) for half in (0, 1))
        pairs.add((up, down))
        if np.isfinite(us[of_height]).any(axis=0).all():
            best_us = min(best_us, float(np.nanmin(us[of_height], axis=0).sum()))
    ups, downs = np.array(sorted(pairs)).T
    return Recording(
        "SGLang's, separate",
        problem,
        [
            completed_as_asked(problem, device, ConfigPair(configs[up], configs[down]))
            for up, down in zip(ups, downs, strict=True)
        ],
        us[ups, 0] + us[downs, 1],
        best_us,
        modelled[:, 0, ups] + modelled[:, 1, downs],
        [ENGINES["sglang"]],
    )


Row = tuple[Recording, Engine]


def print_rows(rows: Sequence[Row], found: Sequence[Recording]) -> None:
    print("| recording | E | M | engine | default | first | margin | written | over the default |")
    print("|---|---|---|---|---|---|---|---|---|")
    for recording, engine in rows:
        least_gain = margin_for(recording, found, CERTAINTY)
        first, kept = (written(recording, engine, each) for each in (0.0, least_gain))
        print(
            f"| {recording.label} | {recording.problem.experts} | {recording.problem.tokens} "
            f"| {engine.name} | {kept.default_share:.3f} | {first.share:.3f} | {least_gain:.1%} "
            f"| {kept.share:.3f} | {kept.gain:+.1%} |"
        )


def print_means(rows: Sequence[Row], found: Sequence[Recording]) -> None:
    """For each certainty and engine: the mean share of the default and of what is written, the
    least and the mean of its gain over the default, and how many defaults stay."""
    print("\n| certainty | engine | default | written | least gain | mean gain | defaults kept |")
    print("|---|---|---|---|---|---|---|")
    for certainty in CERTAINTIES:
        for name in ENGINES:
            each = [
                written(recording, engine, margin_for(recording, found, certainty))
                for recording, engine in rows
                if engine.name == name
            ]
            gains = [one.gain for one in each]
            print(
                f"| {certainty} | {name} | {np.mean([one.default_share for one in each]):.3f} "
                f"| {np.mean([one.share for one in each]):.3f} | {min(gains):+.1%} "
                f"| {np.mean(gains):+.1%} | {sum(not gain for gain in gains)} of {len(each)} |"
            )


def print_errors(errors: Mapping[Group, float], unknown: float) -> None:
    print("\n| dtype | scales | rows of an expert | error | margin |\n|---|---|---|---|---|")
    for group, error in errors.items():
        rows = "few" if group.is_few else "more"
        print(
            f"| {group.dtype.value} | {group.scales.name} | {rows} | {error:.3f} "
            f"| {margin(error):.1%} |"
        )
    print(f"| unknown | | | {unknown:.3f} | {margin(unknown):.1%} |")


def main() -> None:
    found = recordings()
    rows = [(recording, engine) for recording in found for engine in recording.engines]
    print_rows(rows, found)
    print_means(rows, found)
    print_errors(*errors_of(found))


if __name__ == "__main__":
    main()
