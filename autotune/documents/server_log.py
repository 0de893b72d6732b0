"""The document of ``doctor --server-log``: what servers did about tuned files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from autotune.documents.base import Document, Row
from autotune.documents.lookups import ServingRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFile(Row):
    """A file that a server looked for."""

    file: str
    """Its name."""
    state: Literal["opened", "other_triton", "up_file", "missed"]
    """``other_triton``: SGLang opened another Triton version's in its place. ``up_file``: SGLang
    launched the up file's configs for the down GEMM. ``missed``: the engine launched its own
    default."""
    opened: str | None
    """The path that was opened, as the log has it; null where none was."""
    missed: tuple[str, ...]
    """Paths where it was looked for in vain, as the log has them."""
    E: int | None
    """Experts that one rank holds; null where the name is none of the MoE kernel's files."""
    N: int | None
    """Intermediate size that one rank holds; null likewise."""
    gpu: str | None
    """The GPU's name; null likewise."""
    line: int
    """The log's line that says so first."""
    processes: tuple[str, ...]
    """The processes that said so."""
    command: str | None
    """The command that makes the file; null where none is needed or none can."""
    makes: str | None
    """The name of the file that the command makes; null where that is not known."""
    note: str | None
    """What is to be known of the command; null for nothing."""
    export: str | None
    """The shell's line that makes a server open it; null where the server looks there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedKernel(Row):
    """A kernel that a server took for its experts."""

    layers: str | None
    """The kind of layers, in vLLM's word; null of SGLang."""
    kernel: str
    """The engine's name for it."""
    reads_files: bool
    """True where it opens tuned files."""
    tuned_here: bool
    """True where this package tunes such layers."""
    flag: str | None
    """The flag that makes the engine take Triton's kernel instead; empty where none does, null
    where it is not needed or not known."""
    command: str | None
    """The command that makes files for it; null where it reads files."""
    export: str | None
    """The shell's line that makes a server open them; null likewise."""
    line: int
    """The log's line that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRow(Row):
    """One start of a server."""

    engine: str
    """``sglang`` or ``vllm``."""
    version: str | None
    """Null where the log does not say it."""
    line: int
    """The log's line where it begins."""
    model: str | None
    """As the log or ``--model`` names it; null where neither does."""
    split: tuple[str, ...] | None
    """The flags of ``run`` that split the model likewise; null where the log has no arguments."""
    quantization: str | None
    """As the server was told; null where it was not."""
    kernels: tuple[ServedKernel, ...]
    by_rule: ServingRow | None
    """What the engine takes by itself, by our rules, on the GPU of the files; null where the log
    says what it took, the server was told what to take, or model or GPU is not known."""
    fixed_configs: bool
    """True where SGLang's deterministic inference is on: it opens no tuned file then."""
    files: tuple[ServedFile, ...]
    look: str
    """The command that says what the engine takes by itself."""
    all_opened: bool
    """True where files were looked for, all of them opened, and each kernel reads files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLogDocument(Document):
    """What a server's log says of tuned files."""

    schema: ClassVar[str] = "autotune/server-log/1"
    log: Path | None
    """The log's file; null for standard input."""
    lines: int
    """Lines that were read."""
    servers: tuple[ServerRow, ...]
