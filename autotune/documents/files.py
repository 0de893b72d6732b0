"""The documents of ``export``, ``report``, ``check`` and ``convert``: what is made of a
storage, and what is known of an engine file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from autotune.documents.base import Document, Row
from autotune.documents.rows import FileRow, ResultRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportDocument(Document):
    """Engine files that were written from a storage."""

    schema: ClassVar[str] = "autotune/export/1"
    files: tuple[FileRow, ...]
    results: tuple[ResultRow, ...]
    """What is in them, and how it compares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDocument(Document):
    """A page that was written from a storage."""

    schema: ClassVar[str] = "autotune/report/1"
    page: Path
    """The HTML page."""
    pictures: tuple[Path, ...]
    """The same plots as PNGs."""
    results: tuple[ResultRow, ...]
    """What the page shows; not those of ``--compare``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow(Row):
    """One thing that is wrong or odd."""

    level: Literal["error", "warning"]
    """An ``error``: the engine fails, computes wrongly, or never reads the file."""
    key: str
    """The entry's token count as the file has it; otherwise ``name``, ``folder``, ``file`` or
    ``pair``."""
    message: str
    """What is wrong, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile(Row):
    """What is known of one engine file."""

    path: Path
    """The file that was checked."""
    engine: str
    """``sglang`` or ``vllm``."""
    findings: tuple[FindingRow, ...]
    """Empty where nothing is wrong."""
    env: Mapping[str, Path | None]
    """The engine's environment variable → the value with which it reads the file; null where none
    makes it."""
    reads: Path | None
    """The file that the engine would open for this problem then; null where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDocument(Document):
    """Whether engine files are legal, and found."""

    schema: ClassVar[str] = "autotune/check/1"
    files: tuple[CheckedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertDocument(Document):
    """A file that was made legal for another engine."""

    schema: ClassVar[str] = "autotune/convert/1"
    path: Path
    """The file that was written."""
    changes: tuple[str, ...]
    """Every difference to the source, in sentences."""
    env: Mapping[str, Path | None]
    """The engine's environment variable → the value with which it reads the file; null where none
    makes it."""
