"""What a report is about: every tuned batch size of one layer on one device, together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from autotune.engines import ENGINES
from autotune.routing.draw import drawable
from autotune.spec.config import AnyConfig, pair_of
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import Problem
from autotune.studies.selection.finalists import Finalist
from autotune.studies.study_record import StoredStudy
from autotune.studies.trial_record import Measured
from autotune.tune.engine_output import Result
from autotune.tune.stored_results import stored_results

_KIND_WORDS = {
    DeviceKind.CUDA: "measured on",
    DeviceKind.ESTIMATE: "estimated for",
    DeviceKind.REPLAY: "replayed from",
}


@dataclass(frozen=True)
class Point:
    """One batch size: its study, and what it says to each engine that it serves."""

    study: StoredStudy
    results: tuple[Result, ...]

    @property
    def tokens(self) -> int:
        return self.study.key.problem.tokens

    @property
    def problem(self) -> Problem:
        return self.study.key.problem

    @cached_property
    def best_us(self) -> float | None:
        """Of the fastest config that is written for any engine; None where nothing was measured."""
        times = [result.winner.geomean_us for result in self.results if result.winner]
        return min(times, default=None)

    @cached_property
    def complete(self) -> list[Measured]:
        """Trials that were measured to the end."""
        return [entry for entry in self.study.measured if entry.complete]


@dataclass(frozen=True)
class Layer:
    """Points of one problem, ascending by batch size."""

    points: tuple[Point, ...]

    @property
    def problem(self) -> Problem:
        """Any of its problems: only ``tokens`` and the loaded rank differ."""
        return self.points[0].problem

    @property
    def device(self) -> Device:
        return self.points[0].study.key.device

    @property
    def tokens(self) -> list[int]:
        return [point.tokens for point in self.points]

    @property
    def engines(self) -> list[str]:
        """Names of the engines that this layer serves, in the project's order."""
        served = {result.engine.name for point in self.points for result in point.results}
        return [name for name in ENGINES if name in served]

    @property
    def model(self) -> str:
        """Every model that was tuned under this shape: models of one shape share studies."""
        return ", ".join(sorted({point.study.attrs.model for point in self.points}))

    @property
    def title(self) -> str:
        """ "Qwen/Qwen3-30B-A3B: E=128,N=768,H=2048,topk=8 bf16, measured on NVIDIA H200"."""
        shape = self.problem.name.rsplit(" M=", maxsplit=1)[0]
        return f"{self.model}: {shape}, {_KIND_WORDS[self.device.kind]} {self.device.name}"

    @property
    def is_drawable(self) -> bool:
        """True where the routing of its problems can be drawn here."""
        return self.problem == drawable(self.problem)

    @property
    def is_measured(self) -> bool:
        return self.device.kind is DeviceKind.CUDA


def layers_of(studies: Iterable[StoredStudy]) -> list[Layer]:
    """Studies that differ in batch size alone go together; those without a trial are left out."""
    groups: dict[tuple[Problem, Device], list[Point]] = {}
    for study in studies:
        if study.trials:
            point = Point(study, tuple(stored_results(study)))
            groups.setdefault(same_layer(study), []).append(point)
    ordered = (sorted(points, key=lambda point: point.tokens) for points in groups.values())
    return [Layer(tuple(points)) for points in ordered]


def same_layer(study: StoredStudy) -> tuple[Problem, Device]:
    """Equal for studies of one layer: the expert-parallel rank follows from the batch size."""
    key = study.key
    return replace(key.problem, tokens=1, ep_rank=0), key.device


def result_for(point: Point, engine: str) -> Result | None:
    return next((result for result in point.results if result.engine.name == engine), None)


def is_default(result: Result) -> bool:
    """True where what is written is what the engine launches without a file."""
    default = result.default
    return default is not None and pair_of(result.config) == pair_of(default)


def time_of(result: Result, config: AnyConfig) -> float | None:
    """Mean µs of a config in this study: as a finalist, else as a trial; None if never timed."""
    complete = (entry for entry in result.entries if entry.complete)
    timed: list[Finalist | Measured] = [*result.finalists, *complete]
    return next((entry.geomean_us for entry in timed if entry.config == config), None)
