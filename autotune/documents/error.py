"""The document of whatever did not work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from autotune.documents.base import Document

ErrorKind: TypeAlias = Literal[
    "usage",
    "not_served",
    "model",
    "device",
    "extra_missing",
    "storage",
    "storage_missing",
    "storage_failed",
    "storage_lost",
    "engine_file",
    "provider",
    "provider_missing",
    "file",
    "interrupted",
]
"""``usage``: flags that cannot work. ``not_served``: an engine refuses the model as it is split.
``extra_missing``: a package that is not installed, and that an extra brings.
``storage_missing``: nobody made it yet. ``storage_failed``, ``storage_lost``: in the middle of the
work. ``file``: a path that nothing can be done with, or a full disk. The others: what is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDocument(Document):
    """Why a command did not work. On a line of its own, after what was printed before."""

    schema: ClassVar[str] = "autotune/error/1"
    kind: ErrorKind
    """What it is about; kinds may be added."""
    message: str
    """What came, what is allowed and what to try, as on stderr; without passwords."""
    exit_code: int
    """The code that the command ends with."""
