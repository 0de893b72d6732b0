"""Progress of ``record`` and ``capture-routing``: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autotune.report.terminal.eta import TimeLeft
from autotune.report.terminal.run_display import seconds_words
from autotune.spec.device import Device, DeviceKind
from autotune.tuning.processes.signals import write_line

_log = logging.getLogger(__name__)
_LINE_EVERY_S = 20.0


class BarDisplay:
    """A progress bar for each part. Implements RecordDisplay."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console)
        self._task = self._progress.add_task("", visible=False)

    def started(self, device: Device, path: Path) -> None:
        self._console.print(f"{_how(device)} into {path}", soft_wrap=True)
        self._progress.start()

    def phase(self, words: str, done: int, total: int) -> None:
        self._task = self._progress.add_task(words, total=total, completed=done)

    def step(self) -> None:
        self._progress.advance(self._task)

    def interrupted(self, words: str) -> None:
        self._console.print(words)

    def close(self) -> None:
        self._progress.stop()


class LineDisplay:
    """A log line now and then: for files, pipes and --quiet. Implements RecordDisplay."""

    def __init__(self) -> None:
        self._words, self._done, self._total = "", 0, 0
        self._left = TimeLeft()
        self._said_at = time.monotonic()

    def started(self, device: Device, path: Path) -> None:
        _log.info("%s into %s", _how(device), path)

    def phase(self, words: str, done: int, total: int) -> None:
        self._words, self._done, self._total = words, done, total
        self._left, self._said_at = TimeLeft(), time.monotonic()
        _log.info("%s: %d of %d are there", words, done, total)

    def step(self) -> None:
        self._done += 1
        self._left.measured(self._total - self._done)
        if time.monotonic() - self._said_at > _LINE_EVERY_S:
            self._said_at = time.monotonic()
            left = self._left.seconds
            words = f", {seconds_words(left)} left" if left is not None else ""
            _log.info("%s: %d of %d%s", self._words, self._done, self._total, words)

    def interrupted(self, words: str) -> None:
        write_line(words)

    def close(self) -> None:
        pass


def _how(device: Device) -> str:
    words = {
        DeviceKind.CUDA: "measuring",
        DeviceKind.ESTIMATE: "nothing is measured: estimating",
        DeviceKind.REPLAY: "replaying",
    }
    return f"{words[device.kind]} {device.name}, Triton {device.triton_version},"


@contextmanager
def token_bar(console: Console, *, live: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that is called after each text with the tokens done and all of them."""
    if not live:
        yield _lines()
        return
    columns = (TextColumn("tokens"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", visible=False)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        yield show


def _lines() -> Callable[[int, int], None]:
    said_at = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at > _LINE_EVERY_S:
            said_at = time.monotonic()
            _log.info("recorded %d of %d tokens", done, total)

    return say
