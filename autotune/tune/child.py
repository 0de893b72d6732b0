"""A process that owns a measurer, and may die: a crash or hang costs one trial.

The parent sends (method, arguments) through a pipe and receives the value or the exception.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from autotune.errors import AutotuneError, DeviceError

_CONTEXT = multiprocessing.get_context("spawn")
_EXIT_GRACE_S = 2.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ChildFault:
    """Why a child gave no answer. The child is gone or must be killed."""

    reason: str
    detail: str = ""
    """The traceback, for the log."""


class Closable(Protocol):
    """What a child holds: a measurer, or the timers of providers."""

    def close(self) -> None:
        """Release the device."""


class Child:
    """Handle of one measuring process; started at once, restarted by ``restart``."""

    def __init__(self, open_measurer: Callable[[], Closable]) -> None:
        """``open_measurer`` is pickled into the child and called there."""
        self._open_measurer = open_measurer
        self._start()

    @property
    def connection(self) -> Connection:
        """Becomes readable when an answer is there or the child has died."""
        return self._connection

    def submit(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Send a call; ``receive`` takes its answer. One call at a time."""
        self._sent_at = time.monotonic()
        try:
            self._connection.send((method, args, kwargs))
        except (BrokenPipeError, OSError):
            return  # receive() finds the pipe closed and says so

    @property
    def waited_s(self) -> float:
        """Seconds since the call was sent."""
        return time.monotonic() - self._sent_at

    def receive(self) -> Any:
        """The answer, or a ChildFault. Raises the AutotuneError that the measurer raised."""
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(_EXIT_GRACE_S)
            return ChildFault(f"the process died ({_exit_words(self._process.exitcode)})")
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
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Let the process release its device and end; kill it where that takes too long."""
        self._connection.close()
        self._process.join(_EXIT_GRACE_S)
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=_serve, args=(theirs, self._open_measurer, os.getpid()), daemon=True
        )
        self._process.start()
        theirs.close()
        self._sent_at = time.monotonic()


def _serve(pipe: Connection, open_measurer: Callable[[], Closable], parent: int) -> None:
    """The child's main: one answer for each call, until the pipe closes or the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with(parent)
    measurer: Closable | None = None
    try:
        while True:
            method, args, kwargs = pipe.recv()
            try:
                measurer = measurer or open_measurer()
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


def _die_with(parent: int) -> None:
    """On Linux the kernel kills this process when its parent dies, also during a compile."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _exit_words(code: int | None) -> str:
    if code is None:
        return "still ending"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
