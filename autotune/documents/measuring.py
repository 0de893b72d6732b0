"""The documents of ``bench``, ``compare`` and ``record``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from autotune.documents.base import US, Document, Row, digits
from autotune.documents.rows import ConfigKeys

_RATIO = digits(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow(Row):
    """One config at one batch size."""

    batch_size: int
    """Tokens of one step."""
    source: str
    """Where the config comes from, in words: given, of a file, or an engine's default."""
    config: ConfigKeys
    """The config that was timed."""
    us: float | None = field(metadata=US)
    """Time in µs, the geometric mean of its samples; null where it was not measured."""
    routing_us: Mapping[str, float] = field(metadata=US)
    """The same for each of several routings, by its name; empty where there is one."""
    up_us: float | None = field(metadata=US)
    """Time of the up GEMM in µs; null where the GEMMs are not timed apart."""
    down_us: float | None = field(metadata=US)
    """Time of the down GEMM in µs; null likewise."""
    outcome: str
    """``ok``, or what went wrong."""
    registers: int | None
    """Of one thread; null where that is not known."""
    spill_bytes: int | None
    """Bytes of registers that one thread spills; null likewise."""
    shared_bytes: int | None
    """Shared memory of one block in bytes; null likewise."""
    reason: str | None
    """Why there is no time; null where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchDocument(Document):
    """Times of given configs, each by itself."""

    schema: ClassVar[str] = "autotune/bench/1"
    device: str
    """``cuda:``, ``estimate:`` or ``replay:`` and the GPU's name: times of an ``estimate`` are not
    measured."""
    rows: tuple[BenchRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchFileRow(Row):
    """What one file launches at one batch size, measured interleaved with the others."""

    batch_size: int
    """Tokens of one step."""
    file: int | None
    """Its number in ``files``, from 1; null for what launches by itself."""
    source: str
    """The file's path as it was given, or what launches by itself, in words."""
    key: int | None
    """The file's entry that is launched; null for what launches by itself."""
    config: ConfigKeys
    """The config that is launched."""
    us: float | None = field(metadata=US)
    """Time in µs, the geometric mean of its samples; null where it was not measured."""
    ratio: float | None = field(metadata=_RATIO)
    """Its time over the baseline's; null for the baseline, and where one was not measured."""
    interval: tuple[float, float] | None = field(metadata=_RATIO)
    """Bounds of the ratio's 95 % confidence interval; null where the ratio is, and for
    estimates."""
    verdict: str | None
    """What the interval allows to say: ``faster``, ``slower``, ``even``, ``within the noise``, of
    estimates ``within the model's error``, or ``same config``; null for the baseline, and where one
    was not measured."""
    wins: bool
    """True for the one that is clearly faster than all others."""
    reason: str | None
    """Why there is no time; null where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchFileTotal(Row):
    """One file over all batch sizes."""

    file: int | None
    """Its number in ``files``, from 1; null for what launches by itself."""
    source: str
    """The file's path as it was given, or what launches by itself, in words."""
    wins: int
    """Batch sizes at which it wins."""
    verdicts: Mapping[str, int]
    """Verdict → batch sizes."""
    mean: float | None = field(metadata=_RATIO)
    """Geometric mean of its times over the baseline's; null where nothing is known."""
    mean_apart: float | None = field(metadata=_RATIO)
    """The same over the batch sizes where they launch different configs; null where there are
    none."""
    most: float | None = field(metadata=_RATIO)
    """The largest of the ratios: its least gain, or its greatest loss; null where there are
    none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchFilesDocument(Document):
    """Config files side by side."""

    schema: ClassVar[str] = "autotune/bench-files/1"
    device: str
    """``cuda:``, ``estimate:`` or ``replay:`` and the GPU's name: times of an ``estimate`` are not
    measured."""
    files: tuple[Path, ...]
    """The files, in the order of their numbers."""
    baseline: str
    """The ``source`` that the others are compared with."""
    rows: tuple[BenchFileRow, ...]
    totals: tuple[BenchFileTotal, ...]
    summary: tuple[str, ...]
    """A line for each source, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparePoint(Row):
    """One line of the plot at one batch size."""

    batch_size: int
    """Tokens of one step."""
    line: str
    """The line's name: a provider, and of ours whose config it launches."""
    provider: str
    """Whose kernel it is."""
    version: str
    """The provider's."""
    config: ConfigKeys | None
    """Null where the provider chooses for itself."""
    us: float | None = field(metadata=US)
    """Median time in µs; null where it was not measured."""
    us_low: float | None = field(metadata=US)
    """Time that 20 % of samples are below; null likewise."""
    us_high: float | None = field(metadata=US)
    """Time that 80 % of samples are below; null likewise."""
    relative_error: float | None = field(metadata=digits(5))
    """The largest of a piece of the output, relative to the reference's norm; null where it was not
    computed."""
    tolerance: float
    """Up to here an error is rounding."""
    right: bool | None
    """False where the error is more than that; null where it is not known."""
    how: str | None
    """How it was timed; null where it was not."""
    outcome: str
    """``ok``, or what went wrong."""
    reason: str | None
    """Why there is no time; null where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareDocument(Document):
    """Kernels side by side."""

    schema: ClassVar[str] = "autotune/compare/1"
    model: str
    """As it was named, or its shape."""
    device: str
    """``cuda:`` and the GPU's name, or ``cpu``."""
    versions: Mapping[str, str]
    """Provider → its version."""
    layers: Mapping[str, str]
    """Engine → the layer that its lines compute, where engines serve unlike ones; empty
    elsewhere."""
    rows: tuple[ComparePoint, ...]
    skipped: Mapping[str, str]
    """Provider or line → why it is not, or not everywhere, there."""
    files: tuple[Path, ...]
    """Plots, data and page that were written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStudy(Row):
    """The part of a recording that one batch size has."""

    E: int
    """Experts that one rank holds."""
    N: int
    """Intermediate size that one rank holds."""
    batch_size: int
    """Tokens of one step."""
    recorded: int
    """Configs that are recorded, those that failed among them."""
    space: int
    """Configs that there are."""
    best: ConfigKeys | None
    """The fastest; null where none has a time."""
    best_us: float | None = field(metadata=US)
    """Its time in µs; null where none has one."""
    outcomes: Mapping[str, int]
    """Number of configs that ended so, by the outcome's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDocument(Document):
    """A space that was measured into a file."""

    schema: ClassVar[str] = "autotune/record/1"
    device: str
    """``cuda:`` or ``estimate:`` and the GPU's name: times of an ``estimate`` are not measured."""
    file: Path
    """The recording."""
    studies: tuple[RecordedStudy, ...]
    new_measurements: int
    """Measurements, or estimates, of this call; what the file had before is not counted."""
    missing: int
    """Configs that are left: the same command goes on with them."""
    interrupted: bool
    """True where Ctrl-C ended it."""
    seconds: float = field(metadata=digits(1))
    """From start to end."""
