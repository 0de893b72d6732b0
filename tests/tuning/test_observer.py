"""What the parent makes of its workers' reports, and what observers hear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from trials import ask, tell  # type: ignore[import-not-found]

from autotune.spec.config import AnyConfig, Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.lifecycle import StudyEnd
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.selection.finalists import Finalist
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.protocol import Asked
from autotune.studies.study_attributes import SearchTerms
from autotune.studies.study_record import open_study
from autotune.studies.trial_io import enqueue
from autotune.studies.trial_record import record_of
from autotune.tuning.jobs import Job
from autotune.tuning.observer import RunMonitor, RunObserver
from autotune.tuning.processes.signals import Interrupt
from autotune.tuning.time_line import DeviceTime
from autotune.tuning.tuning_study import StudyPlan, TuningStudy
from autotune.tuning.workers.protocol import (
    FinalsMeasured,
    MeasureFinals,
    SearchFinished,
    StudyFinished,
    TrialFinished,
    TrialStarted,
)
from autotune.tuning.workers.supervisor import WorkerDied

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
SPACE = Space(Config(16, 64, 64, group, 4, 3) for group in (1, 8, 16))
FIRST, SECOND, _ = SPACE.configs
RESULT = TrialResult(Outcome.OK, Measurement((2.0,), "made up"))
END = StudyEnd.converged(0.001)


class Reports:
    """A supervisor whose workers report these events, one reading after the other."""

    def __init__(self, *readings: Sequence[tuple[int, object]]) -> None:
        self._readings = list(readings)
        self.has_left = False
        self.early: list[int] = []

    @property
    def is_at_work(self) -> bool:
        return bool(self._readings)

    def listen(self) -> Sequence[tuple[int, object]]:
        return self._readings.pop(0)

    def measure_finals(self, positions: Sequence[int]) -> Iterator[tuple[int, object]]:
        while self._readings:
            yield from self._readings.pop(0)

    def measure_early(self, position: int, name: str) -> None:
        self.early.append(position)

    def leave(self) -> None:
        self.has_left = True


class Listener(RunObserver):
    """Keeps what it hears, with how many workers each study has then."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def trial_asked(self, study: TuningStudy, worker: int, config: object) -> None:
        self.heard.append(("asked", study.problem.tokens, worker, config))

    def trial_told(self, study: TuningStudy, config: AnyConfig, result: TrialResult) -> None:
        self.heard.append(("told", study.problem.tokens, len(study.measured)))

    def study_ended(self, study: TuningStudy) -> None:
        self.heard.append(("ended", study.problem.tokens, len(study.measured), study.ended))

    def finals_started(self, study: TuningStudy) -> None:
        self.heard.append(("finals", study.problem.tokens))

    def finals_measured(self, study: TuningStudy) -> None:
        self.heard.append(("finals measured", study.problem.tokens, len(study.finalists)))


@pytest.fixture
def studies(database: str) -> list[TuningStudy]:
    return [_study(database, tokens) for tokens in (1, 64)]


def _study(database: str, tokens: int) -> TuningStudy:
    problem = Problem(8, 2, 512, 256, tokens)
    key = StudyKey(problem, H200, SPACE.fingerprint)
    storage = open_storage(database, create=True)
    study = open_study(storage, key, SAMPLERS["random"](SPACE, 0), {})
    plan = StudyPlan(Job(problem, ()), key, SPACE, None, ())
    return TuningStudy(plan, study, SearchTerms("random", 3, 0.0))


def _told(position: int, number: int, config: Config) -> TrialFinished:
    return TrialFinished(position, config, RESULT, record_of(Asked(number, number, config), RESULT))


def _search(studies: list[TuningStudy], *readings: Sequence[tuple[int, object]]) -> Listener:
    listener = Listener()
    RunMonitor(studies, [listener]).search(Reports(*readings), Interrupt())  # type: ignore[arg-type]
    return listener


