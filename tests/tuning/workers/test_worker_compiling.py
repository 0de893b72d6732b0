"""A worker whose configs are compiled ahead, by compilers and on a device that misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from compilers import ABORT, FINE, HANG, RAISE, faulty_compiler  # type: ignore[import-not-found]
from fakes import FaultyMeasurer, SaidByChild  # type: ignore[import-not-found]
from optuna.study import Study
from test_worker_loop import Recorder, _tuning_study  # type: ignore[import-not-found]

from autotune.backends.binaries import Binaries, LaunchBinary, gemm_binaries
from autotune.backends.protocol import Measurer
from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.problem import Problem
from autotune.studies.coordination.leases import Census, Lease
from autotune.studies.outcome import TrialResult
from autotune.studies.search.pruning import Stop
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.trial_io import enqueue
from autotune.studies.trial_record import outcome_counts
from autotune.tuning.compile_service.client import CompileClient
from autotune.tuning.compile_service.pool import CompilePool
from autotune.tuning.processes.child import Child
from autotune.tuning.tuning_study import TuningStudy
from autotune.tuning.workers.worker_loop import Worker


class LeavesThen(Recorder):  # type: ignore[misc]
    """A parent that asks to leave once there is a trial."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self._study = study

    @property
    def requested(self) -> bool:
        return bool(self._study.get_trials(deepcopy=False))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _worker(
    stack: ExitStack,
    database: str,
    studies: list[TuningStudy],
    pool: CompilePool,
    parent: Recorder,
    *,
    measurer: Callable[[], FaultyMeasurer] = FaultyMeasurer,
    asks_child: bool = False,
) -> Worker:
    storage = open_storage(database, create=True)
    child = Child(measurer)
    stack.callback(child.close)
    stack.callback(pool.close)
    child.call(Measurer.device)
    return Worker(
        studies,
        child,
        lease=stack.enter_context(Lease(storage, "cuda:0")),
        census=Census(storage),
        parent=parent,
        run_timeout_s=60.0,
        compiles=CompileClient(pool.connect()),
        asks_child=asks_child,
    )


def _pool(folder: Path, **options: float) -> CompilePool:
    opened = partial(faulty_compiler, folder)
    limits = {"timeout_s": 4.0, **options}
    pool = CompilePool(opened)
    pool.start(Target("cuda", 90), 2, **limits)  # type: ignore[arg-type]
    return pool


def _space(*hows: int) -> Space:
    return Space(Config(m, 64, 64, g, 4, s) for s in hows for m in (16, 32) for g in (1, 8))


def test_what_does_not_compile_never_reaches_the_device(
    stack: ExitStack, database: str, tmp_path: Path
) -> None:
    study = _tuning_study(database, _space(FINE, ABORT, HANG, RAISE), target=100)
    pool = _pool(tmp_path)
    _worker(stack, database, [study], pool, Recorder()).run()
    counts = outcome_counts(study.optuna_study.trials)
    assert counts == {"ok": 4, "compile error": 8, "compile timeout": 4}
    assert study.ended == "every config of the space was tried"
    compiles = (tmp_path / "log").read_text().splitlines()
    assert len(compiles) == pool.spent.binaries == 8  # GROUP_SIZE_M shares them
    charged = sum(trial.user_attrs.get("ahead_s", 0.0) for trial in study.optuna_study.trials)
    assert charged == pytest.approx(pool.spent.seconds, abs=0.02)


def test_an_engines_child_says_what_is_compiled(
    stack: ExitStack, database: str, tmp_path: Path
) -> None:
    study = _tuning_study(database, _space(FINE, ABORT), target=100)
    pool = _pool(tmp_path)
    _worker(stack, database, [study], pool, Recorder(), measurer=SaidByChild, asks_child=True).run()
    counts = outcome_counts(study.optuna_study.trials)
    # those of GROUP_SIZE_M 8 that nobody compiled end the device's process, twice each
    assert counts == {"ok": 4, "compile error": 2, "crashed": 2}
    assert pool.spent.binaries == 4  # of GROUP_SIZE_M 1, two tiles, fine and not


