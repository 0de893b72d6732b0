"""What a run shows while it runs: a live table on a terminal, a line per study elsewhere.

Everything goes to stderr; stdout is for results.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from autotune.kernels.device import Device, DeviceKind
from autotune.models import ModelShape
from autotune.studies.outcome import TrialResult
from autotune.tune.plan import Unit

_log = logging.getLogger(__name__)
_ROWS = 6
"""Studies shown at once: those in work and the last that ended."""


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


class LiveDisplay:
    """Batch sizes, trials, best µs, speed-up and time left, redrawn a few times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._units: Sequence[Unit] = ()
        self._began = time.monotonic()
        self._at_start = 0

    def started(self, shape: ModelShape, device: Device, units: Sequence[Unit]) -> None:
        self._console.print(f"{shape.name}: {device_line(device)}")
        self._units = units
        self._at_start = sum(min(len(unit.entries), unit.target) for unit in units)
        total = sum(unit.target for unit in units)
        self._task = self._bar.add_task("trials", total=total, completed=self._at_start, left="")
        self._began = time.monotonic()
        self._live.start()
        self._draw()

    def trial_told(self, unit: Unit, result: TrialResult) -> None:
        self._draw()

    def unit_ended(self, unit: Unit) -> None:
        self._draw()

    def tick(self) -> None:
        self._draw()

    def close(self) -> None:
        self._live.stop()

    def _draw(self) -> None:
        done = sum(min(len(u.entries), u.target) for u in self._units if not u.ended)
        done += sum(u.target for u in self._units if u.ended)
        self._bar.update(self._task, completed=done, left=self._time_left(done))
        self._live.update(Group(study_table(self._shown()), self._bar))

    def _time_left(self, done: int) -> str:
        new = done - self._at_start
        if not new:
            return ""
        rate = (time.monotonic() - self._began) / new
        left = rate * (sum(unit.target for unit in self._units) - done)
        return f"about {seconds_words(left)} left"

    def _shown(self) -> list[Unit]:
        busy = [unit for unit in self._units if unit.in_flight]
        ended = [unit for unit in self._units if unit.entries and not unit.in_flight]
        shown = ended[-(_ROWS - len(busy)) :] + busy if len(busy) < _ROWS else busy[:_ROWS]
        return sorted(shown, key=lambda unit: unit.key.problem.tokens)


class PlainDisplay:
    """A log line when a run starts and when a study ends: for files, pipes and --quiet."""

    def started(self, shape: ModelShape, device: Device, units: Sequence[Unit]) -> None:
        _log.info("%s: %s; %d studies", shape.name, device_line(device), len(units))

    def trial_told(self, unit: Unit, result: TrialResult) -> None:
        _log.debug("%s: %s %s", unit.study.study_name, result.outcome.value, result.reason)

    def unit_ended(self, unit: Unit) -> None:
        best = "nothing measured" if unit.best_us is None else f"best {unit.best_us:.1f} µs"
        words = f", {_speedup(unit)} the default" if _speedup(unit) else ""
        count, name = len(unit.entries), unit.key.problem.tokens
        _log.info("batch size %d: %s%s, %d measurements", name, best, words, count)

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass


def study_table(units: Sequence[Unit]) -> Table:
    """One row per study."""
    table = Table(box=None, padding=(0, 1))
    for name in ("batch size", "trials", "best µs", "default µs", "speed-up"):
        table.add_column(name, justify="right")
    for unit in units:
        table.add_row(
            str(unit.key.problem.tokens),
            f"{len(unit.entries)}/{unit.target}",
            _us(unit.best_us),
            _us(unit.default_us),
            _speedup(unit),
        )
    return table


def seconds_words(seconds: float) -> str:
    """ "2 min 5 s" and the like."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _us(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _speedup(unit: Unit) -> str:
    if unit.best_us is None or unit.default_us is None:
        return ""
    return f"{unit.default_us / unit.best_us:.2f}×"
