"""The documents of ``doctor``, ``models`` and ``dashboard``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autotune.documents.base import Document, Row
from autotune.documents.lookups import LaunchRow, LookupRow, ServingRow
from autotune.documents.rows import CheckRow


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorDocument(Document):
    """What this machine has, and with ``--model`` what engines open and launch on it."""

    schema: ClassVar[str] = "autotune/doctor/1"
    checks: tuple[CheckRow, ...]
    device: str | None
    """``cuda:``, ``estimate:`` or ``replay:`` and the GPU's name; null without ``--model``."""
    triton: str | None
    """The version of Triton; null without ``--model``."""
    lookups: tuple[LookupRow, ...]
    """Where engines look for the model's files, as the environment is; empty without
    ``--model``."""
    serving: tuple[ServingRow, ...]
    """Whether engines open them where they serve; empty without ``--model``."""
    launches: tuple[LaunchRow, ...]
    """What they launch at each batch size; empty without ``--model``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRow(Row):
    """A model of the built-in catalogue, before any split."""

    model: str
    """Its name on the Hugging Face Hub."""
    E: int
    """Experts of a layer."""
    top_k: int
    """Experts that each token goes to."""
    H: int
    """Hidden size."""
    intermediate: int
    """Intermediate size of one expert."""
    dtype: str
    """What ``--dtype auto`` takes; the checkpoint's own word where no kernel has it."""
    block_shape: tuple[int, ...] | None
    """Rows and columns that share a scale; null where scales are of another kind."""
    architecture: str
    """The class in the model's config.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsDocument(Document):
    """The built-in catalogue."""

    schema: ClassVar[str] = "autotune/models/1"
    models: tuple[CatalogueRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardDocument(Document):
    """Where optuna-dashboard listens, until Ctrl-C."""

    schema: ClassVar[str] = "autotune/dashboard/1"
    url: str
    """The address to open."""
