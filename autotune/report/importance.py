"""Which parameter decides: Optuna's PED-ANOVA for each study."""

from __future__ import annotations

import warnings

import optuna
from optuna.importance import PedAnovaImportanceEvaluator

from autotune.studies.store import StoredStudy

FEWEST = 12
"""Complete trials from which importances are shown: of fewer the good ones are a handful."""
_GOOD = 0.25
"""Share of a study's trials that counts as good. A search measures mostly good configs, and 20 of
them: the evaluator's own tenth would be two."""


def importances(study: StoredStudy) -> dict[str, float]:
    """Parameter → share of what tells good trials from the rest; adds up to 1.

    Empty for studies with fewer than ``FEWEST`` complete trials.
    """
    complete = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    if len(complete) < FEWEST:
        return {}
    copy = optuna.create_study(direction="minimize")
    copy.add_trials(complete)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_GOOD)
        found = optuna.importance.get_param_importances(copy, evaluator=evaluator)
    return dict(found)
