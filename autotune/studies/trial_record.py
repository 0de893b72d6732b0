"""What we keep in a study beside Optuna's own fields, and reading it back.

Trial user attributes (shown and filtered by the dashboard): ``outcome``, ``source`` (who proposed
a warm start), ``speedup`` over the engine's default, ``samples_us``, ``routings`` (how many they
are of, in turn; left out for one), for a pair also ``up_us`` and ``down_us`` (whose sums they
are) and ``failed_half``, ``registers``, ``spill_bytes``, ``shared_bytes``,
``blocks_per_sm``, ``compile_s``, ``verify_s``, ``measure_s``, ``ahead_s``, ``reason``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from autotune.spec.config import DOWN, UP, AnyConfig, Config, ConfigPair, config_from_keys
from autotune.studies.outcome import Outcome

MEASURED = (TrialState.COMPLETE, TrialState.PRUNED)
_ALWAYS = frozenset(
    ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages")
)
"""Parameters of every config. Optuna writes those with one choice before it samples the rest."""
_ALWAYS_OF_PAIR = frozenset(
    key if key == "BLOCK_SIZE_M" else prefix + key for key in _ALWAYS for prefix in (UP, DOWN)
)
_INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Measured:
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
    """As of a ``Measurement``."""


def config_of(trial: FrozenTrial) -> AnyConfig | None:
    """The trial's config or pair; None while its parameters are still being written."""
    if trial.params.keys() >= _ALWAYS:
        return Config.from_keys(trial.params)
    if trial.params.keys() >= _ALWAYS_OF_PAIR:
        return ConfigPair.from_keys(trial.params)
    return None


def asked_config(trial: FrozenTrial) -> AnyConfig | None:
    """As ``config_of``, and of a queued trial what it will be asked for."""
    if trial.state == TrialState.WAITING:
        return config_from_keys(trial.system_attrs["fixed_params"])
    return config_of(trial)


def taken_configs(trials: Iterable[FrozenTrial]) -> set[AnyConfig]:
    """Configs that must not be asked again: measured, failed for a reason, in work, or queued.

    A trial that was interrupted takes nothing: its config is still worth measuring.
    """
    return {config for trial in trials if (config := _taken(trial)) is not None}


def _taken(trial: FrozenTrial) -> AnyConfig | None:
    if trial.state == TrialState.FAIL and "outcome" not in trial.user_attrs:
        return None
    return asked_config(trial)


def measured(trials: Iterable[FrozenTrial]) -> list[Measured]:
    """Every trial that brought samples, in order of trial number."""
    return [entry for trial in trials if (entry := _measured(trial)) is not None]


def outcome_counts(trials: Iterable[FrozenTrial]) -> dict[str, int]:
    """Outcome (or Optuna state, where there is none) → number of trials."""
    counts: dict[str, int] = {}
    for trial in trials:
        word = outcome_word(trial.state, trial.user_attrs.get("outcome"))
        counts[word] = counts.get(word, 0) + 1
    return counts


def outcome_word(state: TrialState, outcome: str | None) -> str:
    """What became of a trial, in one word; of one that says nothing, its state."""
    if outcome is not None:
        return outcome
    return _INTERRUPTED if state == TrialState.FAIL else state.name.lower()


def _measured(trial: FrozenTrial) -> Measured | None:
    config, attrs = config_of(trial), trial.user_attrs
    samples = attrs.get("samples_us")
    if trial.state not in MEASURED or config is None or not samples or trial.value is None:
        return None
    ok = attrs.get("outcome") == Outcome.OK.value
    halves = tuple(attrs.get("up_us", ())), tuple(attrs.get("down_us", ()))
    kinds = attrs.get("routings", 1)
    return Measured(config, tuple(samples), trial.value, trial.number, ok, *halves, kinds)