def test_a_trial_that_is_reported_twice_is_one_measurement(studies: list[TuningStudy]) -> None:
    told = _told(1, 0, FIRST)
    listener = _search(studies, [(0, told), (1, told)], [(0, _told(1, 1, SECOND))])
    assert [entry.config for entry in studies[1].measured] == [FIRST, SECOND]
    assert listener.heard == [("told", 64, 1), ("told", 64, 1), ("told", 64, 2)]


def test_a_failed_trial_is_told_and_measures_nothing(studies: list[TuningStudy]) -> None:
    failed = TrialFinished(0, FIRST, TrialResult(Outcome.CRASHED, reason="gone"), None)
    assert _search(studies, [(0, failed)]).heard == [("told", 1, 0)]


AT_FIRST, AT_SECOND = TrialStarted(0, FIRST), TrialStarted(1, SECOND)


@pytest.mark.parametrize(
    ("events", "counts"),
    [
        ([(0, AT_FIRST)], [1, 0]),
        ([(0, AT_FIRST), (0, AT_SECOND)], [0, 1]),
        ([(0, AT_FIRST), (1, AT_FIRST)], [2, 0]),
        ([(0, AT_FIRST), (1, AT_FIRST), (0, WorkerDied())], [1, 0]),
        ([(0, AT_FIRST), (0, SearchFinished(DeviceTime()))], [0, 0]),
    ],
)
def test_a_worker_counts_where_it_is(
    studies: list[TuningStudy], events: list[tuple[int, object]], counts: list[int]
) -> None:
    listener = _search(studies, events)
    assert [study.in_flight for study in studies] == counts
    assert listener.heard[0] == ("asked", 1, 0, FIRST)


def test_an_end_is_told_once_with_what_everybody_measured(studies: list[TuningStudy]) -> None:
    study = studies[0]
    enqueue(study.optuna_study, SPACE, [(FIRST, "another run")])
    tell(study.optuna_study, ask(study.optuna_study, SPACE), RESULT, None)
    listener = _search(studies, [(0, StudyFinished(0, END)), (1, StudyFinished(0, END))])
    assert listener.heard == [("ended", 1, 1, END.text)]
    assert (study.end, studies[1].end) == (END, None)


def test_what_devices_did_is_kept_by_worker(studies: list[TuningStudy]) -> None:
    monitor = RunMonitor(studies, [])
    one, two = DeviceTime(first_s=1.0), DeviceTime(first_s=2.0)
    events = [("0 sglang", SearchFinished(one)), ("0 vllm", SearchFinished(two))]
    monitor.search(Reports(events), Interrupt())  # type: ignore[arg-type]
    assert monitor.device_times == {"0 sglang": one, "0 vllm": two}


def test_finalists_are_taken_in(studies: list[TuningStudy]) -> None:
    listener, finalists = Listener(), (Finalist(FIRST, (1.0, 2.0)),)
    events = [(0, MeasureFinals(1)), (0, FinalsMeasured(1, finalists))]
    RunMonitor(studies, [listener]).measure_finals(Reports(events), Interrupt())  # type: ignore[arg-type]
    assert studies[1].finalists == finalists
    assert listener.heard == [("finals", 64), ("finals measured", 64, 1)]


def test_the_finals_of_what_has_ended_are_asked_for_once_and_taken_in(
    studies: list[TuningStudy],
) -> None:
    finalists = (Finalist(FIRST, (1.0, 2.0)),)
    listener = Listener()
    ended, measured = StudyFinished(1, None), FinalsMeasured(1, finalists)
    reports = Reports([("0", ended), ("1", ended)], [("1", measured)])
    RunMonitor(studies, [listener]).search(reports, Interrupt())  # type: ignore[arg-type]
    assert reports.early == [1]
    assert studies[1].finalists == finalists
    assert listener.heard[-1] == ("finals measured", 64, 1)
