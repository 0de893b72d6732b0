"""Is an engine file legal, and would the engine find and load it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autotune.engines.check_entries import check_body
from autotune.engines.check_pair import check_pair
from autotune.engines.entries import load_body
from autotune.engines.finding import Finding, Level, assumed
from autotune.engines.names import NameParts
from autotune.engines.protocol import Engine
from autotune.errors import EngineFileError
from autotune.spec.problem import Dtype


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All findings about one file, and how to make the engine read it."""

    path: Path
    engine: str
    findings: tuple[Finding, ...]
    parts: NameParts | None
    """What the name says; None where it is no engine file's name."""
    env_variable: str
    env_folder: Path | None
    """What ``env_variable`` must be set to; None where no value makes the engine read the file."""
    reads: Path | None
    """The file that the engine would open for this problem then; None if unknown."""

    @property
    def ok(self) -> bool:
        return not any(finding.level is Level.ERROR for finding in self.findings)


def check_file(path: Path, engine: Engine, *, triton_version: str | None = None) -> CheckReport:
    """Everything that can be known from the file, its name, its folder and its sibling.

    ``triton_version`` is the serving environment's: with it, the report says which file that
    environment would open. Raises EngineFileError for a path that is not a file.
    """
    if not path.is_file():
        raise EngineFileError(f"{path} is not a file; give an engine's JSON file")
    parts = engine.parse_name(path.name)
    folder = engine.folder_of(path)
    findings = [*_check_name(path, engine, parts), *_check_folder(path, engine, folder)]
    found, reads = _check_lookup(path, engine, parts, triton_version)
    findings += found
    try:
        body = load_body(path)
    except EngineFileError as error:
        findings.append(Finding(Level.ERROR, "file", str(error)))
    else:
        findings += check_body(body, engine, parts, triton_version)
        findings += check_pair(path, body, engine, parts)
    return CheckReport(
        path, engine.name, tuple(findings), parts, engine.env_variable, folder, reads
    )


def _check_name(path: Path, engine: Engine, parts: NameParts | None) -> Iterator[Finding]:
    if parts is None:
        example = "E=8,N=14336,device_name=NVIDIA_H200.json"
        yield Finding(Level.ERROR, "name", f"{path.name} is no engine file's name; like {example}")
        return
    try:
        spelled = engine.spell(parts)
    except (ValueError, EngineFileError) as error:
        yield Finding(Level.ERROR, "name", str(error))
        return
    if spelled != path.name:
        message = f"{engine.title} never looks for this name; it spells it {spelled}"
        yield Finding(Level.ERROR, "name", message)
    elif parts.problem_dtype is None:
        known = ", ".join(["float32", *(dtype.value for dtype in Dtype if dtype.is_quantized)])
        message = f"dtype={parts.dtype} is none of {known}; bf16 and fp16 have no dtype part"
        yield Finding(Level.ERROR, "name", message)


def _check_folder(path: Path, engine: Engine, folder: Path | None) -> Iterator[Finding]:
    if folder is None:
        message = (
            f"{engine.title} reads configs/triton_X_Y_Z/ under ${engine.env_variable}; "
            f"this file lies in {path.absolute().parent}"
        )
        yield Finding(Level.ERROR, "folder", message)


def _check_lookup(
    path: Path, engine: Engine, parts: NameParts | None, triton_version: str | None
) -> tuple[list[Finding], Path | None]:
    """Which file the serving environment opens, and a warning if it is another one."""
    folder = engine.folder_of(path)
    if triton_version is None or parts is None or folder is None:
        return [], None
    problem, device = assumed(parts, triton_version)
    try:
        found = engine.lookup(folder, problem, device, 1, down=parts.down)
    except (ValueError, EngineFileError):  # the other findings say so
        return [], None
    if found is None:
        return [], None
    if not found.path.samefile(path):
        message = f"with Triton {triton_version} {engine.title} reads {found.path} instead"
    elif found.is_fallback:
        message = f"tuned for another Triton than {triton_version}: {engine.title} falls back to it"
    else:
        return [], found.path
    return [Finding(Level.WARNING, "folder", message)], found.path
