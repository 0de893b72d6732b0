"""The document of whatever did not work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autotune.documents.base import Document
from autotune.errors import ErrorKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDocument(Document):
    """Why a command did not work: one line, the last on stdout."""

    schema: ClassVar[str] = "autotune/error/1"
    kind: ErrorKind
    """What it is about. ``usage``: flags that cannot work. ``not_served``: an engine refuses the
    model as it is split. ``storage_missing``: nobody made it yet. ``storage_failed`` and
    ``storage_lost``: in the middle of the work. ``file``: a path that nothing can be done with, or
    a full disk. ``bug``: of this package, with a traceback on stderr. The others say it. Kinds may
    be added."""
    message: str
    """What came, what is allowed and what to try, as on stderr; without passwords."""
    exit_code: int
    """The code that the process ends with."""
