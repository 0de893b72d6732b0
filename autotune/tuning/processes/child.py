"""A process that owns a measurer, and may die: a crash or hang costs one trial.

The parent sends calls through the link, and receives for each its value or its exception.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from autotune.errors import AutotuneError, DeviceError, is_unwritable
from autotune.tuning.processes.killable import EXIT_GRACE_S, KillableProcess, exit_words

_log = logging.getLogger(__name__)

_START_S = 300.0
"""Seconds to import PyTorch and to open a GPU, on a slow disk or a busy machine."""

_WRITABLE = (
    "a process that measures must be able to write. Free some space, or have TRITON_CACHE_DIR, "
    "TMPDIR and --cache-dir name folders that you may write"
)

Args = ParamSpec("Args")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class ChildFault:
    """The reason why a child gave no answer. The child is gone or must be killed."""

    reason: str
    detail: str = ""
    """The traceback, for the log."""
    is_kill: bool = False
    """True where SIGKILL ended it: by a person, or for want of memory. It may be nobody's fault."""
    is_timeout: bool = False
    """True where the child took too long."""


class Closable(Protocol):
    """The object that a child holds: a measurer, or the timers of providers."""

    def close(self) -> None:
        """Release the device."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Value]):
    """A method of the object that a child holds, with arguments; it returns a ``Value``."""

    method: str | Callable[..., Any]
    """Name of the method, or a function of a module, which is given the object first."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        method: Callable[Concatenate[Any, Args], Value],
        *args: Args.args,
        **kwargs: Args.kwargs,
    ) -> Call[Value]:
        """Return the call of a method, or the reading of a property, that is given as its class
        has it (``Measurer.measure``), so that types are checked. The child's object may be of any
        class that has the like. A function of a module is called with the object."""
        function = method.fget if isinstance(method, property) else method
        is_method = "." in function.__qualname__
        return Call(function.__name__ if is_method else function, args, kwargs)

    def on(self, held: Closable) -> Any:
        """Call the method of ``held``, or read the property."""
        if callable(self.method):
            return self.method(held, *self.args, **self.kwargs)
        attribute = getattr(held, self.method)
        return attribute(*self.args, **self.kwargs) if callable(attribute) else attribute


class Child:
    """Handle of one measuring process; started at once, restarted by ``restart``."""

    process: KillableProcess[Call[Any], Any]
    """Its link becomes readable when an answer is there or the child has died."""
    _is_open: bool
    _unanswered: int
    _since: float

    def __init__(self, open_measurer: Callable[[], Closable]) -> None:
        """``open_measurer`` is pickled into the child and called there."""
        self._open_measurer = open_measurer
        self._start()

    @property
    def waited_s(self) -> float:
        """Seconds that the oldest call without an answer has been served; 0 where there is none.
        Opening the device counts only beyond _START_S: no config is to blame."""
        if not self._unanswered:
            return 0.0
        if not self._is_open and self._opened.poll():
            self._is_open = True
            self._since = time.monotonic()
        waited_s = time.monotonic() - self._since
        return waited_s if self._is_open else max(waited_s - _START_S, 0.0)

    def submit(self, call: Call[Any]) -> None:
        """Send a call; ``receive`` takes its answer. Several are served in their order, one after
        the other without a pause; keep them few, since the link must hold them."""
        if not self._unanswered:
            self._since = time.monotonic()
        self._unanswered += 1
        self.process.send(call)

    def receive(self) -> Any:
        """Return the answer to the oldest call, or a ChildFault. After one, restart: later calls
        are lost. Raises the AutotuneError that the measurer raised."""
        try:
            answer = self.process.receive()
        except EOFError:
            code = self.process.kill(EXIT_GRACE_S)
            reason = f"the process died ({exit_words(code)})"
            if words := self.process.last_words:
                _log.warning("%s; what it printed last:\n%s", reason, words)
            return ChildFault(reason, is_kill=code == -signal.SIGKILL)
        self._unanswered -= 1
        self._is_open = True
        self._since = time.monotonic()
        if isinstance(answer, AutotuneError):
            raise answer
        return answer

    def call(
        self,
        method: Callable[Concatenate[Any, Args], Value],
        *args: Args.args,
        **kwargs: Args.kwargs,
    ) -> Value:
        """Call a method (see ``Call.of``) and wait for its value. Raises DeviceError where the
        child fails."""
        self.submit(Call.of(method, *args, **kwargs))
        answer: Value = self.value()
        return answer

    def value(self) -> Any:
        """Wait for the value of the oldest call. Raises DeviceError where the child fails."""
        answer = self.receive()
        if isinstance(answer, ChildFault):
            raise DeviceError(f"the device cannot be used: {answer.reason}")
        return answer

    def restart(self) -> None:
        """Kill whatever runs and start afresh."""
        self.kill()
        self._start()

    def kill(self, grace_s: float = 0.0) -> None:
        """End the process, at the latest in ``grace_s``. Nothing that it had in hand is kept."""
        self._opened.close()
        self.process.kill(grace_s)

    def close(self) -> None:
        """Let the process release its device and end; kill it where that takes too long."""
        self.kill(EXIT_GRACE_S)

    def _start(self) -> None:
        self._opened, opened = multiprocessing.get_context("spawn").Pipe(duplex=False)
        self.process = KillableProcess(_serve, opened, self._open_measurer, is_quiet=True)
        opened.close()
        self._is_open = False
        self._unanswered = 0
        self._since = time.monotonic()


def _serve(link: Connection, opened: Connection, open_measurer: Callable[[], Closable]) -> None:
    """Give one answer for each call, until the link closes: the child's main. ``opened`` is closed
    when the device is open."""
    measurer: Closable | None = None
    try:
        while True:
            call: Call[Any] = link.recv()
            try:
                measurer = measurer or open_measurer()
                opened.close()
                answer: Any = call.on(measurer)
            except AutotuneError as error:
                answer = error
            except Exception as error:  # noqa: BLE001  the worker's edge: the trial gets its outcome
                reason = f"{type(error).__name__}: {_first_line(error)}"
                answer = ChildFault(reason, traceback.format_exc())
                if is_unwritable(error):  # no config's fault
                    answer = DeviceError(f"{reason}: {_WRITABLE}")
            link.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        if measurer is not None:
            measurer.close()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
