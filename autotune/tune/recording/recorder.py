"""Compiles and measures what a recording lacks, on child processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autotune.backends.binary_compiler import BinaryCompiler
from autotune.backends.protocol import Measurer
from autotune.backends.replay.recording_format import columns_of
from autotune.spec.binary import BOTH, binary_key
from autotune.spec.config import AnyConfig, pair_of
from autotune.spec.device import Device
from autotune.spec.measurement import Measurement
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import HOPELESS, Stop
from autotune.tune.processes.child import Call, Child, ChildFault
from autotune.tune.processes.dispatch import Answer, Item, Value, answers
from autotune.tune.processes.remote_measurer import result_of
from autotune.tune.processes.signals import Interrupt
from autotune.tune.recording.recording_log import RecordingLog


class RecordDisplay(Protocol):
    """Whoever shows how far a recording is."""

    def started(self, device: Device, path: Path) -> None:
        """What is recorded, and where to."""

    def phase(self, words: str, done: int, total: int) -> None:
        """A part begins, of which ``done`` was there before."""

    def step(self) -> None:
        """One more of the part's total."""

    def close(self) -> None:
        """Nothing more will happen."""


@dataclass(frozen=True, slots=True)
class Study:
    """One problem, and the configs of its space that are to be measured, in this order."""

    key: StudyKey
    configs: tuple[AnyConfig, ...]
    space_size: int


OpenChildren = Callable[[ExitStack, int], list[Child]]
"""Makes at most so many children, which the stack closes."""
_Group = list[tuple[Study, AnyConfig]]
"""What needs the same binaries."""


class Recorder:
    """Runs calls on children and keeps what they answer."""

    def __init__(
        self,
        logbook: RecordingLog,
        display: RecordDisplay,
        interrupt: Interrupt,
        *,
        run_timeout_s: float,
        deadline: float | None,
        give_up_at: float = HOPELESS,
    ) -> None:
        self._logbook = logbook
        self._display = display
        self._interrupt = interrupt
        self._run_timeout_s = run_timeout_s
        self._deadline = deadline
        self._give_up_at = give_up_at

    def compile(self, studies: Sequence[Study], open_children: OpenChildren) -> None:
        """Every binary that a missing result needs. One that does not come is a result of each
        config and problem that needs it."""
        groups = _binary_groups(self._logbook, studies)
        if not groups:
            return
        self._display.phase("compiling", 0, len(groups))
        calls = (
            (group, Call.of(BinaryCompiler.prepare, group[0][0].key.problem, group[0][1]))
            for group in groups
        )
        with ExitStack() as stack:
            for answer in self._answers(open_children(stack, len(groups)), calls):
                self._compiled(answer)
                self._display.step()

    def _compiled(self, answer: Answer[_Group, float]) -> None:
        for study, config in answer.item:
            if isinstance(answer.value, ChildFault):
                failure = result_of(answer.value, Outcome.COMPILE_TIMEOUT)
                self._logbook.add(study.key, config, failure)
            elif config not in self._logbook.compile_s:
                self._logbook.add_compile_s(config, answer.value)

    def measure(self, study: Study, children: Sequence[Child]) -> None:
        """Every config of the study that has no result."""
        missing = missing_of(self._logbook, study)
        if not missing:
            return
        done, total = len(study.configs) - len(missing), len(study.configs)
        self._display.phase(f"{study.key.problem.tokens} tokens", done, total)
        best, problem = _best_of(self._logbook, study), study.key.problem
        calls = (
            (config, Call.of(Measurer.measure, problem, config, stop=best.stop(self._give_up_at)))
            for config in missing
        )
        for answer in self._answers(children, calls):
            result = result_of(answer.value)
            self._logbook.add(study.key, answer.item, result)
            best.see(result)
            self._display.step()

    def _answers(
        self, children: Sequence[Child], calls: Iterator[tuple[Item, Call[Value]]]
    ) -> Iterator[Answer[Item, Value]]:
        return answers(children, calls, timeout_s=self._run_timeout_s, is_over=self._is_over)

    def _is_over(self) -> bool:
        late = self._deadline is not None and time.monotonic() > self._deadline
        return late or self._interrupt.requested


@dataclass(slots=True)
class _Best:
    """The fastest complete measurement so far; a recording stops what is hopeless, no more."""

    measurement: Measurement | None = None

    def see(self, result: TrialResult) -> None:
        new, old = result.measurement, self.measurement
        if result.outcome is Outcome.OK and new is not None:
            self.measurement = new if old is None or new.geomean_us < old.geomean_us else old

    def stop(self, give_up_at: float) -> Stop | None:
        if self.measurement is None:
            return None
        rows = zip(*columns_of(self.measurement), strict=True)
        return Stop(tuple(rows), is_paired=False, hopeless=give_up_at)


def _best_of(logbook: RecordingLog, study: Study) -> _Best:
    best = _Best()
    for result in logbook.results(study.key).values():
        best.see(result)
    return best


def missing_of(logbook: RecordingLog, study: Study) -> list[AnyConfig]:
    """The study's configs that have no result, in its order."""
    known = logbook.results(study.key)
    return [config for config in study.configs if config not in known]


def _binary_groups(logbook: RecordingLog, studies: Sequence[Study]) -> list[_Group]:
    """What shares its binaries: a compile serves every batch size and every GROUP_SIZE_M."""
    groups: dict[tuple[str, ...], _Group] = {}
    for study in studies:
        for config in missing_of(logbook, study):
            pair = pair_of(config)
            problem = study.key.problem
            keys = tuple(binary_key(problem, getattr(pair, which), which) for which in BOTH)
            groups.setdefault(keys, []).append((study, config))
    return list(groups.values())
