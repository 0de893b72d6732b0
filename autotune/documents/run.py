"""The documents of ``run``, of ``run --dry-run`` and of ``resume``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from autotune.documents.base import RATIO, Document, Row, digits
from autotune.documents.lookups import LookupRow, ServingRow
from autotune.documents.rows import FileRow, ResultRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficRow(Row):
    """What tuned files bring a server over all the steps that it ran."""

    engine: str
    """``sglang`` or ``vllm``."""
    speedup: float = field(metadata=RATIO)
    """Time of the layer with what the engine launches by itself, over that with what is written."""
    share: float
    """Of the steps' time that this is known of, from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow(Row):
    """One model's part of a run."""

    model: str
    """Its name as it is split, by which the run's lines call it: "DeepSeek-V3 TP8"."""
    results: tuple[ResultRow, ...]
    traffic: tuple[TrafficRow, ...]
    """A row for each engine; empty where no traffic was told of."""
    lookups: tuple[LookupRow, ...]
    """Where engines look for the files."""
    serving: tuple[ServingRow, ...]
    """Whether engines open the files where they serve."""
    failed: Mapping[str, str]
    """Study → why it has no winner that was measured."""
    unfinished: int
    """Studies that have not all their measurements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledAhead(Row):
    """The work of the processes that compile ahead of the devices."""

    binaries: int
    """Kernels that were compiled."""
    seconds: float = field(metadata=digits(1))
    """Of compiling, added over the processes."""
    killed: int
    """Compiles that ended with their process: too slow, too large, crashed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePiece(Row):
    """A quarter of a second of one worker."""

    start_s: float = field(metadata=digits(2))
    """Seconds since the run began."""
    seconds: Mapping[str, float] = field(metadata=digits(3))
    """What its device did or waited for → seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTime(Row):
    """What one worker's device did."""

    first_s: float | None = field(metadata=digits(2))
    """When it turned to its first trial, in seconds since the run began; null without one."""
    last_s: float | None = field(metadata=digits(2))
    """When its last trial or round of finals ended; null without one."""
    pieces: tuple[TimePiece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDocument(Document):
    """What a run brought."""

    schema: ClassVar[str] = "autotune/run/1"
    device: str
    """``cuda:``, ``estimate:`` or ``replay:`` and the GPU's name: times of an ``estimate`` are not
    measured."""
    triton: str
    """The version of Triton that compiled the kernels."""
    models: tuple[ModelRow, ...]
    left_out: Mapping[str, str]
    """Model that could not be tuned beside others → why."""
    files: tuple[FileRow, ...]
    """The engine files that were written, of all models."""
    new_measurements: int
    """Measurements, or estimates, of this run; what the storage had before is not counted."""
    unfinished: int
    """Studies of all models that have not all their measurements."""
    interrupted: bool
    """True where Ctrl-C ended it: the same command goes on."""
    seconds: float = field(metadata=digits(1))
    """From start to end."""
    compiled_ahead: CompiledAhead | None
    """Null where devices compile for themselves."""
    device_time: Mapping[str, float] = field(metadata=digits(3))
    """What devices did or waited for → its share of the time between the first and the last
    measurement, from 0 to 1; empty where nothing was measured."""
    time_line: Mapping[str, WorkerTime]
    """The same in pieces of a quarter of a second, by the worker's name; empty where no GPU was
    measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeDocument(Document):
    """What was gone on with."""

    schema: ClassVar[str] = "autotune/resume/1"
    runs: tuple[RunDocument, ...]
    """One for each set of settings that had something unfinished; empty where nothing was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStudy(Row):
    """A study that would be worked on."""

    model: str
    """Its name as it is split: "DeepSeek-V3 TP8"."""
    study: str
    """Its name in the storage."""
    batch_size: int
    """Tokens of one step."""
    engines: tuple[str, ...]
    """Engines whose files it is for."""
    configs: int
    """Size of its space."""
    measured: int
    """Measurements that the storage has."""
    to_measure: int
    """Measurements that are left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRunDocument(Document):
    """What ``run`` would do."""

    schema: ClassVar[str] = "autotune/dry-run/1"
    studies: tuple[PlannedStudy, ...]
    left_out: Mapping[str, str]
    """Model that could not be tuned beside others → why."""
    summary: str
    """How much is left, and how long it would take, in a sentence."""
    lookups: tuple[LookupRow, ...]
    """Where engines look for the files."""
    serving: tuple[ServingRow, ...]
    """Whether engines open the files where they serve."""
