"""A process that may be killed at any moment and dies with its parent, and the link to it.

The measuring child, a compiler and a worker are each one of these.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

EXIT_GRACE_S = 2.0
"""Seconds that a process gets to release what it holds, or to tell how it died."""
_CONTEXT = multiprocessing.get_context("spawn")
_FORK = multiprocessing.get_context("fork")
_PAGE_BYTES = resource.getpagesize()
_PR_SET_PDEATHSIG = 1

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

    It ignores Ctrl-C, which goes to the whole terminal: the parent alone decides what it means. On
    Linux it dies with the thread that makes the handle.
    """

    def __init__(
        self,
        main: Callable[..., None],
        *args: Any,
        leads_group: bool = False,
        has_children: bool = False,
        is_fork: bool = False,
    ) -> None:
        """``main`` and ``args`` are pickled. One that ``leads_group`` is killed together with
        whatever it has started; one that ``has_children`` may start processes like this one; one
        that ``is_fork`` is a copy of this process, which has one thread and no CUDA context, and
        nothing is pickled."""
        self.link, theirs = _CONTEXT.Pipe()
        self._leads_group = leads_group
        self._process = (_FORK if is_fork else _CONTEXT).Process(
            target=_run,
            args=(main, theirs, os.getpid(), leads_group, args),
            daemon=not has_children,
        )
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
        if self._leads_group:
            with suppress(OSError):  # it has no group of its own yet, or is gone
                os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        return code


def exit_words(code: int | None) -> str:
    """Return what ``kill`` has returned in words."""
    if code is None:
        return "it had to be killed"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _run(
    main: Callable[..., None], link: Connection, parent: int, leads_group: bool, args: Any
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with(parent)
    if leads_group:
        os.setpgid(0, 0)
    main(link, *args)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, and with it process
    ``parent``; also in the middle of a compile. Only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
