"""What a trial costs the storage: CPU, wall time, rows, statements, commits.

    python benchmarks/workers/storage_cost.py [--before 0 10000] [--at-once 1 6] [--storage URL]

For each count of ``--before``, an empty storage gets so many trials, 60 in a study, as runs of
several models leave them. Then 80 trials of one more study follow: read the study, ask, tell; the
last 60 count. They are asked for and told one at a time, and several at once, as a worker does
that asks ahead of its GPU (a sampler that proposes one at a time is asked for one). "random" is
the storage's part, "surrogate" adds our sampler's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import sqlalchemy
import sqlalchemy.event
from landscape import BATCH_SIZES
from optuna.storages import RDBStorage
from optuna.study import Study

from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement, Resources
from autotune.spec.problem import Problem
from autotune.studies.coordination.claims import claim
from autotune.studies.coordination.study_view import StudyView
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.history import siblings
from autotune.studies.search.samplers import make_sampler
from autotune.studies.space import Space, moe_space
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.transactions import transactions_of
from autotune.studies.study_record import StoredStudy, open_study, stored_studies
from autotune.studies.trial_record import distributions, ending

PROBLEM = Problem(experts=128, top_k=8, hidden=2048, intermediate=768, tokens=1)
DEVICE = Device(DeviceKind.ESTIMATE, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
MEASURED, WARM_UP = 60, 20
EACH = 60
"""Trials of each study that was there before."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Once asked, once told."""

    trials: int
    ask_ms: float
    tell_ms: float
    cpu_ms: float
    """Of both."""
    is_counted: bool


def main() -> int:
    args = _arguments()
    for sampler in args.sampler:
        for before in args.before:
            with tempfile.TemporaryDirectory() as name:
                storage = args.storage or f"sqlite:///{name}/autotune.db"
                for line in _measured(storage, sampler, before, args.at_once):
                    print(line, flush=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--before", type=int, nargs="+", default=[0, 10_000])
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 6])
    parser.add_argument("--sampler", nargs="+", default=["random", "surrogate"])
    parser.add_argument("--storage", help="a database that may be filled; give one count with it")
    return parser.parse_args()


def _measured(url: str, sampler: str, before: int, at_once: Sequence[int]) -> Iterator[str]:
    storage = open_storage(url, create=True)
    for number in range(before // EACH):
        _fill(*_study(storage, _problem(number + len(at_once)), "random", []), EACH)
    known = stored_studies(storage)
    counts = _Counts(storage.engine)
    for place, count in enumerate(at_once):
        study, space = _study(storage, _problem(place), sampler, known)
        yield (
            f"{sampler}, {before} trials before, {count} at a time: "
            f"{_cost(_turns(study, space, counts, count), counts)}"
        )


def _cost(turns: Sequence[Turn], counts: _Counts) -> str:
    trials = sum(turn.trials for turn in turns)
    sums = [turn.ask_ms + turn.tell_ms for turn in turns]
    rows = ", ".join(f"{n / trials:.3g} {word}" for word, n in sorted(counts.found.items()))
    mean = sum(sums) / trials
    cpu = sum(turn.cpu_ms for turn in turns) / trials
    return (
        f"ask {median(turn.ask_ms for turn in turns):.1f} ms + tell "
        f"{median(turn.tell_ms for turn in turns):.1f} ms wall (median of {len(turns)} turns, "
        f"longest sum {max(sums):.0f} ms); for each trial {mean:.1f} ms wall, {cpu:.1f} ms CPU, "
        f"{rows}"
    )


def _problem(number: int) -> Problem:
    """Of 18 batch sizes and then another model's."""
    model, size = divmod(number, len(BATCH_SIZES))
    return replace(PROBLEM, intermediate=768 + 128 * model, tokens=BATCH_SIZES[size])


def _study(
    storage: RDBStorage, problem: Problem, sampler: str, known: Sequence[StoredStudy]
) -> tuple[Study, Space]:
    space = moe_space(problem, DEVICE)
    key = StudyKey(problem, DEVICE, space.fingerprint)
    chosen = make_sampler(
        sampler, space, 0, history=lambda wanted: siblings(wanted, known), prior_us=None
    )
    return open_study(storage, key, chosen, {}), space


def _turns(study: Study, space: Space, counts: _Counts, at_once: int) -> list[Turn]:
    view = StudyView(study)
    turns: list[Turn] = []
    asked_for = 0
    while asked_for < WARM_UP + MEASURED:
        if asked_for >= WARM_UP and turns and not turns[0].is_counted:
            counts.found.clear()
            turns.clear()
        cpu, begun = time.process_time(), time.perf_counter()
        view.read()
        asked = claim(study, space, view, "benchmark", count=at_once, goal=100_000)
        half = time.perf_counter()
        ends = [ending(each, _result(each.number), 1000.0) for each in asked]
        transactions_of(study).finish(ends)
        turns.append(
            Turn(
                trials=len(asked),
                ask_ms=1000 * (half - begun),
                tell_ms=1000 * (time.perf_counter() - half),
                cpu_ms=1000 * (time.process_time() - cpu),
                is_counted=asked_for >= WARM_UP,
            )
        )
        asked_for += len(asked)
    return turns


def _fill(study: Study, space: Space, count: int) -> None:
    configs = space.configs[:: len(space.configs) // count][:count]
    transactions = transactions_of(study)
    params = [config.as_keys() for config in configs]
    asked = transactions.begin(
        study, distributions(space), params, "benchmark", lambda tickets: [True] * len(tickets)
    )
    transactions.finish([ending(each, _result(each.number), 1000.0) for each in asked])


def _result(number: int) -> TrialResult:
    samples = tuple(500.0 + (number * 7919 + i) % 101 for i in range(10))
    return TrialResult(
        Outcome.OK,
        Measurement(samples, "benchmark"),
        resources=Resources(128, 0, 98304),
        relative_error=0.001,
        compile_s=0.004,
        measure_s=0.015,
    )


class _Counts:
    """What an engine writes: commits with something in them, statements, rows."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self.found: Counter[str] = Counter()
        sqlalchemy.event.listen(engine, "commit", self._on_commit)
        sqlalchemy.event.listen(engine, "before_cursor_execute", self._on_execute)

    def _on_commit(self, connection: Any) -> None:
        if connection.info.pop("has_written", False):
            self.found["commits"] += 1

    def _on_execute(
        self,
        connection: Any,
        _cursor: Any,
        statement: str,
        parameters: Any,
        _context: Any,
        many: bool,
    ) -> None:
        word = statement.split(None, 1)[0].upper()
        if word in ("INSERT", "UPDATE", "DELETE"):
            connection.info["has_written"] = True
            self.found["writing statements"] += 1
            self.found["rows"] += self._rows(statement, parameters, many=many)

    @staticmethod
    def _rows(statement: str, parameters: Any, *, many: bool) -> int:
        """A statement run many times, or with many tuples of values, writes as many rows."""
        if many:
            return len(parameters)
        return statement.count("), (") + 1


if __name__ == "__main__":
    sys.exit(main())
