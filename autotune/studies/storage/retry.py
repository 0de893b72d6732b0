"""A storage that does not answer for a while: locked, on a full disk, its server restarting."""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy.exc
from optuna.exceptions import StorageInternalError

from autotune.errors import StorageFailedError
from autotune.studies.storage.open import fault_words

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

PATIENCE_S = 180.0
"""How long a step is tried again. SQLite waits a minute for a lock by itself each time."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 3.0
_SAY_AFTER_S = 5.0


def retry_storage(
    step: Callable[[], _T],
    *,
    patience_s: float = PATIENCE_S,
    is_hurried: Callable[[], bool] = lambda: False,
) -> _T:
    """The value of ``step``, which may be called several times: it must be safe to repeat.

    Raises StorageFailedError where the storage still fails after ``patience_s``, or once
    ``is_hurried``.
    """
    began = time.monotonic()
    wait_s, said = _FIRST_WAIT_S, False
    while True:
        try:
            return step()
        except transient_errors() as error:
            waited_s = time.monotonic() - began
            if waited_s > patience_s or is_hurried():
                raise StorageFailedError(
                    f"the storage failed for {waited_s:.0f} s: {_words(error)}. Everything "
                    "that was told to it is safe; mend the cause (a full disk, a lock held by "
                    "another program, a server that is down) and run the same again"
                ) from error
            if waited_s > _SAY_AFTER_S and not said:
                said = True
                _log.warning("the storage fails, trying again: %s", _words(error))
        time.sleep(wait_s * random.uniform(0.5, 1.0))
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def transient_errors() -> tuple[type[BaseException], ...]:
    """What storages raise when it is not the caller's fault."""
    found: tuple[type[BaseException], ...] = (
        StorageInternalError,
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.InternalError,
        sqlalchemy.exc.InterfaceError,
        OSError,
    )
    grpc = sys.modules.get("grpc")  # loaded where a storage speaks it
    return found if grpc is None else (*found, grpc.RpcError)


def _words(error: BaseException) -> str:
    """On one line."""
    return " ".join(fault_words(error).split()) or type(error).__name__
