"""The subject of a report: every tuned batch size of one layer on one device, together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from autotune.engines import ENGINES, Found
from autotune.errors import EngineFileError
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import Problem
from autotune.studies.pairs import completed_as_asked
from autotune.studies.selection.finalists import Finalist
from autotune.studies.study_record import MeasuredStudy, StoredStudy
from autotune.studies.trial_record import TrialRecord
from autotune.tuning.engine_output import Result
from autotune.tuning.stored_results import stored_results
from autotune.tuning.study_words import stored_layer_words

_KIND_WORDS = {
    DeviceKind.CUDA: "measured on",
    DeviceKind.ESTIMATE: "estimated for",
    DeviceKind.REPLAY: "replayed from",
}


@dataclass(frozen=True)
class TunedSize:
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
        """Time of the fastest config that is written; None where nothing was measured."""
        times = [result.winner.geomean_us for result in self.results if result.winner]
        return min(times, default=None)

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """Trials that were measured to the end."""
        return [entry for entry in self.study.measured if entry.complete]


@dataclass(frozen=True)
class TunedLayer:
    """The batch sizes of one problem, ascending."""

    sizes: tuple[TunedSize, ...]

    @property
    def problem(self) -> Problem:
        """Any of its problems: only ``tokens`` and the loaded rank differ."""
        return self.sizes[0].problem

    @property
    def device(self) -> Device:
        return self.sizes[0].study.key.device

    @property
    def studies(self) -> list[StoredStudy]:
        return [size.study for size in self.sizes]

    @property
    def tokens(self) -> list[int]:
        return [size.tokens for size in self.sizes]

    @property
    def engines(self) -> list[str]:
        """Names of the engines that this layer serves, in the project's order."""
        served = {result.engine.name for size in self.sizes for result in size.results}
        return [name for name in ENGINES if name in served]

    @property
    def model(self) -> str:
        """Every model that was tuned under this shape: models of one shape share studies."""
        names = {name for size in self.sizes for name in size.study.attrs.model_names}
        return ", ".join(sorted(names))

    @property
    def title(self) -> str:
        """ "DeepSeek-V3 TP8 fp8_w8a8, measured on NVIDIA H200"."""
        names = {stored_layer_words(size.study.attrs, size.problem) for size in self.sizes}
        words = ", ".join(sorted(names))
        return f"{words}, {_KIND_WORDS[self.device.kind]} {self.device.name}"


def layers_of(studies: Iterable[StoredStudy]) -> list[TunedLayer]:
    """Put studies that differ in batch size alone together; those without a trial are left out."""
    groups: dict[tuple[Problem, Device], list[TunedSize]] = {}
    for study in studies:
        if study.trials:
            size = TunedSize(study, tuple(stored_results(study)))
            groups.setdefault(same_layer(study), []).append(size)
    ordered = (sorted(sizes, key=lambda size: size.tokens) for sizes in groups.values())
    return [TunedLayer(tuple(sizes)) for sizes in ordered]


def same_layer(study: MeasuredStudy) -> tuple[Problem, Device]:
    """Return a key that studies of one layer share; its EP rank follows from the batch size."""
    key = study.key
    return replace(key.problem, tokens=1, ep_rank=0), key.device


def result_for(size: TunedSize, engine: str) -> Result | None:
    return next((result for result in size.results if result.engine.name == engine), None)


def speedup_of(size: TunedSize, engine: str) -> float | None:
    """Return the time of the engine's default over that of what is written; None without both."""
    result = result_for(size, engine)
    if result is None or result.winner is None or result.default_us is None:
        return None
    return result.default_us / result.winner.geomean_us


def time_of(result: Result, config: AnyConfig) -> float | None:
    """Return the mean µs of a config: as a finalist, else as a trial; None if never timed."""
    complete = (entry for entry in result.measured if entry.complete)
    timed: list[Finalist | TrialRecord] = [*result.finalists, *complete]
    return next((entry.geomean_us for entry in timed if entry.config == config), None)


def shipped_us(layer: TunedLayer, engine: str) -> dict[int, float]:
    """Return batch size → µs of the shipped config, where one is found here and was measured."""
    found = {}
    for size in layer.sizes:
        result, shipped = result_for(size, engine), shipped_config(size, engine)
        if result is None or shipped is None:
            continue
        config = completed_as_asked(size.problem, layer.device, shipped.config)
        time_us = time_of(result, config)
        if time_us is not None:
            found[size.tokens] = time_us
    return found


def shipped_config(size: TunedSize, engine: str) -> Found | None:
    """Return the installed engine's own entry; None where it is not installed or ships none."""
    folder = ENGINES[engine].installed_config_folder()
    if folder is None:
        return None
    try:
        return ENGINES[engine].lookup(folder, size.problem, size.study.key.device, size.tokens)
    except EngineFileError:
        return None
