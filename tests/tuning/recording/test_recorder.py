from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import compilers  # type: ignore[import-not-found]
import numpy as np
import pytest
from fakes import (  # type: ignore[import-not-found]
    ABORT,
    FINE,
    HANG,
    FaultyCompiler,
    FaultyMeasurer,
    SaidByChild,
)
from gemm_times import read_gemm_times
from small_landscape import SHAPE, save_times  # type: ignore[import-not-found]

from autotune.backends.replay.recording_format import read_recording
from autotune.errors import DeviceError, UsageError
from autotune.settings import ModelSettings, RecordSettings
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome
from autotune.tuning.compile_service.pool import CompilePool
from autotune.tuning.processes.child import Child
from autotune.tuning.processes.signals import Interrupt
from autotune.tuning.recording import recorder, recording_log
from autotune.tuning.recording.recorder import (
    RecordedStudy,
    Recorder,
    is_compiled_here,
    missing_of,
    record,
)
from autotune.tuning.recording.recording_log import RecordingLog

ROOT = Path(__file__).parents[3]
CONFIGS = 216


class Counter:
    """A display that counts."""

    def __init__(self) -> None:
        self.steps = 0

    def started(self, device: Device, path: Path) -> None:
        pass

    def phase(self, words: str, done: int, total: int) -> None:
        pass

    def step(self) -> None:
        self.steps += 1

    def interrupted(self, words: str) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def wanted(landscape: Path, tmp_path: Path) -> Callable[..., RecordSettings]:
    """Makes settings that record a replayed landscape; keyword arguments replace fields."""

    def make(**changes: Any) -> RecordSettings:
        values: dict[str, Any] = {
            "model": ModelSettings(shape=SHAPE, batch_sizes=(1, 64)),
            "device": f"replay:{landscape}",
            "output": tmp_path / "recorded" / "out.npz",
            "cache_dir": tmp_path / "cache",
        }
        return RecordSettings(**(values | changes))

    return make


