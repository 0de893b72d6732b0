"""A variant is one line of a comparison: a provider, and the source of its launch configs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autotune.engines import ENGINES, Engine, read_configs
from autotune.engines.entries import nearest
from autotune.engines.folders import STAND_IN
from autotune.errors import EngineFileError
from autotune.spec.config import AnyConfig, Config
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.pairs import completed_as_asked


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSources:
    """The places that a comparison takes launch configs from."""

    engines: tuple[str, ...] = ("sglang", "vllm")
    """Engines whose defaults and files our kernels are timed with."""
    config_files: tuple[tuple[str, Path], ...] = ()
    """(label, engine file), each timed with our kernels and with those of the engines."""
    output_dir: Path = Path("configs")
    """Folder in which tuned files are looked for."""


ConfigSource = Callable[[Problem, Device | None], AnyConfig | None]
"""Returns a variant's config for a problem; None where it has nothing for that. The device is None
for the CPU."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A provider, launched with the configs of one source: a line of the plots."""

    name: str
    provider: str
    source: ConfigSource | None = None
    """None where the provider chooses for itself."""
    is_default: bool = False
    """True if the source is what an engine launches where it finds no file."""
    engine: str | None = None
    """The engine whose problem is computed; None where it is nobody's own."""

    def config_for(self, problem: Problem, device: Device | None) -> AnyConfig | None:
        return self.source(problem, device) if self.source else None


def _default(engine: Engine, problem: Problem, device: Device | None) -> AnyConfig | None:
    if device is None:
        return None
    return completed_as_asked(problem, device, engine.default_config(problem, device))


def _found(
    engine: Engine, folder: Path, problem: Problem, device: Device | None
) -> AnyConfig | None:
    """Return what the engine would find in a folder."""
    if device is None:
        return None
    found = engine.lookup(folder, problem, device, problem.tokens)
    return completed_as_asked(problem, device, found.config) if found else None


def _nearest(path: Path, problem: Problem, device: Device | None) -> AnyConfig:
    """Return the nearest entry of one file, whatever it is called."""
    table = config_table(path)
    config = table[nearest(table, problem.tokens)]
    return completed_as_asked(problem, device, config) if device else config


def config_table(path: Path) -> dict[int, Config]:
    """Return token count → config of an engine file. Raises EngineFileError where it has none."""
    if not path.is_file():
        raise EngineFileError(f"{path} is not a file; give an engine's JSON file")
    table = read_configs(path)
    if not table:
        raise EngineFileError(f"{path} holds no config; an engine file has one per token count")
    return table


def variants_of(provider: str, sources: ConfigSources, device: Device | None) -> list[Variant]:
    """Return the variants of one provider. Our kernels: with the engines' defaults, the tuned files
    of the output folder, those that an installed engine ships, and the given files."""
    own = provider if provider in ENGINES else None
    given = [
        Variant(f"{provider}, {label}", provider, partial(_nearest, path), engine=own)
        for label, path in sources.config_files
    ]
    if provider == "autotune":
        return [*_of_engines(sources, device), *given]
    return [Variant(provider, provider, engine=own), *(given if own else ())]


def _of_engines(sources: ConfigSources, device: Device | None) -> Iterator[Variant]:
    engines = [ENGINES[name] for name in sources.engines]
    for engine in engines if device else ():
        for words, output_dir in (
            ("", sources.output_dir),
            (f", {STAND_IN}", sources.output_dir / STAND_IN),
        ):
            folder = engine.env_folder(output_dir)
            if folder.is_dir():
                yield _ours(
                    engine, f"tuned for {engine.title}{words}", partial(_found, engine, folder)
                )
    for engine in engines:
        shipped = engine.installed_config_folder()
        if shipped is not None:
            yield _ours(engine, f"{engine.title} shipped", partial(_found, engine, shipped))
    for engine in engines:
        yield _ours(engine, f"{engine.title} default", partial(_default, engine), is_default=True)


def _ours(engine: Engine, label: str, source: ConfigSource, *, is_default: bool = False) -> Variant:
    return Variant(f"autotune, {label}", "autotune", source, is_default, engine.name)
