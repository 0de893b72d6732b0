"""A process that may be killed at any moment and dies with its parent, and the link to it.

The measuring child, a compiler and a worker are each one of these.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

_log = logging.getLogger(__name__)

EXIT_GRACE_S = 2.0
"""Seconds that a process gets to release what it holds, or to tell how it died."""
_CONTEXT = multiprocessing.get_context("spawn")
_FORK = multiprocessing.get_context("fork")
_PAGE_BYTES = resource.getpagesize()
_PR_SET_PDEATHSIG = 1
_STARTING = threading.Lock()
_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGHUP)
_LAST_LINES, _LAST_BYTES = 5, 2000

Sent = TypeVar("Sent")
Received = TypeVar("Received")


class ProcessHandle(Protocol):
    """A started process, on this machine or on another one."""

    @property
    def link(self) -> Connection:
        """The connection to the process; becomes readable when it has sent something or died."""

    def kill(self, grace_s: float = 0.0) -> int | None:
        """Close the link, and end the process where it has not ended within ``grace_s``. Returns
        the exit code that it had by itself, or None where it had to be killed."""


class KillableProcess(Generic[Sent, Received]):
    """A spawned process that runs ``main(its end of the link, *args)``.

    It imports what it needs and not the script that starts it, whose imports take their time and
    which would run again without ``if __name__ == "__main__"``. It ignores Ctrl-C and a hangup,
    which go to the whole terminal: the parent alone decides what they mean. On Linux it dies with
    the thread that makes the handle.
    """

    imports_script: ClassVar[bool] = False
    """True for scripts that change this package in every process, as benchmarks/survival does."""

    def __init__(
        self,
        main: Callable[..., None],
        *args: Any,
        leads_group: bool = False,
        has_children: bool = False,
        is_fork: bool = False,
        is_quiet: bool = False,
    ) -> None:
        """``main`` and ``args`` are pickled. One that ``leads_group`` is killed together with
        whatever it has started; one that ``has_children`` may start processes like this one; one
        that ``is_fork`` is a copy of this process, which has one thread and no CUDA context, and
        nothing is pickled. What one that ``is_quiet`` prints, and whatever it starts, is kept back:
        an engine's warnings would tear a display, or a document on stdout. With ``--verbose`` it
        goes to stderr."""
        self.link, theirs = _CONTEXT.Pipe()
        self._leads_group = leads_group
        self._printed = _PrintedFile() if is_quiet else None
        whole = partial(_printing_into, self._printed.path, main) if self._printed else main
        self._process = (_FORK if is_fork else _CONTEXT).Process(
            target=_run,
            args=(whole, theirs, os.getpid(), leads_group, args),
            daemon=not has_children,
        )
        is_bare = not is_fork and not self.imports_script
        with _signals_held(), _without_script() if is_bare else nullcontext():
            self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The process's number in the operating system."""
        return self._process.pid or 0

    @property
    def resident_bytes(self) -> int:
        """Main memory of the process; 0 where the system does not say."""
        try:
            text = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii")
        except OSError:
            return 0
        return int(text.split()[1]) * _PAGE_BYTES

    @property
    def last_words(self) -> str:
        """The last lines that a quiet process printed, once it was killed; none where they went to
        stderr."""
        return self._printed.last_words if self._printed else ""

    def send(self, message: Sent) -> None:
        """Send a message; to a process that is gone nothing is sent, and ``receive`` says so."""
        with suppress(OSError):
            self.link.send(message)

    def receive(self) -> Received:
        """Wait for the next message. Raises EOFError where the process is gone."""
        try:
            message: Received = self.link.recv()
        except OSError as error:
            raise EOFError from error
        return message

    def kill(self, grace_s: float = 0.0) -> int | None:
        """See ``ProcessHandle.kill``."""
        self.link.close()
        self._process.join(grace_s)
        code = self._process.exitcode
        self.strike()
        self._process.join()
        if self._printed:
            self._printed.close()
        return code

    def strike(self) -> None:
        """Kill it without waiting until it is gone: taking down what an engine has imported takes a
        while, and many processes go side by side. ``kill`` waits."""
        if self._leads_group:
            with suppress(OSError):  # it has no group of its own yet, or is gone
                os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()


class _PrintedFile:
    """A file that takes what a process prints; it has a name until the process has opened it."""

    def __init__(self) -> None:
        self.path = ""
        """Empty where nothing is kept back."""
        self.last_words = ""
        """The last lines, once the process is gone."""
        if not _log.isEnabledFor(logging.DEBUG):
            self._descriptor, self.path = tempfile.mkstemp(prefix="autotune-")

    def close(self) -> None:
        """Keep the last lines, and no more. A second call does nothing."""
        if not self.path:
            return
        Path(self.path).unlink(missing_ok=True)  # the process did not come so far
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, _LAST_BYTES, max(size - _LAST_BYTES, 0))
        os.close(self._descriptor)
        self.path = ""
        lines = tail.decode(errors="replace").strip().splitlines()
        self.last_words = "\n".join(lines[-_LAST_LINES:])


def exit_words(code: int | None) -> str:
    """Return what ``kill`` has returned in words."""
    if code is None:
        return "it had to be killed"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold the terminal's signals back from this thread and what it starts, which ignores them only
    once it has imported its main: until then Ctrl-C would end it with a traceback."""
    resource_tracker.ensure_running()  # as it is started it lets them through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_script() -> Iterator[None]:
    """Hide the script from ``multiprocessing``, which has what is started import it."""
    with _STARTING:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script


def _run(
    main: Callable[..., None], link: Connection, parent: int, leads_group: bool, args: Any
) -> None:
    for number in _OF_THE_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_TERMINAL)
    _die_with(parent)
    if leads_group:
        os.setpgid(0, 0)
    main(link, *args)
    # An interpreter that has imported an engine takes seconds to take it down; all is closed.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _printing_into(path: str, main: Callable[..., None], *args: Any) -> None:
    """Have stdout and stderr, also of C and of programs that are started, go into the file, which
    loses its name; without a path both go to stderr. Then run ``main``."""
    if path:
        with Path(path).open("ab") as file:
            os.dup2(file.fileno(), 2)
        Path(path).unlink()
    os.dup2(2, 1)
    main(*args)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, and with it process
    ``parent``; also in the middle of a compile. Only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
