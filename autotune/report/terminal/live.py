"""What a run shows on a terminal: the studies in work, what each worker does, time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from autotune.models import ModelShape
from autotune.report.terminal.eta import TimeLeft, still_expected
from autotune.report.terminal.progress import device_line, log_trial, seconds_words, study_table
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device, DeviceKind
from autotune.studies.outcome import TrialResult
from autotune.studies.search.history import StudyHistory
from autotune.tune.observer import RunObserver
from autotune.tune.tuning_study import TuningStudy

_LEAST_ROWS = 6
"""Studies shown on the lowest terminal. Workers take them in turn, so all are in work at once."""
_OTHER_LINES = 3
"""Heading, bar, and where the cursor stands."""
_WORKERS = 4
"""Workers shown at once."""
_SETTLE_S = 1.5
"""Of one study's finalists on a GPU: 0.5 to 3 s measured on an H200."""


class LiveDisplay(RunObserver):
    """Redrawn a few times a second; gone when the run ends, and its summary follows."""

    def __init__(self, console: Console, *, timeout_s: float | None = None) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            expand=True,
        )
        self._studies: Sequence[TuningStudy] = ()
        self._settling: TuningStudy | None = None
        self._work: dict[int, tuple[TuningStudy, str, float]] = {}
        self._seen: dict[int, TuningStudy] = {}
        self._left = TimeLeft()
        self._until = None if timeout_s is None else time.monotonic() + timeout_s
        self._settles = False
        self._name = "worker"
        self._live = Live(
            console=console, refresh_per_second=4, transient=True, get_renderable=self._drawn
        )

    def started(
        self,
        shape: ModelShape,
        device: Device,
        studies: Sequence[TuningStudy],
        history: StudyHistory,
    ) -> None:
        self._console.print(f"{shape.name}: {device_line(device)}")
        self._studies = studies
        self._settles = device.kind is DeviceKind.CUDA
        self._name = "GPU" if self._settles else "worker"
        self._task = self._bar.add_task("trials", total=None, left="")
        self._left = TimeLeft()
        self._live.start()

    def trial_asked(self, study: TuningStudy, worker: int, config: AnyConfig) -> None:
        self._work[worker] = (study, str(config), time.monotonic())
        self._seen.pop(id(study), None)
        self._seen[id(study)] = study

    def trial_told(self, study: TuningStudy, result: TrialResult) -> None:
        log_trial(study, result)
        if result.measurement is not None:
            self._left.measured(still_expected(self._studies))

    def finals_started(self, study: TuningStudy) -> None:
        self._settling = study
        self._work.clear()

    def tick(self) -> None:
        busy = {id(study) for study in self._studies if study.in_flight}
        self._work = {n: work for n, work in self._work.items() if id(work[0]) in busy}

    def close(self, is_hurried: Callable[[], bool]) -> None:
        self._live.stop()

    def _drawn(self) -> RenderableType:
        """The whole display, as things are now."""
        if not self._studies:
            return Text("")
        done = sum(min(len(study.entries), study.target) for study in self._studies)
        total = done + math.ceil(still_expected(self._studies))
        self._bar.update(self._task, completed=done, total=total, left=self._time_left())
        workers = self._workers()
        rows = max(self._console.height - _OTHER_LINES - len(workers), _LEAST_ROWS)
        return Group(study_table(self._shown(rows)), *workers, self._bar)

    def _workers(self) -> list[Text]:
        if self._settling is not None:
            tokens = self._settling.key.problem.tokens
            return [_line(f"{self._name}: the finalists of batch size {tokens} again, in turn")]
        now = time.monotonic()
        work = sorted(dict(self._work).items())  # this is drawn by a thread of its own
        lines = [
            _line(
                f"{self._name} {number}: {config}, batch size {study.key.problem.tokens}, "
                f"{seconds_words(now - since)}"
            )
            for number, (study, config, since) in work[:_WORKERS]
        ]
        rest = len(work) - _WORKERS
        return [*lines, _line(f"and {rest} more at work")] if rest > 0 else lines

    def _time_left(self) -> str:
        if self._settling is not None:
            return "nearly done"
        seconds = self._left.seconds
        if seconds is None:
            return ""
        if self._settles:
            seconds += _SETTLE_S * sum(bool(study.entries) for study in self._studies)
        if self._until is not None:
            seconds = min(seconds, max(self._until - time.monotonic(), 0.0))
        return f"about {seconds_words(_rounded(seconds))} left"

    def _shown(self, rows: int) -> list[TuningStudy]:
        """Every study that has begun, or as many as fit: those that had the last turns."""
        seen = dict(self._seen)  # this is drawn by a thread of its own
        before = [study for study in self._studies if study.entries and id(study) not in seen]
        shown = [*before, *seen.values()][-rows:]
        return sorted(shown, key=lambda study: study.key.problem.tokens)


def _line(words: str) -> Text:
    return Text(f" {words}", style="dim", no_wrap=True, overflow="ellipsis")


def _rounded(seconds: float) -> float:
    """To what can be known: 5 s below two minutes, else 30 s."""
    step = 5 if seconds < 120 else 30
    return max(round(seconds / step), 1) * step
