"""A variant is one line of a comparison: a provider, and the source of its launch configs."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSources:
    """The places that a comparison takes launch configs from."""

    engines: tuple[str, ...] = ("sglang", "vllm")
    """Engines whose defaults and files our kernels are timed with."""
    config_files: tuple[tuple[str, Path], ...] = ()
    """(label, engine file), each timed with our kernels and with those of the engines."""
    output_dir: Path = Path("configs")
    """Folder in which tuned files are looked for."""


class ConfigSource(Protocol):
    """A rule that gives a variant its config for a problem."""

    def config(self, problem: Problem, device: Device | None) -> AnyConfig | None:
        """Return None where it has nothing for the problem. ``device`` None is the CPU."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A provider, launched with the configs of one source: a line of the plots."""

    name: str
    provider: str
    source: ConfigSource | None = None
    """None where the provider chooses for itself."""

    @property
    def needs_config(self) -> bool:
        return self.source is not None

    def config_for(self, problem: Problem, device: Device | None) -> AnyConfig | None:
        return self.source.config(problem, device) if self.source else None


@dataclass(frozen=True, slots=True)
class EngineDefault:
    """Gives what the engine launches where it finds no file."""

    engine: Engine

    def config(self, problem: Problem, device: Device | None) -> AnyConfig | None:
        if device is None:
            return None
        default = self.engine.default_config(problem, device)
        return completed_as_asked(problem, device, default)


@dataclass(frozen=True, slots=True)
class EngineFolder:
    """Gives what the engine would find in a folder."""

    engine: Engine
    folder: Path

    def config(self, problem: Problem, device: Device | None) -> AnyConfig | None:
        if device is None:
            return None
        found = self.engine.lookup(self.folder, problem, device, problem.tokens)
        return completed_as_asked(problem, device, found.config) if found else None


@dataclass(frozen=True, slots=True)
class EngineFile:
    """Gives the nearest entry of one file, whatever it is called."""

    path: Path

    def config(self, problem: Problem, device: Device | None) -> AnyConfig:
        table = read_configs(self.path)
        if not table:
            raise EngineFileError(f"{self.path} is missing, or holds no config")
        config = table[nearest(table, problem.tokens)]
        return completed_as_asked(problem, device, config) if device else config


def variants_of(provider: str, sources: ConfigSources, device: Device | None) -> list[Variant]:
    """Return the variants of one provider. Our kernels: with the engines' defaults, the tuned files
    of the output folder, those that an installed engine ships, and the given files."""
    if provider not in ("autotune", *ENGINES):
        return [Variant(provider, provider)]
    given = [(label, EngineFile(path)) for label, path in sources.config_files]
    if provider != "autotune":
        own = Variant(provider, provider)
        return [own, *(Variant(f"{provider}, {label}", provider, file) for label, file in given)]
    named: list[tuple[str, ConfigSource]] = [*_named_sources(sources, device), *given]
    return [Variant(f"autotune, {label}", provider, source) for label, source in named]


def _named_sources(
    sources: ConfigSources, device: Device | None
) -> Iterator[tuple[str, ConfigSource]]:
    engines = [ENGINES[name] for name in sources.engines]
    for engine in engines:
        folder = engine.env_folder(files_dir(sources.output_dir, device)) if device else None
        if folder is not None and folder.is_dir():
            yield f"tuned for {engine.title}", EngineFolder(engine, folder)
    for engine in engines:
        shipped = engine.installed_config_folder()
        if shipped is not None:
            yield f"{engine.title} shipped", EngineFolder(engine, shipped)
    for engine in engines:
        yield f"{engine.title} default", EngineDefault(engine)
