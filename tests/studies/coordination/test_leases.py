from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from autotune.studies.coordination.leases import Census, Lease, WorkerId, leases_of
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import stored_studies


@pytest.fixture
def storage(database: str) -> RDBStorage:
    return open_storage(database, create=True)


class Clock:
    """A monotonic clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _elsewhere(storage: RDBStorage, monkeypatch: pytest.MonkeyPatch, **kwargs: float) -> Lease:
    """A worker of a machine whose processes nobody here can see."""
    here = WorkerId.of_this_process()

    def of_elsewhere(cls: type[WorkerId]) -> WorkerId:
        return replace(here, machine="other.1", token=f"t{time.monotonic_ns()}")

    monkeypatch.setattr(WorkerId, "of_this_process", classmethod(of_elsewhere))
    return Lease(storage, "cuda:0", **kwargs)


def test_a_name_says_who_it_is() -> None:
    one, other = WorkerId.of_this_process(), WorkerId.of_this_process()
    assert WorkerId.parse(str(one)) == one
    assert one != other
    assert not one.is_gone
    assert WorkerId.parse("somebody") is None


def test_a_killed_process_is_gone_at_once_and_its_number_means_nothing() -> None:
    code = (
        "from autotune.studies.coordination.leases import WorkerId;"
        " print(WorkerId.of_this_process(), flush=1)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}; import time; time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    worker = WorkerId.parse(process.stdout.readline().decode().strip())
    assert worker is not None
    assert not worker.is_gone
    process.kill()
    process.wait()
    assert worker.is_gone
    assert replace(WorkerId.of_this_process(), started="1").is_gone  # the number was given again
    assert not replace(worker, machine="other.1").is_gone  # of another machine nothing is known


def test_silence_is_counted_by_the_looker_alone(
    storage: RDBStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    census = Census(storage, clock=clock)
    with _elsewhere(storage, monkeypatch, beat_s=0.01) as lease:
        for _ in range(3):
            clock.now += 59
            time.sleep(0.1)  # it beats meanwhile
            assert census.dead([lease.worker]) == set()
        lease._stop.set()
        lease._thread.join()
        clock.now += 3
        assert census.dead([lease.worker]) == set()
        clock.now += 55
        assert census.dead([lease.worker]) == set()
        clock.now += 6
        assert census.dead([lease.worker]) == {lease.worker}
    assert Census(storage).dead([lease.worker]) == {lease.worker}  # others need not wait again


def test_who_has_left_or_never_signed_is_dead(storage: RDBStorage) -> None:
    census = Census(storage)
    with Lease(storage, "cuda:0") as lease:
        assert census.dead([lease.worker, "nobody"]) == {"nobody"}
        assert census.living() == {lease.worker}
    census = Census(storage)
    assert census.dead([lease.worker]) == {lease.worker}
    assert census.living() == set()


def test_one_that_signed_after_the_last_look_lives(storage: RDBStorage) -> None:
    census = Census(storage)
    assert census.living() == set()
    with Lease(storage, "cuda:0") as lease:
        assert census.dead([lease.worker]) == set()


def test_one_that_was_taken_for_dead_signs_anew(storage: RDBStorage) -> None:
    with Lease(storage, "cuda:0", beat_s=0.02) as lease:
        before = lease.worker
        storage.set_trial_state_values(lease._trial_id, TrialState.FAIL)
        until = time.monotonic() + 10
        while lease.worker == before and time.monotonic() < until:
            time.sleep(0.02)
        assert Census(storage).dead([before, lease.worker]) == {before}
        assert set(lease.names) == {before, lease.worker}


def test_leases_are_no_study_of_ours(storage: RDBStorage) -> None:
    leases_of(storage)
    assert stored_studies(storage) == []
