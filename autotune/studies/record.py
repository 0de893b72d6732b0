"""What we keep in a study beside Optuna's own fields, and reading it back.

Trial user attributes (shown and filtered by the dashboard): ``outcome``, ``source`` (who proposed
a warm start), ``speedup`` over the engine's default, ``samples_us``, ``registers``,
``spill_bytes``, ``shared_bytes``, ``compile_s``, ``reason``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from autotune.kernels.config import Config
from autotune.studies.outcome import Outcome

MEASURED = (TrialState.COMPLETE, TrialState.PRUNED)
_ALWAYS = frozenset(
    ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages")
)
"""Parameters of every config. Optuna writes those with one choice before it samples the rest."""
_INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Measured:
    """One config of a study with its samples, as the storage has them."""

    config: Config
    samples_us: tuple[float, ...]
    median_us: float
    trial_number: int
    complete: bool
    """False where the trial was pruned: its samples are few, and it cannot win."""


def config_of(trial: FrozenTrial) -> Config | None:
    """The trial's config; None while its parameters are still being written."""
    return Config.from_keys(trial.params) if trial.params.keys() >= _ALWAYS else None


def taken_configs(trials: Iterable[FrozenTrial]) -> set[Config]:
    """Configs that must not be asked again: measured, failed for a reason, in work, or queued.

    A trial that was interrupted takes nothing: its config is still worth measuring.
    """
    return {config for trial in trials if (config := _taken(trial)) is not None}


def _taken(trial: FrozenTrial) -> Config | None:
    if trial.state == TrialState.WAITING:
        return Config.from_keys(trial.system_attrs["fixed_params"])
    if trial.state == TrialState.FAIL and "outcome" not in trial.user_attrs:
        return None
    return config_of(trial)


def measured(trials: Iterable[FrozenTrial]) -> list[Measured]:
    """Every trial that brought samples, in order of trial number."""
    return [entry for trial in trials if (entry := _measured(trial)) is not None]


def outcome_counts(trials: Iterable[FrozenTrial]) -> dict[str, int]:
    """Outcome (or Optuna state, where there is none) → number of trials."""
    counts: dict[str, int] = {}
    for trial in trials:
        word = str(trial.user_attrs.get("outcome", _without_outcome(trial.state)))
        counts[word] = counts.get(word, 0) + 1
    return counts


def _without_outcome(state: TrialState) -> str:
    return _INTERRUPTED if state == TrialState.FAIL else state.name.lower()


def _measured(trial: FrozenTrial) -> Measured | None:
    config = config_of(trial)
    samples = trial.user_attrs.get("samples_us")
    if trial.state not in MEASURED or config is None or not samples or trial.value is None:
        return None
    ok = trial.user_attrs.get("outcome") == Outcome.OK.value
    return Measured(config, tuple(samples), trial.value, trial.number, ok)
