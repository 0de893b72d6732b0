"""The errors that a storage in use may raise, in words, and trying again those that may pass."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy.exc
from optuna.exceptions import StorageInternalError

from autotune.errors import StorageFailedError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

STORAGE_ERRORS = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError)
"""Every error of a storage of any kind."""
TRANSIENT_ERRORS = (
    StorageInternalError,
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InternalError,
    sqlalchemy.exc.InterfaceError,
    OSError,
)
"""Errors that may pass: a lock, a full disk, a server that restarts."""
_DAMAGE = ("malformed", "not a database", "no such table")
"""SQLite's words of a file that has another content than it should."""
RECOVER = "go on with a backup, or, of a SQLite file, with what 'sqlite3 FILE .recover' saves"
"""Advice about a damaged storage."""
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading raises where a cell, or a value in it, is not of the kind that belongs there."""

PATIENCE_S = 180.0
"""Seconds for which a step is tried again. SQLite waits a minute for a lock by itself each time."""
LAST_S = 10.0
"""The same once this process's time is up, see ``hurry_from``."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 3.0
_SAY_AFTER_S = 5.0
_hurried_from = math.inf


def hurry_from(moment: float) -> float:
    """From this moment of the monotonic clock on, try a step that fails again for ``LAST_S`` alone:
    a run whose time is up must end, whatever its storage does. Returns the moment."""
    global _hurried_from  # noqa: PLW0603  a process works for one run
    _hurried_from = moment
    return moment


def retry_storage(step: Callable[[], _T], *, is_hurried: Callable[[], bool] = lambda: False) -> _T:
    """Return the value of ``step``, which may be called several times: it must be safe to repeat.

    Raises StorageFailedError if the storage still fails after PATIENCE_S, or LAST_S where the
    process's time is up, or once ``is_hurried``; at once where it is damaged.
    """
    began = time.monotonic()
    wait_s, said = _FIRST_WAIT_S, False
    while True:
        try:
            return step()
        except (OSError, *STORAGE_ERRORS) as error:
            if is_damage(error):
                raise StorageFailedError(failure_words(error)) from error
            if not isinstance(error, TRANSIENT_ERRORS):
                raise
            now = time.monotonic()
            waited_s = now - began
            patience_s = LAST_S if now > _hurried_from else PATIENCE_S
            if waited_s > patience_s or is_hurried():
                raise StorageFailedError(failure_words(error, waited_s)) from error
            if waited_s > _SAY_AFTER_S and not said:
                said = True
                _log.warning("the storage fails, trying again: %s", error_words(error))
        time.sleep(wait_s * random.uniform(0.5, 1.0))
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def is_damage(error: BaseException) -> bool:
    """Return True for an error of a storage that lacks a table, or is none any more: no trying
    again will mend it."""
    is_server = isinstance(error, sqlalchemy.exc.ProgrammingError)
    if is_server or error.__cause__ is None:
        return is_server or any(words in str(error) for words in _DAMAGE)
    return is_damage(error.__cause__)


def error_words(error: BaseException) -> str:
    """Return the first cause's own words on one line, without a login."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


def failure_words(error: BaseException, waited_s: float = 0.0) -> str:
    """Return what failed, and what to do about it."""
    words = error_words(error)
    if is_damage(error):
        return f"the storage is damaged: {words}. 'autotune storage check' says more; {RECOVER}"
    since = f" for {waited_s:.0f} s" if waited_s else ""
    return (
        f"the storage failed{since}: {words}. What it had taken by then is not touched; mend "
        "the cause (a full disk, a lock held by another program, a server that is down) and run "
        "the same again"
    )
