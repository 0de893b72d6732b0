"""A trial's user attributes in the storage: their names, writing them, and reading them back.

The dashboard shows and filters them. Nothing else in the tree spells one of these names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from autotune.spec.config import DOWN, UP, AnyConfig, config_from_keys
from autotune.spec.ranges import LAUNCHES, Range
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.space import SearchSpace
from autotune.studies.storage.protocol import FIXED, Asked, TrialEnd

OUTCOME = "outcome"
"""An ``Outcome``; missing while a trial is in work, and after an interruption."""
SOURCE = "source"
"""Proposer of a queued trial, in words."""
SPEEDUP = "speedup"
"""Time of the engine's default over the trial's."""
SAMPLES_US = "samples_us"
"""Samples in µs, rounded to a nanosecond; a pair's are the sums of ``HALF_US``."""
HALF_US = {"up": "up_us", "down": "down_us"}
"""Samples of each GEMM of a pair."""
ROUTINGS = "routings"
"""Number of routings that the samples take in turn; missing for one."""
FAILED_HALF = "failed_half"
"""GEMM of a pair that the failure is about, "up" or "down"."""
REASON = "reason"
"""Why there is no complete measurement, in words."""
DEATHS = "deaths"
"""Measuring processes that the trial cost."""
PHASES_S = ("compile_s", "verify_s", "measure_s", "ahead_s")
"""Seconds of each phase, see ``TrialResult``; missing where 0."""
_RESOURCES = ("registers", "spill_bytes", "shared_bytes")
"""Fields of ``Resources``."""
_BLOCKS_PER_SM = "blocks_per_sm"

MEASURED = (TrialState.COMPLETE, TrialState.PRUNED)
_STATE = {Outcome.OK: TrialState.COMPLETE, Outcome.PRUNED: TrialState.PRUNED}
_NO_FAILURE = (None, Outcome.OK.value, Outcome.PRUNED.value)
_ALWAYS = frozenset(
    ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages")
)
"""Parameters of every config. Optuna writes those with one choice before it samples the rest."""
_ALWAYS_OF_PAIR = frozenset(
    key if key == "BLOCK_SIZE_M" else prefix + key for key in _ALWAYS for prefix in (UP, DOWN)
)
_INTERRUPTED = "interrupted"
_TIMES = Range(1e-6, 1e12, is_real=True)
"""µs that may be believed."""
ROUTINGS_RANGE = Range(1, 1000)
_NUMBERS = Range(0, LAUNCHES.most)
"""Of a launch; 0 where an AMD key takes it."""


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One config of a study with its samples, as the storage has them."""

    config: AnyConfig
    samples_us: tuple[float, ...]
    geomean_us: float
    trial_number: int
    complete: bool
    """False where the trial was pruned: its samples are few, and it cannot win."""
    up_us: tuple[float, ...] = ()
    """A pair's up GEMM alone; empty for a config of both."""
    down_us: tuple[float, ...] = ()
    routings: int = 1
    """Number of routings, see ``Measurement``."""


def _attributes(
    result: TrialResult, default_us: float | None, deaths: int = 0
) -> dict[str, object]:
    """Return the attributes of a trial with this result. The speed-up is over ``default_us``."""
    attributes: dict[str, object] = {OUTCOME: result.outcome.value}
    if (measurement := result.measurement) is not None:
        attributes[SAMPLES_US] = _rounded(measurement.samples_us)
        for name in HALF_US.values():
            if samples := getattr(measurement, name):
                attributes[name] = _rounded(samples)
        if measurement.routings > 1:
            attributes[ROUTINGS] = measurement.routings
        if default_us is not None:
            attributes[SPEEDUP] = round(default_us / measurement.geomean_us, 4)
    if result.resources is not None:
        attributes |= {name: getattr(result.resources, name) for name in _RESOURCES}
    if result.blocks_per_sm is not None:
        attributes[_BLOCKS_PER_SM] = result.blocks_per_sm
    if result.failed_half:
        attributes[FAILED_HALF] = result.failed_half
    for name in PHASES_S:
        if seconds := getattr(result, name):
            attributes[name] = round(seconds, 3)
    if result.reason:
        attributes[REASON] = result.reason
    if deaths:
        attributes[DEATHS] = deaths
    return attributes


def ending(
    asked: Asked, result: TrialResult, default_us: float | None, *, deaths: int = 0
) -> TrialEnd:
    """Return what a result means to its trial. OK completes with the geometric mean in µs, PRUNED
    keeps what was measured, and everything else fails with its reason. ``deaths`` counts the
    measuring processes that this trial cost."""
    value = result.measurement.geomean_us if result.measurement else None
    attributes = _attributes(result, default_us, deaths)
    state = TrialState.FAIL if value is None else _STATE.get(result.outcome, TrialState.FAIL)
    return TrialEnd(asked.trial_id, state, value, attributes)


