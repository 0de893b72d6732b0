"""The documents of what a storage holds, and of ``storage check``, ``backup`` and ``upgrade``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from autotune.documents.base import Document
from autotune.documents.rows import CheckRow, ResultRow, StudyRow


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusDocument(Document):
    """How far everything is."""

    schema: ClassVar[str] = "autotune/status/1"
    studies: tuple[StudyRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BestDocument(Document):
    """The winners so far."""

    schema: ClassVar[str] = "autotune/best/1"
    results: tuple[ResultRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageCheckDocument(Document):
    """Whether a storage is sound."""

    schema: ClassVar[str] = "autotune/storage-check/1"
    checks: tuple[CheckRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageBackupDocument(Document):
    """A storage was copied."""

    schema: ClassVar[str] = "autotune/storage-backup/1"
    backup: Path
    """The copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageUpgradeDocument(Document):
    """A storage was brought up to date."""

    schema: ClassVar[str] = "autotune/storage-upgrade/1"
    version: str
    """Of Optuna's tables, as they are now."""
    backup: Path | None
    """The storage as it was; null where nothing was copied, as of a server's database."""
