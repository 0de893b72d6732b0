"""Optuna's private tables that are read and written here; their columns are its schema's."""

from __future__ import annotations

from typing import Any

from optuna.storages._rdb import models

STUDY: Any = models.StudyModel.__table__
STUDY_ATTR: Any = models.StudyUserAttributeModel.__table__
TRIAL: Any = models.TrialModel.__table__
VALUE: Any = models.TrialValueModel.__table__
PARAM: Any = models.TrialParamModel.__table__
ATTR: Any = models.TrialUserAttributeModel.__table__
SYSTEM: Any = models.TrialSystemAttributeModel.__table__
STEP: Any = models.TrialIntermediateValueModel.__table__
