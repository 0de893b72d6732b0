"""Which parameter decides: Optuna's PED-ANOVA for each study."""

from __future__ import annotations

import warnings

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import create_trial

from autotune.studies.study_record import StoredStudy
from autotune.studies.trial_record import MEASURED

FEWEST = 12
"""Measured trials from which importances are shown: of fewer the good ones are a handful."""
_GOOD = 0.25
"""Share of a study's trials that counts as good. A search measures mostly good configs, and 20 of
them: the evaluator's own tenth would be two."""


def importances(study: StoredStudy) -> dict[str, float]:
    """Parameter → share of what tells good trials from the rest; adds up to 1.

    Pruned trials count: what they are told is comparable. Empty for studies with fewer than
    ``FEWEST`` measured trials.
    """
    measured = [t for t in study.trials if t.state in MEASURED and t.value is not None]
    if len(measured) < FEWEST:
        return {}
    copy = optuna.create_study(direction="minimize")
    copy.add_trials(
        create_trial(params=t.params, distributions=t.distributions, value=t.value)
        for t in measured  # the evaluator looks at complete trials alone
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_GOOD)
        found = optuna.importance.get_param_importances(copy, evaluator=evaluator)
    return dict(found)
