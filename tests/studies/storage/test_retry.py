from __future__ import annotations

import math
import sqlite3
import time

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DatabaseError, OperationalError, ProgrammingError

from autotune.errors import StorageError
from autotune.studies.storage import retry
from autotune.studies.storage.retry import failure_words, retry_storage


class Failing:
    """Fails so many times."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left, self._error = times, error

    def __call__(self) -> str:
        self.left -= 1
        if self.left >= 0:
            raise self._error
        return "done"


LOCKED = OperationalError("BEGIN", {}, sqlite3.OperationalError("database is locked"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(retry, "_LONGEST_WAIT_S", 0.002)


@pytest.mark.parametrize("error", [LOCKED, StorageInternalError(), OSError("disk is full")])
def test_it_tries_again_and_says_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert retry_storage(Failing(5, error)) == "done"
    assert caplog.records == []


def test_after_a_while_it_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retry, "_SAY_AFTER_S", 0.0)
    assert retry_storage(Failing(5, LOCKED)) == "done"
    said = {id(record) for record in caplog.records if "trying again" in record.getMessage()}
    assert len(said) == 1


def test_in_the_end_it_gives_up_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PATIENCE_S", 0.05)
    with pytest.raises(StorageError, match="database is locked"):
        retry_storage(Failing(10**6, LOCKED))


def test_it_gives_up_soon_once_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "LAST_S", 0.05)
    monkeypatch.setattr(retry, "_hurried_from", math.inf)
    assert retry_storage(Failing(100, LOCKED)) == "done"
    retry.hurry_from(time.monotonic() + 0.1)
    began = time.monotonic()
    with pytest.raises(StorageError, match="database is locked"):
        retry_storage(Failing(10**6, LOCKED))
    assert 0.1 < time.monotonic() - began < 20


def test_a_failure_says_its_first_cause_and_what_to_do() -> None:
    words = failure_words(LOCKED, waited_s=61.2)
    assert words.startswith("the storage failed for 61 s: ")
    assert "database is locked" in words
    assert "What it had taken by then is not touched" in words
    cause = sqlite3.DatabaseError("database disk image is malformed\n")
    error = StorageInternalError("it failed")
    error.__cause__ = cause
    assert failure_words(error).startswith("the storage is damaged: database disk image is")
    assert "sqlite3 FILE .recover" in failure_words(error)


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT", {}, sqlite3.OperationalError("no such table: trials")),
        DatabaseError("SELECT", {}, sqlite3.DatabaseError("file is not a database")),
        ProgrammingError("SELECT", {}, Exception("relation does not exist")),
    ],
)
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_what_is_damaged_is_not_waited_for(error: Exception, is_wrapped: bool) -> None:
    raised: Exception = error
    if is_wrapped:
        raised = StorageInternalError("in the commit")
        raised.__cause__ = error
    failing = Failing(3, raised)
    with pytest.raises(StorageError, match="the storage is damaged"):
        retry_storage(failing)
    assert failing.left == 2


def test_a_bug_is_not_waited_for() -> None:
    failing = Failing(1, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        retry_storage(failing)
    assert failing.left == 0


def test_who_is_in_a_hurry_waits_no_longer() -> None:
    failing = Failing(10**6, LOCKED)
    with pytest.raises(StorageError, match="database is locked"):
        retry_storage(failing, is_hurried=lambda: failing.left < 10**6 - 3)
    assert failing.left == 10**6 - 4
