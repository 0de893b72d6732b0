"""A finished run of a small recorded landscape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autotune.settings import RunSettings
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import StoredStudy, stored_studies


@dataclass(frozen=True)
class Finished:
    """The files that a run left."""

    storage: str
    artifacts: Path
    settings: RunSettings

    def studies(self) -> list[StoredStudy]:
        return stored_studies(open_storage(self.storage, create=False))
