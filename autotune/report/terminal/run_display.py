"""The displays of a run: redrawn on a terminal, log lines elsewhere. Both print to stderr."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from autotune.backends.gpu.providers import PROVIDERS
from autotune.backends.stand_in import kernel_lines
from autotune.engines import ENGINES
from autotune.report.terminal.eta import TimeLeft, still_expected
from autotune.report.terminal.opening_rows import lookup_rows, written_to
from autotune.report.terminal.serving_rows import serving_rows
from autotune.report.terminal.tables import table_of, us_words
from autotune.shown import counted
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device, DeviceKind
from autotune.studies.outcome import TrialResult
from autotune.tuning.engine_output import Result
from autotune.tuning.observer import RunObserver, RunStart
from autotune.tuning.processes.signals import write_line
from autotune.tuning.tuning_study import TuningStudy

_log = logging.getLogger(__name__)
_LEAST_ROWS = 6
"""Studies shown on the lowest terminal. Workers take them in turn, so all are in work at once."""
_OTHER_LINES = 3
"""Heading, bar, and where the cursor stands."""
_WORKERS = 4
"""Workers shown at once."""
_SILENT_S = 60.0
"""Seconds without a line after which one says how far a run is, off a terminal."""
_FINALS_S = 1.5
"""Seconds for one study's finalists on a GPU: 0.5 to 3 measured on an H200."""


class LiveDisplay(RunObserver):
    """A display that is redrawn a few times a second, and gone when the run ends."""

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
        self._in_finals: TuningStudy | None = None
        self._work: dict[str, tuple[TuningStudy, str, float]] = {}
        self._seen: dict[int, TuningStudy] = {}
        self._left = TimeLeft()
        self._timeout_s = timeout_s
        self._until: float | None = None
        self._has_finals = False
        self._name = "worker"
        self._live = Live(
            console=console, refresh_per_second=4, transient=True, get_renderable=self._drawn
        )

    def started(self, start: RunStart) -> None:
        self._console.print(f"{models_words(start)}: {device_line(start.device)}")
        for line in start_lines(start):
            self._console.print(line, soft_wrap=True)
        self._studies = start.studies
        self._has_finals = start.device.kind is DeviceKind.CUDA
        self._name = "GPU" if self._has_finals else "worker"
        self._task = self._bar.add_task("trials", total=None, left="")
        self._left = TimeLeft()
        self._live.start()

    def trial_asked(self, study: TuningStudy, worker: str, config: AnyConfig) -> None:
        if self._until is None and self._timeout_s is not None:
            self._until = time.monotonic() + self._timeout_s
        self._work[worker] = (study, str(config), time.monotonic())
        self._seen.pop(id(study), None)
        self._seen[id(study)] = study

    def trial_told(self, study: TuningStudy, config: AnyConfig, result: TrialResult) -> None:
        log_trial(study, config, result)
        if result.measurement is not None:
            self._left.measured(still_expected(self._studies))

    def finals_started(self, study: TuningStudy) -> None:
        self._in_finals = study
        self._work.clear()

    def tick(self) -> None:
        busy = {id(study) for study in self._studies if study.in_flight}
        self._work = {n: work for n, work in self._work.items() if id(work[0]) in busy}

    def interrupted(self, words: str) -> None:
        self._console.print(words)

    def stopped(self) -> None:
        self._live.stop()

    def close(self, is_hurried: Callable[[], bool]) -> None:
        self._live.stop()

    def _drawn(self) -> RenderableType:
        """Return the whole display, as things are now."""
        if not self._studies:
            return Text("")
        done, total = _progress(self._studies)
        self._bar.update(self._task, completed=done, total=total, left=self._time_left())
        workers = self._workers()
        rows = max(self._console.height - _OTHER_LINES - len(workers), _LEAST_ROWS)
        return Group(study_table(self._shown(rows)), *workers, self._bar)

    def _workers(self) -> list[Text]:
        if self._in_finals is not None:
            size = study_words(self._in_finals)
            return [_line(f"{self._name}: the finalists of batch size {size} again, in turn")]
        now = time.monotonic()
        work = sorted(dict(self._work).items())  # this is drawn by a thread of its own
        lines = [
            _line(
                f"{self._name} {number}: {config}, batch size {study_words(study)}, "
                f"{seconds_words(now - since)}"
            )
            for number, (study, config, since) in work[:_WORKERS]
        ]
        rest = len(work) - _WORKERS
        return [*lines, _line(f"and {rest} more at work")] if rest > 0 else lines

    def _time_left(self) -> str:
        if self._in_finals is not None:
            return "nearly done"
        seconds = self._left.seconds
        if seconds is None:
            return ""
        if self._has_finals:
            seconds += _FINALS_S * sum(bool(study.measured) for study in self._studies)
        if self._until is not None:
            seconds = min(seconds, max(self._until - time.monotonic(), 0.0))
        return f"about {seconds_words(_rounded(seconds))} left"

    def _shown(self, rows: int) -> list[TuningStudy]:
        """Return every study that has begun, or as many as fit: those that workers took last."""
        seen = dict(self._seen)  # this is drawn by a thread of its own
        before = [study for study in self._studies if study.measured and id(study) not in seen]
        shown = {id(study) for study in [*before, *seen.values()][-rows:]}
        return [study for study in self._studies if id(study) in shown]


def _line(words: str) -> Text:
    return Text(f" {words}", style="dim", no_wrap=True, overflow="ellipsis")


def _rounded(seconds: float) -> float:
    """Round to what can be known: 5 s below two minutes, else 30 s."""
    step = 5 if seconds < 120 else 30
    return max(round(seconds / step), 1) * step


