"""What a run shows where there is no terminal, and the words that ``live`` shares.

Everything goes to stderr; stdout is for results.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rich.table import Table

from autotune.models import ModelShape
from autotune.spec.device import Device, DeviceKind
from autotune.studies.outcome import TrialResult
from autotune.studies.search.history import StudyHistory
from autotune.tune.observer import RunObserver
from autotune.tune.tuning_study import TuningStudy

_log = logging.getLogger(__name__)


def device_line(device: Device) -> str:
    """One line on where the times come from."""
    if device.kind == DeviceKind.CUDA:
        return f"measuring on {device.name}, Triton {device.triton_version}"
    if device.kind == DeviceKind.REPLAY:
        return f"replaying a recording of {device.name}; files go under replayed/"
    return (
        f"nothing is measured: compiling for {device.name} with Triton {device.triton_version} "
        "and estimating its times; files go under estimated/"
    )


class PlainDisplay(RunObserver):
    """A log line when a run starts and when a study ends: for files, pipes and --quiet."""

    def started(
        self,
        shape: ModelShape,
        device: Device,
        studies: Sequence[TuningStudy],
        history: StudyHistory,
    ) -> None:
        _log.info("%s: %s; %d studies", shape.name, device_line(device), len(studies))

    def trial_told(self, study: TuningStudy, result: TrialResult) -> None:
        log_trial(study, result)

    def study_ended(self, study: TuningStudy) -> None:
        best = "nothing measured" if study.best_us is None else f"best {study.best_us:.1f} µs"
        words = f", {_speedup(study)} the default" if _speedup(study) else ""
        count, name = len(study.entries), study.key.problem.tokens
        _log.info("batch size %d: %s%s, %d measurements", name, best, words, count)


def log_trial(study: TuningStudy, result: TrialResult) -> None:
    """What ``--verbose`` shows of each trial."""
    geomean_us = result.measurement.geomean_us if result.measurement else None
    words = _us(geomean_us) + (" µs" if geomean_us else result.reason)
    _log.debug("%s: %s %s", study.optuna_study.study_name, result.outcome.value, words)


def study_table(studies: Sequence[TuningStudy]) -> Table:
    """One row per study."""
    table = Table(box=None, padding=(0, 1))
    for name in ("batch size", "trials", "best µs", "default µs", "speed-up"):
        table.add_column(name, justify="right")
    for study in studies:
        table.add_row(
            str(study.key.problem.tokens),
            f"{len(study.entries)}, done"
            if study.ended
            else f"{len(study.entries)}/{study.target}",
            _us(study.best_us),
            _us(study.default_us),
            _speedup(study),
        )
    return table


def seconds_words(seconds: float) -> str:
    """ "2 min 5 s" and the like."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _us(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _speedup(study: TuningStudy) -> str:
    if study.best_us is None or study.default_us is None:
        return ""
    return f"{study.default_us / study.best_us:.2f}×"
