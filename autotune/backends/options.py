"""What the application tells a measurer beyond its selector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MeasurerOptions:
    """Each measurer takes what concerns it: replay the seed, estimate the cache and the seed."""

    cache_dir: Path
    """Where compile results are kept; created when first needed."""
    cold_l2: bool = True
    """Empty the L2 cache before every timed launch."""
    topk_ids_dir: Path | None = None
    """The recording that problems may ask for."""
    seed: int = 0
    """Of the routing instances and the inputs; of a replay, which samples are drawn."""
    provider: str = "autotune"
    """Whose kernel is measured on a GPU; see ``providers``."""
