"""Small typed functions by which the rest of autotune reaches what Optuna keeps private."""

from __future__ import annotations

from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, Trial

from autotune.studies.storage.journal import JournalTransactions
from autotune.studies.storage.rdb_transactions import RdbTransactions
from autotune.studies.storage.transactions import TrialTransactions


def storage_of(study: Study) -> BaseStorage:
    """Return the storage that a study lies in."""
    return study._storage


def study_id_of(study: Study | FrozenStudy) -> int:
    """Return the study's id in its storage."""
    return study._study_id


def trial_id_of(trial: FrozenTrial | Trial) -> int:
    """Return the trial's id in its storage; its ``number`` counts within the study."""
    return trial._trial_id


def transactions_of(study: Study) -> TrialTransactions:
    """Return the writer into the study's storage: by SQL into a database, else by plain calls."""
    storage = study._storage
    database = getattr(storage, "_backend", storage)  # Optuna puts a cache before a database
    if isinstance(database, RDBStorage):
        return RdbTransactions(database)
    return JournalTransactions(storage)
