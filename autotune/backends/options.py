"""The settings that a measurer is opened with, beside its selector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MeasurerOptions:
    """Options of which each measurer takes what concerns it: replay the seed, estimate the cache
    and the seed."""

    cache_dir: Path
    """Folder of compile answers; created when first needed."""
    cold_l2: bool = True
    """Empty the L2 cache before every timed launch."""
    topk_ids_dir: Path | None = None
    """The recording that problems may ask for."""
    seed: int = 0
    """Seed of the routing instances and the inputs; of a replay's samples."""
    provider: str = "autotune"
    """Name of the provider whose kernel is measured on a GPU; see ``PROVIDERS``."""
