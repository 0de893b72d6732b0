"""What is compared: a provider, and where its launch configs come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autotune.engines import ENGINES, Engine, read_configs
from autotune.engines.entries import nearest
from autotune.errors import EngineFileError
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.pairs import completed_as_asked
from autotune.tune.jobs import files_dir


class Wanted(Protocol):
    """What of the settings decides about lines."""

    @property
    def engines(self) -> tuple[str, ...]: ...

    @property
    def config_files(self) -> tuple[tuple[str, Path], ...]: ...

    @property
    def output_dir(self) -> Path: ...


class Source(Protocol):
    """Where a config comes from."""

    def config(self, problem: Problem, device: Device | None) -> AnyConfig | None:
        """None where it has nothing for the problem. ``device`` None is the CPU."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the plots."""

    name: str
    provider: str
    source: Source | None = None
    """None: the provider chooses for itself."""

    @property
    def needs_config(self) -> bool:
        return self.source is not None

    def config_for(self, problem: Problem, device: Device | None) -> AnyConfig | None:
        return self.source.config(problem, device) if self.source else None


@dataclass(frozen=True, slots=True)
class DefaultOf:
    """What the engine launches where it finds no file."""

    engine: Engine

    def config(self, problem: Problem, device: Device | None) -> AnyConfig | None:
        if device is None:
            return None
        default = self.engine.default_config(problem, device)
        return completed_as_asked(problem, device, default)


@dataclass(frozen=True, slots=True)
class FolderOf:
    """What the engine would find in a folder."""

    engine: Engine
    folder: Path

    def config(self, problem: Problem, device: Device | None) -> AnyConfig | None:
        if device is None:
            return None
        found = self.engine.lookup(self.folder, problem, device, problem.tokens)
        return completed_as_asked(problem, device, found.config) if found else None


@dataclass(frozen=True, slots=True)
class FileOf:
    """The nearest entry of one file, whatever it is called."""

    path: Path

    def config(self, problem: Problem, device: Device | None) -> AnyConfig:
        table = read_configs(self.path)
        if not table:
            raise EngineFileError(f"{self.path} is missing, or holds no config")
        config = table[nearest(table, problem.tokens)]
        return completed_as_asked(problem, device, config) if device else config


def lines_of(provider: str, wanted: Wanted, device: Device | None) -> list[Line]:
    """The lines of one provider. Our kernels: with the engines' defaults, the tuned files of the
    output folder, those that an installed engine ships, and the given files."""
    if provider not in ("autotune", *ENGINES):
        return [Line(provider, provider)]
    given = [(label, FileOf(path)) for label, path in wanted.config_files]
    if provider != "autotune":
        own = Line(provider, provider)
        return [own, *(Line(f"{provider}, {label}", provider, file) for label, file in given)]
    sources: list[tuple[str, Source]] = [*_sources(wanted, device), *given]
    return [Line(f"autotune, {label}", provider, source) for label, source in sources]


def _sources(wanted: Wanted, device: Device | None) -> Iterator[tuple[str, Source]]:
    engines = [ENGINES[name] for name in wanted.engines]
    for engine in engines:
        folder = engine.env_folder(files_dir(wanted.output_dir, device)) if device else None
        if folder is not None and folder.is_dir():
            yield f"tuned for {engine.title}", FolderOf(engine, folder)
    for engine in engines:
        shipped = engine.installed_config_folder()
        if shipped is not None:
            yield f"{engine.title} shipped", FolderOf(engine, shipped)
    for engine in engines:
        yield f"{engine.title} default", DefaultOf(engine)
