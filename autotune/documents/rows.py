"""Rows that documents of several commands have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from autotune.documents.base import RATIO, US, Row

ConfigKeys: TypeAlias = Mapping[str, int | bool]
"""A launch config under the keys of the engines' files. A pair of configs, one for each GEMM, has
``BLOCK_SIZE_M`` for both and the other keys with ``up.`` and ``down.`` before them."""


State: TypeAlias = Literal["ok", "absent", "warning", "error"]
"""``absent``: it is not there, and is not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow(Row):
    """The config to write for one engine and batch size, and how it compares."""

    model: str
    """As it was named to the run that tuned it: a name on the Hugging Face Hub, a path, or a
    shape; those of several models whose layers are the same with ", " between them."""
    engine: str
    """``sglang`` or ``vllm``."""
    E: int
    """Experts that one rank holds."""
    N: int
    """Intermediate size that one rank holds."""
    H: int
    """Hidden size."""
    top_k: int
    """Experts that each token goes to."""
    dtype: str
    """Of weights and activations, as ``--dtype`` has it."""
    batch_size: int
    """Tokens of one step."""
    share_of_time: float | None
    """Of a server's time that this batch size stands for, from 0 to 1; null where no traffic was
    told of (``--batch-size auto``)."""
    routing: str
    """Which experts tokens were sent to; several with commas between."""
    robust: str
    """What counts of several routings: ``mean`` or ``worst``."""
    method: str
    """How times came about: whose kernel, and what else makes them comparable."""
    kernel: str | None
    """The kernel that was measured, an engine's with its version; null where none was: of
    estimates and recordings."""
    kernel_is_proven: bool | None
    """False where another kernel stands in for the engine's and was not shown to rank configs as
    that does; null where no kernel was measured."""
    config: ConfigKeys
    """The config to write."""
    us: float | None = field(metadata=US)
    """Its time in µs, the geometric mean of its samples; null where it has none."""
    default_us: float | None = field(metadata=US)
    """Time in µs of the engine's default; null where it has none."""
    default_from: Literal["launch", "rule"] | None
    """Where that default comes from. ``launch``: the engine's own call, which sees the files that
    it ships, and those of its environment variable unless that names the output folder.
    ``rule``: what the engine does without any file. Null where none is known."""
    speedup: float | None = field(metadata=RATIO)
    """``default_us`` over ``us``; null where one of them is."""
    kept: bool | None
    """True where the config is what the user has today, which nothing beat; null where nothing
    was measured."""
    device: str
    """``cuda:``, ``estimate:`` or ``replay:`` and the GPU's name: times of an ``estimate`` are not
    measured."""
    measurements: int
    """Configs that were measured, or estimated, for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow(Row):
    """An engine file that was written."""

    path: Path
    """The file."""
    written: tuple[int, ...]
    """Batch sizes whose tuned entries it got."""
    notes: tuple[str, ...]
    """Sentences that whoever uses the file should read; empty where there is nothing to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow(Row):
    """How far one study is."""

    study: str
    """Its name in the storage."""
    model: str
    """As it was named to the run; several as in results."""
    layer: str
    """The layer as it is split, where it is measured, and for whom, in words."""
    batch_size: int
    """Tokens of one step."""
    measurements: int
    """Configs measured so far."""
    target: int
    """Measurements that its last run wants."""
    state: Literal["finished", "unfinished"]
    """``finished``: it has its measurements, or ended before."""
    best_us: float | None = field(metadata=US)
    """Time of its best config in µs; null where none is measured."""
    outcomes: Mapping[str, int]
    """Number of trials that ended so, by the outcome's name."""
    ended: str | None
    """Why it ended, in words; null while it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow(Row):
    """One thing that was looked at."""

    what: str
    """Its name, in a few words."""
    state: State
    """``absent``: it is not there, and is not needed."""
    detail: str
    """What was found, in words."""