def test_the_whole_space_is_recorded_as_it_is_measured(
    wanted: Callable[..., RecordSettings], landscape: Path
) -> None:
    report = record(wanted(), Counter())
    assert report.missing == 0
    assert [study.problem.tokens for study in report.studies] == [1, 64]
    assert report.measured == CONFIGS - 40 + CONFIGS  # what did not compile is in no space
    recording = read_recording(report.path)
    assert recording.device == report.device
    truth = read_gemm_times(landscape)
    row = truth.configs.index(Config(16, 64, 64, 8, 4, 3))
    key = next(key for key in recording.studies if key.problem.tokens == 64)
    config = next(c for c in recording.studies[key] if str(c) == "16x64x64 G8 w4 s3")
    measurement = recording.studies[key][config].measurement
    assert measurement
    assert measurement.samples_us == pytest.approx(truth.samples_us(64)[row], rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "method", "is_compiled"),
    [
        (DeviceKind.CUDA, "whole layer, 4, cold L2", True),
        (DeviceKind.CUDA, "vllm 0.33.0: whole layer, 4, cold L2", False),
        (DeviceKind.ESTIMATE, "model", True),
        (DeviceKind.REPLAY, "whole layer, 4, cold L2", False),
    ],
)
def test_our_kernels_binaries_alone_are_compiled_here(
    kind: DeviceKind, method: str, is_compiled: bool
) -> None:
    device = Device(kind, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0", method)
    assert is_compiled_here(device) is is_compiled


def test_what_is_hopeless_gets_one_sample(wanted: Callable[..., RecordSettings]) -> None:
    model = ModelSettings(shape=SHAPE, batch_sizes=(64,))
    report = record(wanted(model=model, give_up_at=1.2), Counter())
    (results,) = read_recording(report.path).studies.values()
    whole = [r.measurement.samples_us for r in results.values() if r.outcome is Outcome.OK]
    cut = [r.measurement.samples_us for r in results.values() if r.outcome is Outcome.PRUNED]
    first = min(whole, key=sum)[0]
    assert cut
    assert whole
    assert {len(samples) for samples in cut} == {1}
    assert min(samples[0] for samples in cut) > 1.2 * first
    assert sum(samples[0] > 1.2 * first for samples in whole) < len(whole) / 2  # of the beginning


def test_run_again_it_measures_nothing(wanted: Callable[..., RecordSettings]) -> None:
    first = record(wanted(limit=20), Counter())
    counter = Counter()
    again = record(wanted(limit=20), counter)
    assert (again.measured, counter.steps) == (0, 0)
    assert [s.outcomes for s in again.studies] == [s.outcomes for s in first.studies]
    assert [s.best for s in again.studies] == [s.best for s in first.studies]


def test_more_configs_and_batch_sizes_are_added(wanted: Callable[..., RecordSettings]) -> None:
    few = ModelSettings(shape=SHAPE, batch_sizes=(1,))
    before = record(wanted(model=few, limit=10), Counter())
    report = record(wanted(limit=30), Counter())
    there = [sum(study.outcomes.values()) for study in report.studies]
    assert min(there) >= 30
    assert report.measured == sum(there) - before.measured
    assert len(read_recording(report.path).studies) == 2


def test_a_limit_is_a_random_part_that_a_seed_repeats(
    wanted: Callable[..., RecordSettings], tmp_path: Path
) -> None:
    def part(name: str, seed: int) -> set[object]:
        report = record(wanted(limit=15, seed=seed, output=tmp_path / name), Counter())
        return set(next(iter(read_recording(report.path).studies.values())))

    first = part("a.npz", 0)
    assert first == part("b.npz", 0)
    assert first != part("c.npz", 1)


def test_the_configs_of_another_file_may_be_wanted(
    wanted: Callable[..., RecordSettings], tmp_path: Path
) -> None:
    first = record(wanted(limit=8, output=tmp_path / "a.npz"), Counter())
    second = record(wanted(like=first.path, seed=1, output=tmp_path / "b.npz"), Counter())
    few, again = (read_recording(report.path).studies for report in (first, second))
    assert few.keys() == again.keys()
    assert all(set(few[key]) <= set(again[key]) for key in few)
    assert all(len(again[key]) < 30 for key in again)
    pairs = wanted(like=first.path, kernel=KernelMode.SEPARATE, output=tmp_path / "c.npz")
    assert record(pairs, Counter()).missing == 0


def test_hopeless_configs_are_stopped_early(
    wanted: Callable[..., RecordSettings], landscape: Path
) -> None:
    times = read_gemm_times(landscape)
    times.gemm_us[64][::3] *= 50
    save_times(landscape, times)
    report = record(wanted(model=ModelSettings(shape=SHAPE, batch_sizes=(64,))), Counter())
    assert report.studies[0].outcomes["pruned"] > CONFIGS / 4


def test_pairs_have_samples_of_each_gemm(wanted: Callable[..., RecordSettings]) -> None:
    report = record(wanted(kernel=KernelMode.SEPARATE, limit=12), Counter())
    for results in read_recording(report.path).studies.values():
        for result in results.values():
            assert result.outcome is Outcome.OK
            assert result.measurement
            assert len(result.measurement.up_us) == len(result.measurement.down_us) == 10


def test_times_of_two_devices_never_mix(
    wanted: Callable[..., RecordSettings], landscape: Path, tmp_path: Path
) -> None:
    record(wanted(limit=5), Counter())
    times = read_gemm_times(landscape)
    times.gemm_us[64][:] += 1
    save_times(tmp_path / "other.npz", times)
    with pytest.raises(UsageError, match="was recorded on"):
        record(wanted(limit=5, device=f"replay:{tmp_path / 'other.npz'}"), Counter())


def test_a_refusal_leaves_nothing_behind(
    wanted: Callable[..., RecordSettings], tmp_path: Path
) -> None:
    path = tmp_path / "no_recording.npz"
    np.savez(path, other=np.arange(3))
    before = set(tmp_path.iterdir())
    with pytest.raises(DeviceError):
        record(wanted(output=path), Counter())
    assert set(tmp_path.iterdir()) == before


def test_who_finishes_while_another_opens_loses_nothing(
    wanted: Callable[..., RecordSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = record(wanted(limit=5), Counter())
    path = report.path
    finished = path.rename(path.with_name("finished.npz"))

    @contextmanager
    def late_lock(path: Path, *, timeout_s: float) -> Iterator[None]:
        finished.rename(path)  # the other has it until now
        yield

    monkeypatch.setattr(recording_log, "locked", late_lock)
    logbook = RecordingLog(path)
    assert sum(map(len, logbook.studies.values())) == report.measured > 0
    logbook.close()


def test_a_deadline_leaves_what_is_there_and_the_rest_follows(
    wanted: Callable[..., RecordSettings],
) -> None:
    report = record(wanted(timeout_s=1e-3), Counter())
    assert report.missing > 0
    assert record(wanted(), Counter()).missing == 0


def test_the_time_limit_counts_from_the_first_measurement(
    wanted: Callable[..., RecordSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.accumulate(itertools.chain([0.0, 100.0], itertools.repeat(0.0)))
    monkeypatch.setattr(recorder, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert record(wanted(timeout_s=50.0), Counter()).missing == 0


def test_a_kill_loses_at_most_what_was_in_hand(
    wanted: Callable[..., RecordSettings], landscape: Path
) -> None:
    settings = wanted()
    command = [sys.executable, "-m", "autotune", "record", "--shape", SHAPE]
    command += ["--batch-size", "1", "64", "--device", f"replay:{landscape}"]
    command += ["--output", str(settings.output)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    journal = Path(f"{settings.output}.journal")
    total = 2 * CONFIGS - 40
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and _kept(journal) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    kept = _kept(journal) if journal.exists() else total  # it was faster than the kill
    with journal.open("ab") as file:
        file.write(b'\n{"in": "torn')
    report = record(settings, Counter())
    assert kept >= 5
    assert report.measured == total - kept
    assert report.missing == 0
    assert not journal.exists()


def _kept(journal: Path) -> int:
    return journal.read_bytes().count(b'"outcome"') if journal.exists() else 0


def test_two_at_once_are_refused(wanted: Callable[..., RecordSettings]) -> None:
    settings = wanted()
    logbook = RecordingLog(settings.output)
    with pytest.raises(UsageError, match="another process"):
        record(settings, Counter())
    logbook.close()


def test_a_compile_serves_all_batch_sizes_and_its_failure_is_theirs(tmp_path: Path) -> None:
    problem = Problem(experts=8, top_k=2, hidden=512, intermediate=256, tokens=1)
    stages = (FINE, ABORT, HANG)
    configs = [Config(16, 32, 64, group, 4, s) for s in stages for group in (1, 8)]
    device = FaultyMeasurer.device
    studies = [
        RecordedStudy(
            StudyKey(replace(problem, tokens=tokens), device, "0" * 12), tuple(configs), 6
        )
        for tokens in (1, 64)
    ]
    logbook, counter = RecordingLog(tmp_path / "a.npz"), Counter()
    recorder = Recorder(logbook, counter, Interrupt(), run_timeout_s=4.0)

    def children(stack: ExitStack, groups: int) -> list[Child]:
        assert groups == len(stages)
        child = Child(FaultyCompiler)  # type: ignore[arg-type]
        stack.callback(child.close)
        return [child]

    recorder.compile(studies, children)
    assert counter.steps == len(stages)
    for study in studies:
        outcomes = [r.outcome for r in logbook.results(study.key).values()]
        assert outcomes == [Outcome.CRASHED] * 2 + [Outcome.COMPILE_TIMEOUT] * 2
        assert missing_of(logbook, study) == configs[:2]
    assert logbook.compile_s == dict.fromkeys(configs[:2], 1.5)
    logbook.close()


def test_an_engines_binaries_are_compiled_ahead_as_its_child_names_them(tmp_path: Path) -> None:
    problem = Problem(experts=8, top_k=2, hidden=512, intermediate=256, tokens=1)
    refused = [Config(16, 32, 64, group, 4, compilers.REFUSE) for group in (1, 2)]
    fine, in_memory = Config(16, 32, 64, 1, 4, FINE), Config(16, 32, 64, 8, 4, compilers.REFUSE)
    configs = (*refused, fine, in_memory)
    studies = [
        RecordedStudy(
            StudyKey(replace(problem, tokens=tokens), FaultyMeasurer.device, "0" * 12), configs, 6
        )
        for tokens in (1, 64)
    ]
    logbook, counter = RecordingLog(tmp_path / "a.npz"), Counter()
    recorder = Recorder(logbook, counter, Interrupt(), run_timeout_s=30.0)
    pool = CompilePool(partial(compilers.faulty_compiler, tmp_path))
    with closing(pool), closing(Child(SaidByChild)) as child, closing(logbook):
        pool.start(FaultyMeasurer.device.target, 1)
        recorder.compile_launches(studies, child, pool)
        for study in studies:
            outcomes = {c: r.outcome for c, r in logbook.results(study.key).items()}
            assert outcomes == dict.fromkeys(refused, Outcome.COMPILE_ERROR)
            assert missing_of(logbook, study) == [fine, in_memory]
    assert counter.steps == 2  # of one key each: GROUP_SIZE_M is no constant of our kernel
    compiles = (tmp_path / "log").read_text().splitlines()
    assert len(compiles) == 2  # up and down have one binary


def test_the_command_says_what_was_recorded(
    landscape: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from autotune.cli import run_command_line

    command = ["record", "--shape", SHAPE, "--device", f"replay:{landscape}", "--batch-size", "64"]
    command += ["--limit", "9", "--output", str(tmp_path / "a.npz"), "--json"]
    assert run_command_line(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["missing"] == 0
    assert said["studies"][0]["recorded"] >= 9
    assert said["new_measurements"] == said["studies"][0]["recorded"]
    assert run_command_line([*command, "--batch-size", "63"]) == 2
    assert "63 was not recorded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"output": Path("out.json")}, r"\.npz"),
        ({"limit": 0}, "--limit"),
        ({"timeout_s": 0.0}, "--timeout"),
        ({"compile_jobs": 0}, "--compile-jobs"),
    ],
)
def test_what_cannot_be_is_refused(
    wanted: Callable[..., RecordSettings], changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        wanted(**changes)