def record_of(asked: Asked, result: TrialResult) -> TrialRecord | None:
    """Return what ``measured`` will read of a trial with this result, before it is written; None
    if it brought no samples."""
    measurement = result.measurement
    if result.outcome not in _STATE or not measurement or not measurement.samples_us:
        return None
    return TrialRecord(
        asked.config,
        tuple(_rounded(measurement.samples_us)),
        measurement.geomean_us,
        asked.number,
        result.outcome is Outcome.OK,
        tuple(_rounded(measurement.up_us)),
        tuple(_rounded(measurement.down_us)),
        measurement.routings,
    )


def distributions(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    """Return engine key → Optuna distribution; constant for a study, whose key holds the space's
    fingerprint."""
    return {key: CategoricalDistribution(values) for key, values in space.knobs.items()}


def config_of(trial: FrozenTrial) -> AnyConfig | None:
    """The trial's config or pair; None while its parameters are still being written, and where
    they are no config's."""
    return config_of_params(trial.params)


def config_of_params(params: Mapping[str, Any]) -> AnyConfig | None:
    """Return the config or pair of a trial's parameters; None where they are not, or not yet, of
    any."""
    if not (params.keys() >= _ALWAYS or params.keys() >= _ALWAYS_OF_PAIR):
        return None
    try:
        config = config_from_keys(params)
    except (KeyError, TypeError, ValueError):
        return None
    return config if is_launch(config) else None


def is_launch(config: AnyConfig) -> bool:
    """True where every number of it is one of a launch."""
    return all(isinstance(n, bool) or n in _NUMBERS for n in config.as_keys().values())


def asked_config(trial: FrozenTrial) -> AnyConfig | None:
    """Return the trial's config, or that of a queued trial, which has no parameters yet."""
    if trial.state == TrialState.WAITING:
        queued = trial.system_attrs.get(FIXED)
        return config_of_params(queued) if isinstance(queued, dict) else None
    return config_of(trial)


def is_interrupted(trial: FrozenTrial) -> bool:
    """Return True if a trial ended without a result. In a journal its worker may have died between
    writing the outcome of a measurement and the state that belongs to it."""
    return trial.state == TrialState.FAIL and trial.user_attrs.get(OUTCOME) in _NO_FAILURE


def taken_configs(trials: Iterable[FrozenTrial]) -> set[AnyConfig]:
    """Configs that must not be asked again: measured, failed for a reason, in work, or queued.

    A trial that was interrupted takes nothing: its config is still worth measuring.
    """
    return {config for trial in trials if (config := _taken(trial)) is not None}


def _taken(trial: FrozenTrial) -> AnyConfig | None:
    return None if is_interrupted(trial) else asked_config(trial)


def measured(trials: Iterable[FrozenTrial]) -> list[TrialRecord]:
    """Every trial that brought samples, in order of trial number."""
    return [entry for trial in trials if (entry := _measured(trial)) is not None]


def fastest_first(entries: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the complete entries, sorted by time."""
    return sorted((e for e in entries if e.complete), key=lambda entry: entry.geomean_us)


def best_of(entries: Iterable[TrialRecord]) -> TrialRecord | None:
    """Return the fastest complete entry; None where none is complete."""
    complete = (entry for entry in entries if entry.complete)
    return min(complete, key=lambda entry: entry.geomean_us, default=None)


def outcome_counts(trials: Iterable[FrozenTrial]) -> dict[str, int]:
    """Outcome (or Optuna state, where there is none) → number of trials."""
    return Counter(
        outcome_word(trial.state, None if is_interrupted(trial) else trial.user_attrs.get(OUTCOME))
        for trial in trials
    )


def outcome_word(state: TrialState, outcome: object) -> str:
    """Return in one word what became of a trial: its outcome, else its state."""
    if isinstance(outcome, str):
        return outcome
    return _INTERRUPTED if state == TrialState.FAIL else state.name.lower()


def _measured(trial: FrozenTrial) -> TrialRecord | None:
    if trial.state not in MEASURED:
        return None
    return record_from(config_of(trial), trial.user_attrs, trial.value, trial.number)


def record_from(
    config: AnyConfig | None, attrs: Mapping[str, Any], value: float | None, number: int
) -> TrialRecord | None:
    """Return what a measured trial brought; None where it is not whole, or was damaged since."""
    samples = attrs.get(SAMPLES_US)
    routings = attrs.get(ROUTINGS, 1)
    if (
        config is None
        or not samples
        or value is None
        or not are_times([value])
        or routings not in ROUTINGS_RANGE
    ):
        return None
    columns = [samples, *(attrs.get(name, []) for name in HALF_US.values())]
    if not all(isinstance(us, list) and are_times(us) for us in (*columns, [value])):
        return None
    is_complete = attrs.get(OUTCOME) == Outcome.OK.value
    us, up_us, down_us = map(tuple, columns)
    return TrialRecord(config, us, value, number, is_complete, up_us, down_us, routings)


def are_times(values: Iterable[object]) -> bool:
    """True where all are times in µs that may be believed."""
    return all(value in _TIMES for value in values)


def _rounded(samples: Iterable[float]) -> list[float]:
    return [round(us, 3) for us in samples]
