"""The folder of trials' pictures for the dashboard, and hanging one on a trial."""

from __future__ import annotations

import io
import json
import uuid
from pathlib import Path

from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage

from autotune.studies.storage.url import ServerAddress, parse_address

_PREFIX = "dashboard:artifacts:"
"""Study attributes in which optuna-dashboard looks for artifacts of trials that have ended:
Optuna's own ``upload_artifact`` writes into the trial, and refuses one that has ended."""
_NAME = "study.png"


def artifact_folder(storage: str) -> Path:
    """Return the folder beside a file's storage, or in the current folder; nothing is made."""
    address = parse_address(storage)
    if isinstance(address, ServerAddress):
        return Path("autotune.artifacts")
    return address.path.with_suffix(".artifacts")


def open_artifacts(folder: Path) -> FileSystemArtifactStore:
    """Open the folder, which is made. Raises OSError where it cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def has_picture(folder: Path, study_name: str) -> bool:
    """Return whether the folder has the study's picture."""
    return (folder / _artifact_id(study_name)).exists()


def _artifact_id(study_name: str) -> str:
    """Return always the same for a study: its picture is replaced in its file."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"autotune {study_name}"))


def hang_picture(
    png: bytes, folder: Path, storage: BaseStorage, study_id: int, trial_id: int
) -> str:
    """Give the trial the study's picture, and take it from the one that was best before.

    Returns its path on the dashboard's server. Raises OSError where it cannot be written.
    """
    attrs = storage.get_study_system_attrs(study_id)
    name = storage.get_study_name_from_id(study_id)
    artifact_id = _artifact_id(name)
    open_artifacts(folder).write(artifact_id, io.BytesIO(png))
    own = f"{_PREFIX}{trial_id}:{artifact_id}"
    for key in attrs:
        if key.startswith(_PREFIX) and key.endswith(artifact_id) and key != own:
            storage.set_study_system_attr(study_id, key, json.dumps(None))
    meta = {"artifact_id": artifact_id, "filename": _NAME, "mimetype": "image/png"}
    storage.set_study_system_attr(study_id, own, json.dumps({**meta, "encoding": None}))
    return f"/artifacts/{study_id}/{trial_id}/{artifact_id}"
