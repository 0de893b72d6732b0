"""The studies that samplers may learn from: those of this run as they grow, others as stored."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.storages import BaseStorage, RDBStorage

from autotune.studies.search.history import Known
from autotune.studies.storage.summaries import measured_studies
from autotune.studies.study_record import stored_studies
from autotune.tune.tuning_study import TuningStudy


def known_studies(storage: BaseStorage, studies: Sequence[TuningStudy]) -> list[Known]:
    """``studies``, and every other study in the storage as it is now. In a database by a handful of
    queries, however many trials there are."""
    own = {study.key.study_name for study in studies}
    stored: list[Known] = []
    if isinstance(storage, RDBStorage):
        stored += measured_studies(storage.engine)
    else:
        stored += stored_studies(storage)
    return [*(study for study in stored if study.key.study_name not in own), *studies]
