"""A worker: asks ahead, has its child measure, tells behind, until no study has room.

All that workers share is the storage. It visits studies round-robin (``scheduler``), those that
it knows while they have room, then those that the fewest work on. So several may share one batch
size, and the end of a run does not wait for one of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import compress, islice
from multiprocessing.connection import Connection, wait
from typing import Any

from autotune.backends.binaries import Binaries, gemm_binaries
from autotune.backends.protocol import Measurer, TimedBinaries
from autotune.intervals import LULL_S
from autotune.spec.config import AnyConfig, config_from_keys
from autotune.spec.device import DeviceKind
from autotune.spec.measurement import CompileFailure
from autotune.spec.problem import Problem, weights_key
from autotune.studies.coordination.claims import claim
from autotune.studies.coordination.leases import Census, Lease
from autotune.studies.outcome import Outcome, TrialResult, failed_compile
from autotune.studies.search.batch_sampler import BatchSampler
from autotune.studies.storage.retry import TRANSIENT_ERRORS, hurry_from, retry_storage
from autotune.studies.trial_io import ResultWriter, abandon
from autotune.studies.trial_record import asked_config, ending, record_of
from autotune.tuning.compile_service.client import CompileClient
from autotune.tuning.finals import Rounds, finals_of, keep_finals
from autotune.tuning.processes.child import Call, Child, ChildFault
from autotune.tuning.processes.dispatch import CallQueue, result_of
from autotune.tuning.time_line import Cause, TimeLine
from autotune.tuning.tuning_study import TuningStudy
from autotune.tuning.workers.child_calls import (
    BinariesQuestion,
    FinalsRound,
    InFlightTrial,
    Item,
    Known,
    cause_of,
    trials_of,
)
from autotune.tuning.workers.protocol import (
    FinalsMeasured,
    ParentChannel,
    SearchFinished,
    StudyFinished,
    TrialFinished,
    TrialStarted,
)
from autotune.tuning.workers.scheduler import StudyScheduler

_REST_S = 0.5
"""Seconds to wait where only others have trials in work."""
TRIALS_LEAVE_S = 1.5
"""Seconds that an interrupted worker waits for the trials in flight."""
_MOST_AHEAD = 12
"""Trials in work at most: the sampler has not seen their results."""
_SLACK = 2.0
"""Asking takes twice its usual time now and then: others commit, hyperparameters are fitted."""
_LIKELY = 2
"""Configs of a study that are compiled before they are asked for: with 4, a fifth more binaries
were compiled, while others were waited for (benchmarks/workers/simulate.py)."""
_DEATHS, _KILLS = 2, 4
"""A config that ended two children is not tried again, nor one that was in hand when four were
killed."""
_GROWTH_BYTES = 4 * 2**30
"""Main memory by which a child may grow before it is replaced."""


class Worker:
    """One device's share of a run. The storage is up to date after every trial."""

    def __init__(
        self,
        studies: Sequence[TuningStudy],
        child: Child,
        *,
        lease: Lease,
        census: Census,
        parent: ParentChannel,
        run_timeout_s: float,
        seconds: float | None = None,
        growth_bytes: int = _GROWTH_BYTES,
        compiles: CompileClient[InFlightTrial] | None = None,
        asks_child: bool = False,
        start_at: int = 0,
        own: Collection[int] | None = None,
        time_line: TimeLine | None = None,
        known: Known | None = None,
    ) -> None:
        """``compiles`` has configs compiled before the child measures; without a pool it compiles.
        Where ``asks_child``, the child says what a config needs, since the kernel is an engine's.
        ``start_at`` is the study to take first where all have equally many workers; ``own`` are
        the positions of those that this device can measure, None for all; when ``seconds`` have
        passed since the first measurement began, nothing more is asked. ``time_line`` has what the
        device has done so far, ``known`` what its child has told."""
        self._studies = studies
        self._lease, self._parent = lease, parent
        self._seconds = math.inf if seconds is None else seconds
        self._deadline = math.inf if self._seconds > 0 else 0.0
        self._scheduler = StudyScheduler(
            studies,
            lease=lease,
            census=census,
            start_at=start_at,
            own=own,
            on_finished=self._on_finished,
        )
        is_estimate = any(study.key.device.kind is DeviceKind.ESTIMATE for study in studies)
        self._timed_out = Outcome.COMPILE_TIMEOUT if is_estimate else Outcome.RUN_TIMEOUT
        self._asks_child = asks_child
        self._calls: CallQueue[Item, Any] = CallQueue(
            child,
            timeout_s=run_timeout_s,
            deaths=_DEATHS,
            kills=_KILLS,
            growth_bytes=growth_bytes,
            on_start=self._on_start,
        )
        self._usual_s = 0.0
        """Seconds of one trial on the device, smoothed."""
        self._time_line = time_line or TimeLine()
        self._compiles = CompileClient() if compiles is None else compiles
        self._result_writer = ResultWriter()
        self._ask_s = 0.0
        self._layer: Problem | None = None
        """Whose weights the child has been asked for last."""
        self._first: Iterator[BinariesQuestion] = iter(())
        self._known = Known() if known is None else known
        self._questioned = 0
        """Trials that wait until the child has said what they compile."""

    def run(self) -> SearchFinished:
        """Return when all is done, time is up, or the worker shall leave. Raises
        StorageError where the storage fails for minutes."""
        try:
            while self._step():
                pass
        finally:
            self._give_up(self._compiles.clear())
            self._give_up([t for item in self._calls.drop() for t in trials_of(item)])
            self._result_writer.close()
        return SearchFinished(self._time_line.taken())

    def _turn_to_layer(self, problem: Problem) -> None:
        """Have compiled what the layer's studies measure first: of others the child would make the
        weights anew."""
        if self._layer != weights_key(problem):
            self._layer = weights_key(problem)
            self._first = self._queued(self._layer) if self._asks_child else iter(())

    def _queued(self, layer: Problem) -> Iterator[BinariesQuestion]:
        """Yield a question about what each of the layer's studies measures first."""
        for position in self._scheduler.own:
            study = self._studies[position]
            if weights_key(study.problem) != layer:
                continue
            queued = (asked_config(trial) for trial in study.view.waiting)
            likely = tuple(c for c in queued if c is not None and c in study.space)
            if likely:
                yield self._known.question(study.problem, (), likely)

    def _question(self, question: BinariesQuestion) -> None:
        if question.configs or question.is_waiting:
            self._questioned += len(question.trials)
            self._calls.submit(question, question.call)
        else:
            self._request(question)

    def _on_start(self, item: Item) -> None:
        self._time_line.turn_to(cause_of(item))
        if isinstance(item, InFlightTrial):
            self._deadline = hurry_from(min(self._deadline, time.monotonic() + self._seconds))
            self._parent.send(TrialStarted(item.position, item.asked.config))

    def _step(self) -> bool:
        """False where nothing is left to do."""
        self._result_writer.check()
        if self._is_leaving:
            self._give_up(self._compiles.clear())
        else:
            for position in self._parent.finals():
                self._begin_finals(position)
            retry_storage(self._scheduler.sweep)
            self._ask_ahead()
            if not self._calls:  # no trial is to wait behind many questions
                for question in islice(self._first, 1):
                    self._question(question)
        if self._in_work:
            self._collect()
            return self._parent.since_s <= TRIALS_LEAVE_S
        if self._is_leaving or self._scheduler.are_finished:
            return False
        # Others have what is left in work; they may fail.
        self._time_line.turn_to(Cause.OTHERS)
        time.sleep(_REST_S if self._scheduler.is_written else 0.01)
        return True

    @property
    def _is_leaving(self) -> bool:
        return time.monotonic() > self._deadline or self._parent.requested

    def _ask_ahead(self) -> None:
        """Keep the child's queue so long that it does not run dry while we ask, or compile."""
        low = self._low_water
        if len(self._calls) > low or self._in_work >= _MOST_AHEAD or self._calls.is_bloated:
            return
        began = time.monotonic()
        self._wait()
        may_turn = not self._in_work
        position = retry_storage(lambda: self._scheduler.find(may_turn=may_turn))
        if position is None:
            return
        study = self._studies[position]
        self._turn_to_layer(study.problem)
        free = min(2 * low - len(self._calls), _MOST_AHEAD - self._in_work)
        count, worker = max(min(free, study.room), 1), self._lease.worker
        asked = retry_storage(
            lambda: claim(
                study.optuna_study, study.space, study.view, worker, count=count, goal=study.goal
            )
        )
        trials = tuple(InFlightTrial(position, each) for each in asked)
        for each in asked:
            self._scheduler.begun(position, each.trial_id)
        if self._asks_child:
            known, problem = self._known, study.problem
            told = [known.get(problem, trial.asked.config) is not None for trial in trials]
            self._question(known.question(problem, tuple(compress(trials, told)), ()))
            rest, likely = compress(trials, (not each for each in told)), self._likely(study)
            self._question(known.question(problem, tuple(rest), likely))
        else:
            for trial in trials:
                self._compiles.request(trial, gemm_binaries(study.problem, trial.asked.config))
        self._submit_compiled()
        if asked:
            if not self._asks_child:
                likely = self._likely(study)
                self._prefetch(study.problem, [gemm_binaries(study.problem, c) for c in likely])
            self._ask_s = _smoothed(self._ask_s, time.monotonic() - began)
        self._wait()

    def _wait(self) -> None:
        """Note what a device waits for that has nothing to do."""
        if not self._calls:
            self._time_line.turn_to(self._awaited)

    @property
    def _awaited(self) -> Cause:
        return Cause.COMPILE if len(self._compiles) else Cause.ASK

    @property
    def _in_work(self) -> int:
        return len(self._calls) + len(self._compiles) + self._questioned

    @property
    def _low_water(self) -> int:
        """Trials that the child measures while we ask, with some slack, and at least the next."""
        if not self._usual_s:
            return 1
        needed = math.ceil(_SLACK * self._ask_s / self._usual_s)
        return min(max(needed, 1), _MOST_AHEAD // 2)

    def _likely(self, study: TuningStudy) -> tuple[AnyConfig, ...]:
        """Return what the sampler is likely to ask next."""
        sampler = study.optuna_study.sampler
        if self._compiles.connection is None or not isinstance(sampler, BatchSampler):
            return ()
        likely = retry_storage(lambda: sampler.likely(study.optuna_study, _LIKELY))
        return tuple(config_from_keys(each) for each in likely)

    def _prefetch(self, problem: Problem, likely: Sequence[Binaries]) -> None:
        if self._compiles.connection is not None:
            self._compiles.prefetch(problem, likely)

    def _submit_compiled(self) -> None:
        """Give trials that have their binaries to the child; fail those that cannot have any."""
        for trial, ahead in self._compiles.compiled():
            trial.ahead_s = ahead.seconds if ahead else 0.0
            if ahead is not None and isinstance(ahead.result, CompileFailure):
                self._tell(trial, failed_compile(ahead.result))
            else:
                self._submit(trial)

    def _submit(self, trial: InFlightTrial) -> None:
        study, config = self._studies[trial.position], trial.asked.config
        stop = study.stop(config)
        self._calls.submit(trial, Call.of(Measurer.measure, study.problem, config, stop=stop))

    def _collect(self) -> None:
        """Take in everything that is there; wait a little for the first."""
        self._wait()
        sources: list[Connection] = []
        if self._calls:
            sources.append(self._calls.connection)
        if self._compiles and self._compiles.connection is not None:
            sources.append(self._compiles.connection)
        wait(sources, timeout=LULL_S)
        for answer in self._calls.collect():
            self._note_time(answer.item, answer.value)
            if isinstance(answer.item, BinariesQuestion):
                self._take_binaries(answer.item, answer.value)
                continue
            if isinstance(answer.item, FinalsRound):
                self._take_round(answer.item, answer.value)
                continue
            self._tell(answer.item, result_of(answer.value, self._timed_out), answer.deaths)
        self._submit_compiled()

    def _begin_finals(self, position: int) -> None:
        """The device has time for a finished study's finals while others' configs compile, unless
        it holds another model's weights by now: then they wait for the end of the search."""
        study = self._studies[position]
        if self._layer not in (None, weights_key(study.problem)):
            return
        retry_storage(study.view.read)
        rounds = finals_of(study)
        if rounds is not None:
            self._submit_round(position, rounds, len(study.measured))

    def _submit_round(self, position: int, rounds: Rounds, count: int) -> None:
        item = FinalsRound(position, rounds, tuple(rounds.order()), count)
        problem = self._studies[position].problem
        self._calls.submit(item, Call.of(Measurer.measure_interleaved, problem, item.order))

    def _take_round(self, item: FinalsRound, value: tuple[TrialResult, ...] | ChildFault) -> None:
        """Go on with the next round. Where the child failed, the finals wait for the end of the
        search, when each config is measured by itself."""
        if isinstance(value, ChildFault):
            return
        item.rounds.take(item.order, value)
        if not item.rounds.are_over:
            self._submit_round(item.position, item.rounds, item.count)
            return
        study = self._studies[item.position]
        keep_finals(study, item.rounds, item.count)
        self._parent.send(FinalsMeasured(item.position, tuple(study.finalists)))

    def _take_binaries(self, question: BinariesQuestion, value: TimedBinaries | ChildFault) -> None:
        self._questioned -= len(question.trials)
        answers = None if isinstance(value, ChildFault) else value.binaries
        self._known.tell(question.problem, question.configs, answers)
        self._request(question)

    def _request(self, question: BinariesQuestion) -> None:
        """Request the compiles. What needs none is measured at once, and says itself what is wrong
        with it; so is what the child could not tell."""
        for trial in question.trials:
            if binaries := self._known.get(question.problem, trial.asked.config):
                self._compiles.request(trial, binaries)
            else:
                self._submit(trial)
        if question.likely:
            self._prefetch(question.problem, self._known.of(question.problem, question.likely))

    def _note_time(self, item: Item, value: object) -> None:
        """Note where the device's time went. What an answer does not account for is of the next
        call, or nobody had one ready."""
        following = Cause.TIME if self._calls else self._awaited
        if isinstance(value, TimedBinaries):  # the rest is what the answer waited for us
            self._time_line.spend(Cause.ENGINE, value.seconds)
            self._time_line.go_on(following)
            return
        if not isinstance(item, InFlightTrial) or not isinstance(value, TrialResult):
            self._time_line.turn_to(following)
            return
        on_device_s = value.compile_s + value.verify_s + value.measure_s
        self._usual_s = _smoothed(self._usual_s, on_device_s)
        self._time_line.spend(Cause.TURN, value.turn_s)
        self._time_line.spend(Cause.LOAD, value.compile_s)
        self._time_line.spend(Cause.VERIFY, value.verify_s)
        self._time_line.spend(Cause.TIME, value.measure_s)
        self._time_line.go_on(following)

    def _tell(self, trial: InFlightTrial, result: TrialResult, deaths: int = 0) -> None:
        position, asked = trial.position, trial.asked
        study = self._studies[position]
        result = replace(result, ahead_s=trial.ahead_s)
        end = ending(asked, result, study.default_us, deaths=deaths)
        entry = record_of(asked, result)
        if entry is not None:
            study.view.note(entry)

        def then(is_written: bool) -> None:
            if is_written:
                self._parent.send(TrialFinished(position, asked.config, result, entry))
            self._scheduler.written(asked.trial_id)

        self._result_writer.tell(study.optuna_study, end, then)

    def _on_finished(self, position: int) -> None:
        study = self._studies[position]
        self._compiles.prefetch(study.problem, ())
        self._parent.send(StudyFinished(position, study.end))

    def _give_up(self, trials: Sequence[InFlightTrial]) -> None:
        """Their configs may be asked again. A storage that fails now is told nothing: whoever
        comes next sees that we are gone."""
        for trial in trials:
            with suppress(*TRANSIENT_ERRORS):
                abandon(self._studies[trial.position].optuna_study, trial.asked)
            self._scheduler.written(trial.asked.trial_id)


def _smoothed(before: float, now: float) -> float:
    """Return a running mean in which the last few count."""
    return now if not before else 0.7 * before + 0.3 * now
