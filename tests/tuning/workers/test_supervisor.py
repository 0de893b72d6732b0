"""Runs of several workers, with real processes that are really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
from alive import is_alive

from autotune.backends.protocol import MeasurerOptions
from autotune.errors import DeviceError, ProviderError, StorageLostError
from autotune.report.terminal.run_display import PlainDisplay
from autotune.settings import RunSettings
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.studies.trial_record import outcome_counts
from autotune.tuning.jobs import Job
from autotune.tuning.session import run
from autotune.tuning.time_line import DeviceTime
from autotune.tuning.tuning_study import StudyPlan, TuningStudy
from autotune.tuning.workers.protocol import (
    DescribeSpaces,
    FinalsMeasured,
    MeasureFinals,
    SearchFinished,
    SpacesDescribed,
    StartSearch,
    WorkerCrashed,
    WorkerReady,
    WorkerSpec,
)
from autotune.tuning.workers.supervisor import WorkerDied, WorkerSupervisor

Make = Callable[..., RunSettings]
GPU = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 1, "3.6.0")
READY = WorkerReady(GPU)


class KillingDisplay(PlainDisplay):
    """Kills a worker, or a worker's child, after so many trials."""

    def __init__(self, after: int, *, child: bool) -> None:
        super().__init__()
        self._left = after
        self._child = child

    def trial_told(self, study: TuningStudy, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            victims = _children(os.getpid())
            if self._child:
                victims = [child for worker in victims for child in _children(worker)]
            os.kill(victims[0], signal.SIGKILL)


def _children(pid: int) -> list[int]:
    """Processes that Python's multiprocessing started for this one."""
    children = (child for child in psutil.Process(pid).children() if is_alive(child.pid))
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def _stored(database: str) -> list[StoredStudy]:
    return stored_studies(open_storage(database, create=False))


def _counts(database: str) -> list[dict[str, int]]:
    return [outcome_counts(study.trials) for study in _stored(database)]


def _many(settings: Make, **changes: object) -> RunSettings:
    values = {"jobs": 2, "trials": 20, "sampler": "random", **changes}
    return settings(**values)


def test_workers_share_the_work_and_measure_nothing_twice(
    settings: Make, database: str, landscape: Path
) -> None:
    slow = f"replay:{landscape}@50ms"  # or the first one is done before the other has begun
    report = run(_many(settings, device=slow), database, PlainDisplay())
    assert (report.measured, report.unfinished, report.failed) == (40, 0, {})
    for study in _stored(database):
        configs = [entry.config for entry in study.measured]
        assert len(configs) == len(set(configs)) == 20
    trials = [trial for study in _stored(database) for trial in study.trials]
    assert len({trial.user_attrs["worker"] for trial in trials}) >= 2  # none was left in the queue


@pytest.mark.parametrize("child", [False, True], ids=["worker", "child"])
def test_a_killed_process_costs_nothing_that_was_told(
    settings: Make, database: str, child: bool, caplog: pytest.LogCaptureFixture
) -> None:
    report = run(_many(settings), database, KillingDisplay(10, child=child))
    assert (report.measured, report.unfinished) == (40, 0)
    assert [len(study.measured) for study in _stored(database)] == [20, 20]
    assert all("running" not in counts for counts in _counts(database))
    assert ("another takes its place" in caplog.text) is not child


@pytest.fixture
def started(settings: Make, database: str) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts the same run in processes of their own."""
    code = (
        "import sys, json; from autotune.settings import RunSettings, settings_from\n"
        "from autotune.tuning.session import run\n"
        "from autotune.report.terminal.run_display import PlainDisplay\n"
        "if __name__ == '__main__':\n"
        "    settings = settings_from(RunSettings, json.loads(sys.argv[1]))\n"
        "    sys.exit(130 if run(settings, sys.argv[2], PlainDisplay()).interrupted else 0)\n"
    )
    script = Path(database.removeprefix("sqlite:///")).with_name("start.py")
    script.write_text(code)
    # So slow that no run ends before a test has seen what it waits for, on a busy machine too.
    slow = f"{settings().device}@200ms"
    text = json.dumps(_many(settings, jobs=2, trials=40, device=slow).as_json())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, str(script), text, database]
        processes.append(subprocess.Popen(command, env=environment))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def _wait_for(database: str, measured: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(0.2)
        try:
            if sum(len(study.measured) for study in _stored(database)) >= measured:
                return
        except Exception:  # noqa: BLE001  it is being made
            continue
    pytest.fail("nothing was measured")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_kill_9_of_the_parent_ends_all_and_the_next_run_goes_on(
    started: Callable[[], subprocess.Popen[bytes]], database: str
) -> None:
    first = started()
    _wait_for(database, 10)
    workers = _children(first.pid)
    all_of_them = [*workers, *(child for worker in workers for child in _children(worker))]
    assert len(all_of_them) == 4
    first.kill()
    first.wait()
    before = _measured(database)
    until = time.monotonic() + 10
    while any(is_alive(pid) for pid in all_of_them) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(is_alive(pid) for pid in all_of_them)
    assert started().wait(120) == 0
    assert before <= _measured(database)
    assert [len(study.measured) for study in _stored(database)] == [40, 40]
    assert all("running" not in counts for counts in _counts(database))


def test_two_runs_join_and_one_that_is_interrupted_leaves_in_time(
    started: Callable[[], subprocess.Popen[bytes]], database: str
) -> None:
    first = started()
    _wait_for(database, 5)
    second = started()
    _wait_for(database, 15)
    began = time.monotonic()
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 130
    assert time.monotonic() - began < 12
    assert second.wait(120) == 0
    assert [len(study.measured) for study in _stored(database)] == [40, 40]
    assert all("running" not in counts for counts in _counts(database))


def _measured(database: str) -> set[tuple[str, int]]:
    return {(s.name, entry.trial_number) for s in _stored(database) for entry in s.measured}


class FakeProcess:
    """A process that only has a pipe: what it says was written before."""

    def __init__(self, link: Connection) -> None:
        self.link = link

    def kill(self, grace_s: float = 0.0) -> int | None:
        self.link.close()
        return None


def _supervisor(
    *names: str, providers: Sequence[str] = (), refusal: Exception | None = None
) -> tuple[WorkerSupervisor, list[Connection]]:
    """Workers that are ready with GPUs of these names, and their ends of the links. Those of vllm
    may fail, and do with ``refusal``, or by dying where there is none."""
    ends = []

    def start(spec: WorkerSpec) -> FakeProcess:
        ours, theirs = Pipe()
        method = spec.options.provider
        gpu = Device(DeviceKind.CUDA, names[spec.number], Target("cuda", 90), 1, "3.6.0", method)
        if method != "vllm":
            theirs.send(WorkerReady(gpu))
        elif refusal is not None:
            theirs.send(refusal)
        if method == "vllm":
            theirs.close()
        ends.append(theirs)
        return FakeProcess(ours)

    return WorkerSupervisor(_specs(len(names), providers), start, may_fail=["vllm"]), ends


def _specs(count: int, providers: Sequence[str] = ()) -> list[WorkerSpec]:
    owners = list(providers) or ["autotune"] * count
    return [
        WorkerSpec(
            f"cuda:{i}",
            MeasurerOptions(cache_dir=Path("unused"), provider=owners[i]),
            "sqlite:///a.db",
            i,
            f"{i} {owners[i]}",
        )
        for i in range(count)
    ]


def test_devices_are_told_by_the_kernel_that_is_measured() -> None:
    supervisor, _ = _supervisor(*["NVIDIA H200"] * 3, providers=["autotune", "sglang", "sglang"])
    found = supervisor.ready()
    assert {name: device.method for name, device in found.items()} == {
        "autotune": "autotune",
        "sglang": "sglang",
    }


@pytest.mark.parametrize(
    ("refusal", "words"),
    [(ProviderError("vLLM lacks fused_experts"), "lacks fused_experts"), (None, "died")],
)
def test_an_engine_that_cannot_be_used_is_left_out_with_its_reason(
    settings: Make, refusal: Exception | None, words: str
) -> None:
    supervisor, _ = _supervisor(
        *["NVIDIA H200"] * 4, providers=["vllm", "sglang", "vllm", "autotune"], refusal=refusal
    )
    assert set(supervisor.ready()) == {"sglang", "autotune"}
    assert set(supervisor.refused) == {"vllm"}
    assert words in supervisor.refused["vllm"]
    supervisor.begin([], settings(), None)
    supervisor.listen()  # the others'
    assert supervisor.is_at_work


def test_workers_may_come_later() -> None:
    supervisor, ends = _supervisor("NVIDIA H200", "NVIDIA H200", providers=["vllm", "sglang"])
    assert set(supervisor.ready()) == {"sglang"}
    supervisor.add(_specs(1))
    assert set(supervisor.ready()) == {"sglang", "autotune"}
    assert len(ends) == 3


def test_problems_are_described_by_the_device_that_measures_them() -> None:
    supervisor, ends = _supervisor("NVIDIA H200", "NVIDIA H200", providers=["autotune", "sglang"])
    supervisor.ready()
    small, large = Problem(8, 2, 64, 32, 1), Problem(8, 2, 64, 32, 512)
    with ThreadPoolExecutor(1) as pool:
        questions = [("sglang", [large]), ("autotune", [small, large])]
        described = pool.submit(supervisor.describe, questions)
        for end, expected in zip(ends, ((small, large), (large,)), strict=True):
            assert end.poll(20)
            assert end.recv() == DescribeSpaces(expected)
            end.send(SpacesDescribed(expected))  # type: ignore[arg-type]
        assert described.result(20) == [(large,), (small, large)]


def test_questions_are_put_while_devices_open() -> None:
    supervisor, ends = _supervisor("NVIDIA H200", "NVIDIA H200", providers=["autotune", "sglang"])
    small = Problem(8, 2, 64, 32, 1)
    supervisor.ask([("autotune", [small])], 6)
    ready: list[str] = []
    assert set(supervisor.ready(lambda provider, _: ready.append(provider))) == set(ready)
    assert sorted(ready) == ["autotune", "sglang"]
    assert ends[0].recv() == DescribeSpaces((small,), 6)
    ends[0].send(SpacesDescribed((small,)))  # type: ignore[arg-type]
    assert supervisor.describe([("autotune", [small])], 6) == [(small,)]
    assert not ends[0].poll()


def test_an_answer_to_a_question_of_before_is_none_to_the_next() -> None:
    supervisor, [end] = _supervisor("NVIDIA H200")
    small, large = Problem(8, 2, 64, 32, 1), Problem(8, 2, 64, 32, 512)
    supervisor.ask([("autotune", [small])])
    supervisor.ready()
    assert end.recv() == DescribeSpaces((small,))
    end.send(SpacesDescribed((small,)))  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as pool:
        described = pool.submit(supervisor.describe, [("autotune", [small, large])])
        assert end.poll(20)
        assert end.recv() == DescribeSpaces((small, large))
        end.send(SpacesDescribed((small, large)))  # type: ignore[arg-type]
        assert described.result(20) == [(small, large)]


def test_models_are_described_side_by_side_and_one_that_is_refused_ends_nothing() -> None:
    supervisor, ends = _supervisor("NVIDIA H200", "NVIDIA H200")
    small, large = Problem(8, 2, 64, 32, 1), Problem(8, 2, 64, 32, 512)
    questions = [("autotune", [small]), ("autotune", [large]), ("autotune", [small, large])]
    supervisor.ready()
    with ThreadPoolExecutor(1) as pool:
        described = pool.submit(supervisor.describe, questions)
        for end, problem in zip(ends, (small, large), strict=True):  # before any has answered
            assert end.poll(20)
            assert end.recv() == DescribeSpaces((problem,))
        refusal = DeviceError("no tensor cores for it")
        ends[1].send(SpacesDescribed(refusal))
        assert ends[1].poll(20)  # it takes the next while the other is at its first
        assert ends[1].recv() == DescribeSpaces((small, large))
        ends[1].send(SpacesDescribed((small, large)))  # type: ignore[arg-type]
        ends[0].send(SpacesDescribed((small,)))  # type: ignore[arg-type]
        first, second, third = described.result(20)
        assert (first, third) == ((small,), (small, large))
        assert str(second) == str(refusal)


def _started(*first: object) -> Callable[[WorkerSpec], FakeProcess]:
    """Starts workers of which number 0 says ``first`` and dies, and others are ready."""
    living = []

    def start(spec: WorkerSpec) -> FakeProcess:
        ours, theirs = Pipe()
        for message in [READY] if spec.number else first:
            theirs.send(message)
        if spec.number:
            living.append(theirs)
        else:
            theirs.close()
        return FakeProcess(ours)

    return start


@pytest.mark.parametrize("first", [(), (READY,)], ids=["at once", "when asked"])
def test_a_provider_whose_only_worker_dies_ends_a_run_that_has_not_begun(
    first: tuple[object, ...],
) -> None:
    supervisor = WorkerSupervisor(_specs(2, ["sglang", "autotune"]), _started(*first))
    with pytest.raises(DeviceError, match="no worker lives"):
        supervisor.ready()
        supervisor.describe([("sglang", [])])


def test_an_engine_that_is_left_out_has_no_device_though_one_gpu_was_ready() -> None:
    refusing = _started(ProviderError("vLLM lacks fused_experts"))
    specs = _specs(3, ["vllm", "autotune", "vllm"])
    supervisor = WorkerSupervisor(specs, refusing, may_fail=["vllm"])
    for worker in supervisor._workers[1:]:  # they were faster
        list(supervisor._hear(worker))
    assert set(supervisor.ready()) == {"autotune"}


def test_finals_that_were_asked_for_in_the_search_are_no_answer_to_later_ones(
    settings: Make,
) -> None:
    supervisor, [end] = _supervisor("NVIDIA H200")
    supervisor.ready()
    job = Job(Problem(8, 2, 64, 32, 1), ())
    key, space = StudyKey(job.problem, GPU, ""), Space(())
    supervisor.begin([StudyPlan(job, key, space, None, ())] * 2, settings(), None)
    supervisor.measure_early(1, "0 autotune")
    end.send(SearchFinished(DeviceTime()))
    supervisor.listen()
    events = supervisor.measure_finals([0, 1])
    assert next(events)[1] == MeasureFinals(0)
    for position in (1, 0):  # the answer to the question of before comes first
        end.send(FinalsMeasured(position, ()))
        assert next(events)[1] == FinalsMeasured(position, ())
    assert next(events)[1] == MeasureFinals(1)
    end.send(FinalsMeasured(1, ()))
    assert [event for _, event in events] == [FinalsMeasured(1, ())]


def test_finals_of_the_search_are_of_who_is_done_or_who_finished_the_study(
    settings: Make,
) -> None:
    supervisor, ends = _supervisor("NVIDIA H200", "NVIDIA H200", "NVIDIA H200")
    supervisor.ready()
    job = Job(Problem(8, 2, 64, 32, 1), ())
    plan = StudyPlan(job, StudyKey(job.problem, GPU, ""), Space(()), None, ())
    supervisor.begin([plan] * 4, settings(), None)
    assert all(isinstance(end.recv(), StartSearch) for end in ends)
    supervisor.measure_early(0, "1 autotune")
    assert ends[1].recv() == MeasureFinals(0)
    for end in (ends[0], ends[2]):
        end.send(SearchFinished(DeviceTime()))
        supervisor.listen()
    for position in (1, 2, 3):
        supervisor.measure_early(position, "1 autotune")
    asked = [[end.recv() for _ in range(2) if end.poll()] for end in ends]
    assert asked == [[MeasureFinals(1), MeasureFinals(3)], [], [MeasureFinals(2)]]


def test_unlike_gpus_are_refused() -> None:
    supervisor, _ = _supervisor("NVIDIA H100", "NVIDIA H200")
    with pytest.raises(DeviceError, match="cuda:0 is NVIDIA H100, cuda:1 is NVIDIA H200"):
        supervisor.ready()


def test_a_gpu_that_fails_in_the_middle_leaves_the_others_at_work(settings: Make) -> None:
    supervisor, ends = _supervisor("NVIDIA H200", "NVIDIA H200")
    supervisor.ready()
    supervisor.begin([], settings(), None)
    ends[0].send(DeviceError("fell off the bus"))
    ends[0].close()
    events = [supervisor.listen() for _ in range(2)]
    assert sum(isinstance(event, WorkerDied) for some in events for _, event in some) == 1
    assert supervisor.is_at_work
    assert len(ends) == 2  # and it is not started again
    ends[1].send(DeviceError("so did I"))
    with pytest.raises(DeviceError, match="so did I"):
        supervisor.listen()


def test_a_crash_that_was_not_the_workers_fault_is_not_blamed_on_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor, [end] = _supervisor("NVIDIA H200")
    supervisor.ready()
    end.send(WorkerCrashed("Traceback: in the worker"))
    supervisor.listen()
    assert "Traceback: in the worker" in caplog.text
    caplog.clear()

    def judge() -> None:
        raise StorageLostError("the storage was deleted")

    supervisor.judge = judge
    end.send(WorkerCrashed("Traceback: in the worker"))
    with pytest.raises(StorageLostError):
        supervisor.listen()
    assert caplog.text == ""


def test_spaces_are_asked_again_where_the_worker_that_was_asked_died() -> None:
    supervisor, ends = _supervisor("NVIDIA H200", "NVIDIA H200")
    supervisor.ready()
    ends[0].close()
    with ThreadPoolExecutor(1) as pool:
        spaces = pool.submit(supervisor.describe, [("autotune", [])])
        answered = _wait_for_a_question(ends)
        answered.send(SpacesDescribed(()))
        assert spaces.result(20) == [()]
    assert len(ends) == 3


def _wait_for_a_question(ends: list[Connection]) -> Connection:
    """The first end of a worker that lives on which DescribeSpaces has come."""
    for _ in range(200):
        for end in ends[1:]:
            if end.poll(0.1):
                assert isinstance(end.recv(), DescribeSpaces)
                return end
    raise AssertionError("nobody was asked")
