"""What the application tells a measurer beyond its selector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MeasurerOptions:
    """Each measurer takes what concerns it: replay nothing, estimate the cache and the seed."""

    cache_dir: Path
    """Where compile results are kept; created when first needed."""
    cold_l2: bool = True
    """Empty the L2 cache before every timed launch."""
    seed: int = 0
    """Of the routing instances and the inputs."""
    provider: str = "autotune"
    """Whose kernel is measured on a GPU; see ``providers``."""
