"""The documents of ``capture-routing`` and ``routing-stats``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from autotune.documents.base import Document, Row, digits


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureDocument(Document):
    """Which experts a model chose, recorded."""

    schema: ClassVar[str] = "autotune/capture-routing/1"
    folder: Path
    """Where the recording is."""
    routing: str
    """The recording's name, by its digest."""
    layers: tuple[int, ...]
    """Numbers of the MoE layers."""
    tokens: int
    """Recorded for each layer."""
    top_k: int
    """Experts that each token goes to, fused shared experts among them."""
    files: tuple[Path, ...]
    """Its files."""
    interrupted: bool
    """True where Ctrl-C ended it: what was recorded until then is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRow(Row):
    """How evenly one layer loads its experts."""

    layer: int
    """Its number in the model."""
    tokens: int
    """Recorded for it."""
    busiest_over_mean: float = field(metadata=digits(2))
    """Rows of the busiest expert over the mean."""
    idle_experts: int
    """Experts that no token went to."""
    entropy: float = field(metadata=digits(4))
    """Of the load, over that of an even one: 1 is even."""
    slowest_rank: int | None
    """The rank with the most rows; null without expert parallelism."""
    slowest_over_mean: float | None = field(metadata=digits(3))
    """Its rows over the mean; null likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddingRow(Row):
    """What padding costs at one batch size under one routing."""

    batch_size: int
    """Tokens of one step."""
    routing: str
    """``uniform``, or the recording."""
    factors: Mapping[str, float] = field(metadata=digits(2))
    """BLOCK_SIZE_M → rows after padding over rows before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingStatsDocument(Document):
    """Load and padding of a recorded routing."""

    schema: ClassVar[str] = "autotune/routing-stats/1"
    routing: str
    """The recording's name, by its digest."""
    notes: Mapping[str, str]
    """What was noted of the recording: its model, versions and the like."""
    experts: int
    """Experts of a layer."""
    top_k: int
    """Experts that each token goes to."""
    ep_size: int
    """Ranks that experts are split over."""
    layers: tuple[LoadRow, ...]
    padding: tuple[PaddingRow, ...]
    plot: Path
    """The picture that was written."""
