"""A process that owns a measurer, and may die: a crash or hang costs one trial.

The parent sends (method, arguments) through a pipe and receives the value or the exception.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from autotune.errors import AutotuneError, DeviceError
from autotune.tune.processes.lifetime import die_with, exit_words, leave_signals_to_parent

_CONTEXT = multiprocessing.get_context("spawn")
_EXIT_GRACE_S = 2.0
_START_S = 300.0
"""To import PyTorch and to open a GPU, on a slow disk or a busy machine."""
_PAGE_BYTES = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class ChildFault:
    """Why a child gave no answer. The child is gone or must be killed."""

    reason: str
    detail: str = ""
    """The traceback, for the log."""
    is_kill: bool = False
    """Ended by SIGKILL: by a person, or for want of memory. It may be nobody's fault."""


class Closable(Protocol):
    """What a child holds: a measurer, or the timers of providers."""

    def close(self) -> None:
        """Release the device."""


class Child:
    """Handle of one measuring process; started at once, restarted by ``restart``."""

    _is_open: bool
    _unanswered: int
    _since: float

    def __init__(self, open_measurer: Callable[[], Closable]) -> None:
        """``open_measurer`` is pickled into the child and called there."""
        self._open_measurer = open_measurer
        self._start()

    @property
    def connection(self) -> Connection:
        """Becomes readable when an answer is there or the child has died."""
        return self._connection

    def submit(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Send a call; ``receive`` takes its answer. Several are served in their order, one after
        the other without a pause; keep them few, since the pipe must hold them."""
        if not self._unanswered:
            self._since = time.monotonic()
        self._unanswered += 1
        with suppress(BrokenPipeError, OSError):  # receive() finds the pipe closed and says so
            self._connection.send((method, args, kwargs))

    @property
    def waited_s(self) -> float:
        """Seconds that the oldest call without an answer has been served; 0 where there is none.
        Of opening the device, only what goes beyond _START_S counts: no config is to blame."""
        if not self._unanswered:
            return 0.0
        if not self._is_open and self._opened.poll():
            self._is_open = True
            self._since = time.monotonic()
        waited_s = time.monotonic() - self._since
        return waited_s if self._is_open else max(waited_s - _START_S, 0.0)

    @property
    def resident_bytes(self) -> int:
        """Main memory of the process; 0 where the system does not say."""
        try:
            text = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii")
        except OSError:
            return 0
        return int(text.split()[1]) * _PAGE_BYTES

    def receive(self) -> Any:
        """The answer to the oldest call, or a ChildFault. After one, restart: later calls are
        lost. Raises the AutotuneError that the measurer raised."""
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(_EXIT_GRACE_S)
            code = self._process.exitcode
            reason = f"the process died ({exit_words(code)})"
            return ChildFault(reason, is_kill=code == -signal.SIGKILL)
        self._unanswered -= 1
        self._is_open = True
        self._since = time.monotonic()
        if isinstance(answer, AutotuneError):
            raise answer
        return answer

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Send a call and wait for its answer. Raises DeviceError where the child fails."""
        self.submit(method, *args, **kwargs)
        answer = self.receive()
        if isinstance(answer, ChildFault):
            raise DeviceError(f"the device cannot be used: {answer.reason}")
        return answer

    def restart(self) -> None:
        """Kill whatever runs and start afresh."""
        self.kill()
        self._start()

    def kill(self) -> None:
        """End the process at once. Nothing that it had in hand is kept."""
        self._connection.close()
        self._opened.close()
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Let the process release its device and end; kill it where that takes too long."""
        self._connection.close()
        self._opened.close()
        self._process.join(_EXIT_GRACE_S)
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        self._opened, opened = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(
            target=_serve, args=(theirs, opened, self._open_measurer, os.getpid()), daemon=True
        )
        self._process.start()
        theirs.close()
        opened.close()
        self._is_open = False
        self._unanswered = 0
        self._since = time.monotonic()


def _serve(
    pipe: Connection, opened: Connection, open_measurer: Callable[[], Closable], parent: int
) -> None:
    """The child's main: one answer for each call, until the pipe closes or the parent dies.
    ``opened`` is closed when the device is open."""
    leave_signals_to_parent()
    die_with(parent)
    measurer: Closable | None = None
    try:
        while True:
            method, args, kwargs = pipe.recv()
            try:
                measurer = measurer or open_measurer()
                opened.close()
                answer: Any = _invoke(measurer, method, args, kwargs)
            except AutotuneError as error:
                answer = error
            except Exception as error:  # noqa: BLE001  the worker's edge: the trial gets its outcome
                reason = f"{type(error).__name__}: {_first_line(error)}"
                answer = ChildFault(reason, traceback.format_exc())
            pipe.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        if measurer is not None:
            measurer.close()


def _invoke(measurer: Closable, method: str, args: Any, kwargs: Any) -> Any:
    attribute = getattr(measurer, method)
    return attribute(*args, **kwargs) if callable(attribute) else attribute


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
