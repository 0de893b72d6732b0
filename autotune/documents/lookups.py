"""Which files engines look for, where, what they launch, and whether they open files at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autotune.documents.base import Row
from autotune.documents.rows import ConfigKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderRow(Row):
    """A folder that an engine looks into."""

    folder: Path
    """Where it looks; the folder itself may not be there."""
    variable: str | None
    """The environment variable that names it; null for the folder of shipped files."""
    file: Path | None
    """The file that the engine would open there now; null where there is none or it is broken."""
    fault: str | None
    """Why the file that is there cannot be read; null where nothing is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupRow(Row):
    """The files that one engine looks for."""

    engine: str
    """``sglang`` or ``vllm``."""
    version: str
    """The installed version, or that of our rules where it is not installed."""
    files: tuple[str, ...]
    """Names; the second is that of the down GEMM, where the engine has such."""
    folders: tuple[FolderRow, ...]
    """In the engine's order: the first that has the file counts."""
    own_code: str | None
    """The engine's own code that was asked, and makes these names: version and place; null where
    none was asked, or it could not be."""
    words: str
    """All of it in a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRow(Row):
    """The config that an engine launches at one batch size as things are, and why."""

    engine: str
    """``sglang`` or ``vllm``."""
    batch_size: int
    """Tokens of one step."""
    config: ConfigKeys | None
    """Null where the engine would fail."""
    down: ConfigKeys | None
    """The down GEMM's own; null where one config is for both."""
    file: Path | None
    """The file that it is from; null for the engine's own rule."""
    source: str
    """Where it comes from, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingRow(Row):
    """Whether an engine opens tuned files where it serves: its Triton kernel alone does."""

    engine: str
    """Name and version."""
    gpu: str
    """The GPU's family."""
    kernel: str | None
    """The kernel that the engine takes by itself; null where that is not known."""
    by_itself: bool
    """True where that is Triton's: files are opened without a flag."""
    flag: str | None
    """The flag that makes the engine take Triton's; null where none does."""
    source: str | None
    """Where this is known from; null where it is not known."""
    words: str
    """All of it in a line."""