def device_line(device: Device) -> str:
    """Return one line on where the times come from."""
    if device.kind == DeviceKind.CUDA:
        return f"measuring on {device.name}, Triton {device.triton_version}"
    if device.kind == DeviceKind.REPLAY:
        return f"replaying a recording of {device.name}; files go under replayed/"
    return (
        f"nothing is measured: compiling for {device.name} with Triton {device.triton_version} "
        "and estimating its times; files go under estimated/"
    )


def start_lines(start: RunStart) -> list[str]:
    """Return lines for each engine: whose kernel is measured for its files, what it calls them and
    where it looks, and whether it opens them where it serves."""
    asked = [(e, study.problem, study.key.device) for study in start.studies for e in study.engines]
    words = [row.words for row in lookup_rows(asked, written_to(start.output_dir))]
    for model in start.models:
        of_model = [(e, s.problem, s.key.device) for s in model.studies for e in s.engines]
        label = model.label if len(start.models) > 1 else None
        words += [row.words for row in serving_rows(model.shape, of_model, label)]
    return kernel_lines(asked) + words


def models_words(start: RunStart) -> str:
    """Return the model's name; of several, each as it is split."""
    models = start.models
    return models[0].shape.name if len(models) == 1 else ", ".join(m.label for m in models)


class PlainDisplay(RunObserver):
    """A display that logs a line for a start and for each study's end, and one a minute while none
    ends: for files and pipes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_s = clock()
        self._studies: Sequence[TuningStudy] = ()

    def started(self, start: RunStart) -> None:
        self._studies, self._said_s = start.studies, self._clock()
        names, device = models_words(start), device_line(start.device)
        _log.info("%s: %s; %s", names, device, counted(len(start.studies), "study", "studies"))
        for line in start_lines(start):
            _log.info("%s", line)

    def interrupted(self, words: str) -> None:
        write_line(words)

    def trial_told(self, study: TuningStudy, config: AnyConfig, result: TrialResult) -> None:
        log_trial(study, config, result)

    def study_ended(self, study: TuningStudy) -> None:
        made = counted(len(study.measured), study.key.device.kind.noun)
        _log.info("batch size %s: %s, %s", study_words(study), _best_words(study), made)
        self._said_s = self._clock()

    def tick(self) -> None:
        if self._clock() - self._said_s < _SILENT_S or not self._studies:
            return
        done, total = _progress(self._studies)
        noun = self._studies[0].key.device.kind.noun
        _log.info("%d of about %s so far", done, counted(total, noun))
        self._said_s = self._clock()


def _progress(studies: Sequence[TuningStudy]) -> tuple[int, int]:
    """Return how many measurements there are, and how many are expected in the end."""
    done = sum(min(len(study.measured), study.target) for study in studies)
    return done, done + math.ceil(still_expected(studies))


def _best_words(study: TuningStudy) -> str:
    """Return the best time; of estimates that of what is written, for each engine: a gain within
    the model's error is none."""
    if study.best_us is None:
        return "no time"
    if study.key.device.kind is DeviceKind.ESTIMATE:
        return "; ".join(map(_written_words, study.results()))
    gain = f", {_speedup(study)} the default" if _speedup(study) else ""
    return f"best {study.best_us:.1f} µs{gain}"


def _written_words(result: Result) -> str:
    title, winner, default_us = result.engine.title, result.winner, result.default_us
    if winner is None:
        return f"nothing new for {title}"
    if result.is_kept or not default_us:
        return f"{winner.geomean_us:.1f} µs for {title}{' (kept)' if result.is_kept else ''}"
    gain = f"{default_us / winner.geomean_us:.2f}×"
    return f"{winner.geomean_us:.1f} µs for {title}, {gain} its default"


def study_words(study: TuningStudy) -> str:
    """Return the batch size, the engine where it is for one alone or on that one's kernel, and the
    model where the run has several."""
    tokens, own = study.key.problem.tokens, PROVIDERS[study.plan.job.provider].engine
    titles = [ENGINES[own].title] if own else [engine.title for engine in study.engines]
    words = f"{tokens} of {titles[0]}" if len(titles) == 1 else str(tokens)
    return f"{words}, {study.plan.label}" if study.plan.model else words


def log_trial(study: TuningStudy, config: AnyConfig, result: TrialResult) -> None:
    """Log a trial for ``--verbose``."""
    geomean_us = result.measurement.geomean_us if result.measurement else None
    words = us_words(geomean_us) + (" µs" if geomean_us else result.reason)
    size, outcome = study_words(study), result.outcome.value
    _log.debug("batch size %s: %s %s %s", size, config, outcome, words)


def study_table(studies: Sequence[TuningStudy]) -> Table:
    """Return a table with a row for each study."""
    is_estimated = any(study.key.device.kind is DeviceKind.ESTIMATE for study in studies)
    names = ["batch size", "trials", "best µs", "default µs", "speed-up"]
    if is_estimated:  # a gain within the model's error is none: the results say which is one
        names = ["batch size", "trials", "lowest µs", "default µs"]
    table = table_of(*names, numbers=names)
    for study in studies:
        table.add_row(
            study_words(study),
            f"{len(study.measured)}, done"
            if study.ended
            else f"{len(study.measured)}/{study.target}",
            us_words(study.best_us),
            us_words(study.default_us),
            *([] if is_estimated else [_speedup(study)]),
        )
    return table


def seconds_words(seconds: float) -> str:
    """Return "2 min 5 s" and the like."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _speedup(study: TuningStudy) -> str:
    if study.best_us is None or study.default_us is None:
        return ""
    return f"{study.default_us / study.best_us:.2f}×"
