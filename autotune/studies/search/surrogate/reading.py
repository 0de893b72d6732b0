"""From Optuna trials to what is known of the candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from autotune.studies.search.surrogate.candidates import Candidates
from autotune.studies.search.surrogate.observations import Observed
from autotune.studies.trial_record import MEASURED, OUTCOME


def observed_of(candidates: Candidates, trials: Iterable[FrozenTrial]) -> Observed:
    """Later trials of one row win over earlier ones, and a measurement over all else. Trials that
    failed without an ``outcome`` were interrupted and say nothing."""
    times: dict[int, tuple[float, bool]] = {}
    failed: set[int] = set()
    pending: set[int] = set()
    for trial in trials:
        row = candidates.index(_params(candidates, trial))
        if row is None:
            continue
        if trial.state in MEASURED and trial.value is not None and trial.value > 0:
            times[row] = (trial.value, trial.state == TrialState.COMPLETE)
        elif trial.state in (TrialState.RUNNING, TrialState.WAITING):
            pending.add(row)
        elif trial.state != TrialState.FAIL or OUTCOME in trial.user_attrs:
            failed.add(row)
    return Observed(
        measured=np.array(list(times), dtype=np.int64),
        us=np.array([us for us, _ in times.values()], dtype=float),
        complete=np.array([complete for _, complete in times.values()], dtype=bool),
        failed=np.array(sorted(failed - times.keys()), dtype=np.int64),
        pending=np.array(sorted(pending - failed - times.keys()), dtype=np.int64),
    )


def is_asking(candidates: Candidates, trial: FrozenTrial) -> bool:
    """True while another process looks for that trial's parameters, or writes them."""
    return trial.state == TrialState.RUNNING and not _params(candidates, trial)


def _params(candidates: Candidates, trial: FrozenTrial) -> Mapping[str, Any]:
    """What it was asked for, also where it is queued or its parameters are being written; empty
    where that is not known."""
    if candidates.distributions.keys() <= trial.params.keys():
        return trial.params
    queued: Mapping[str, Any] = trial.system_attrs.get("fixed_params", {})
    return queued
