"""From studies to engine files: every requested batch size, nothing wrong, nothing slower."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autotune.engines import Engine, WrittenFile, write_configs
from autotune.kernels.config import Config
from autotune.kernels.device import Device
from autotune.kernels.problem import Problem
from autotune.studies.record import Measured
from autotune.studies.winner import Winner, choose_winner


@dataclass(frozen=True, slots=True)
class Result:
    """What one study has to say to one engine."""

    engine: Engine
    problem: Problem
    device: Device
    entries: tuple[Measured, ...]
    incumbents: Mapping[str, Config]
    """Source in words → config; for this engine alone."""

    @property
    def winner(self) -> Winner | None:
        """The best entry that the engine can launch and that loses to no incumbent of its."""
        legal = [entry for entry in self.entries if self._is_legal(entry.config)]
        return choose_winner(legal, self.incumbents.values())

    @property
    def default_us(self) -> float | None:
        """Time of the engine's default; None where it was not measured."""
        default = self.engine.default_config(self.problem, self.device)
        times = (e.median_us for e in self.entries if e.complete and e.config == default)
        return next(times, None)

    @property
    def config(self) -> Config:
        """What to write: the winner, else what an earlier run wrote, else the engine's default."""
        winner = self.winner
        return winner.config if winner else list(self.incumbents.values())[-1]

    def _is_legal(self, config: Config) -> bool:
        return self.engine.why_illegal(self.problem, self.device, config) is None


def results_of(
    problem: Problem,
    device: Device,
    engines: Iterable[Engine],
    entries: Sequence[Measured],
    incumbents: Mapping[str, Config],
) -> list[Result]:
    """One result per engine. ``incumbents`` are named "<engine> …"; each engine gets its own."""
    return [
        Result(
            engine,
            problem,
            device,
            tuple(entries),
            {k: c for k, c in incumbents.items() if k.startswith(f"{engine.name} ")},
        )
        for engine in engines
    ]


def write_files(results: Iterable[Result], output_dir: Path) -> list[WrittenFile]:
    """Write, or merge into, one file per engine and problem without its batch size.

    Raises EngineFileError where a file cannot be written; files before it are complete.
    """
    files: dict[Path, list[Result]] = {}
    for result in results:
        path = result.engine.path(output_dir, result.problem, result.device)
        files.setdefault(path, []).append(result)
    return [_write(path, group) for path, group in files.items()]


def _write(path: Path, group: Sequence[Result]) -> WrittenFile:
    first = group[0]
    configs = {result.problem.tokens: result.config for result in group}
    return write_configs(first.engine, path, configs, first.problem, first.device)