class Writing(SaidByChild):  # type: ignore[misc]
    """Writes down what it is asked about."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def binaries(self, problem: Problem, configs: tuple[Config, ...]) -> tuple[Binaries, ...]:
        with self._file.open("a") as file:
            file.writelines(f"{config}\n" for config in configs)
        found: tuple[Binaries, ...] = super().binaries(problem, configs)
        return found


def test_the_child_is_asked_about_what_it_has_not_told(
    stack: ExitStack, database: str, tmp_path: Path
) -> None:
    study = _tuning_study(database, _space(FINE, RAISE), target=100)
    known, asked = study.space.configs[0], tmp_path / "asked"
    measurer = partial(Writing, asked)
    worker = _worker(
        stack, database, [study], _pool(tmp_path), Recorder(), measurer=measurer, asks_child=True
    )
    worker._known.tell(study.problem, [known], [gemm_binaries(study.problem, known)])
    worker.run()
    lines = asked.read_text().splitlines()
    assert sorted(set(lines)) == sorted(map(str, study.space.configs[1:]))
    assert len(lines) <= 2 * len(set(lines))  # a child that dies takes its answers with it
    assert len(study.measured) == 4


class Turning(SaidByChild):  # type: ignore[misc]
    """Writes down whose weights each call needs."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def binaries(self, problem: Problem, configs: tuple[Config, ...]) -> tuple[Binaries, ...]:
        self._note(problem)
        found: tuple[Binaries, ...] = super().binaries(problem, configs)
        return found

    def measure(self, problem: Problem, config: Config, *, stop: Stop | None = None) -> TrialResult:
        self._note(problem)
        found: TrialResult = super().measure(problem, config, stop=stop)
        return found

    def _note(self, problem: Problem) -> None:
        with self._file.open("a") as file:
            file.write(f"{problem.hidden}\n")


def test_a_device_turns_to_another_models_weights_once(
    stack: ExitStack, database: str, tmp_path: Path
) -> None:
    space = Space(Config(m, 64, 64, 1, 4, FINE) for m in (16, 32))
    studies = []
    for hidden, tokens in product((2048, 4096, 1024), (1, 64, 512)):
        study = _tuning_study(database, space, target=2, tokens=tokens, hidden=hidden)
        enqueue(study.optuna_study, space, [(config, "first") for config in space.configs])
        studies.append(study)
    needed = tmp_path / "needed"
    pool, measurer = _pool(tmp_path), partial(Turning, needed)
    _worker(stack, database, studies, pool, Recorder(), measurer=measurer, asks_child=True).run()
    assert all(len(study.measured) == 2 for study in studies)
    lines = needed.read_text().splitlines()
    turns = [hidden for i, hidden in enumerate(lines) if i == 0 or hidden != lines[i - 1]]
    assert len(turns) == 3, turns


def test_only_what_needs_the_weights_at_hand_is_compiled_before_it_is_asked(
    stack: ExitStack, database: str, tmp_path: Path
) -> None:
    space = _space(FINE)
    studies = [_tuning_study(database, space, target=2, hidden=hidden) for hidden in (512, 1024)]
    for study in studies:
        enqueue(study.optuna_study, space, [(space.configs[0], "first")])
        study.view.read()
    worker = _worker(stack, database, studies, _pool(tmp_path), Recorder(), asks_child=True)
    for study in studies[::-1]:
        worker._turn_to_layer(study.problem)
        assert [question.problem for question in worker._first] == [study.problem]


def test_a_child_that_dies_of_the_question_measures_all_the_same(
    stack: ExitStack, database: str, tmp_path: Path
) -> None:
    space = Space(Config(16, 64, 64, g, 4, FINE) for g in (1, 7))
    study, pool = _tuning_study(database, space, target=2), _pool(tmp_path)
    _worker(stack, database, [study], pool, Recorder(), measurer=SaidByChild, asks_child=True).run()
    assert outcome_counts(study.optuna_study.trials) == {"ok": 2}


class Talkative(SaidByChild):  # type: ignore[misc]
    """Its answers take as much as a pipe holds."""

    def binaries(self, problem: Problem, configs: tuple[Config, ...]) -> tuple[Binaries, ...]:
        return ({"up": LaunchBinary("key", "module", "kernel", "x" * 300_000)},) * len(configs)


def test_questions_and_answers_fit_the_childs_link(
    stack: ExitStack, database: str, tmp_path: Path
) -> None:
    space = Space(Config(16, 64, 64, g, 4, FINE) for g in range(1, 60))
    study, pool = _tuning_study(database, space, target=2), _pool(tmp_path)
    enqueue(study.optuna_study, space, [(config, "file") for config in space.configs])
    study.view.read()
    many = [study] * 100
    parent = Recorder(leave_at=FINE)
    worker = _worker(stack, database, many, pool, parent, measurer=Talkative, asks_child=True)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_a_pool_that_is_gone_leaves_compiling_to_the_device(
    stack: ExitStack, database: str, tmp_path: Path
) -> None:
    study, pool = _tuning_study(database, _space(FINE), target=4), _pool(tmp_path)
    pool.close()
    _worker(stack, database, [study], pool, Recorder()).run()
    assert outcome_counts(study.optuna_study.trials) == {"ok": 4}


def test_it_does_not_wait_for_compiles_when_it_leaves(
    stack: ExitStack, database: str, tmp_path: Path
) -> None:
    study = _tuning_study(database, _space(HANG), target=4)
    pool = _pool(tmp_path, timeout_s=600.0)
    began = time.monotonic()
    _worker(stack, database, [study], pool, LeavesThen(study.optuna_study)).run()
    assert time.monotonic() - began < 60
    assert set(outcome_counts(study.optuna_study.trials)) == {"interrupted"}
