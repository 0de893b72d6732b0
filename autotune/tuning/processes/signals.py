"""Leaving well: the first signal asks to finish, the second ends at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from autotune.exit_codes import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED = "autotune: interrupted"
_FINISHING = "finishing what runs; again to stop at once"
_STOPPED = "stopped at once: what was in work is not kept; the same command goes on"
_SHOW_CURSOR = "\x1b[?25h"


def write_line(text: str) -> None:
    """Write a line to stderr at once, also in a signal's handler."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


def leave_at_once() -> None:
    """Have Ctrl-C end the process in one line, until ``imports_are_done``: nothing is held yet, and
    what is imported may take an interruption for a fault of its own."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def imports_are_done() -> None:
    """Have Ctrl-C raise KeyboardInterrupt again, after ``leave_at_once``. Where Python cannot raise
    it, as in a finalizer, it would print that and go on: the process ends."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = _on_unraisable


def _on_unraisable(error: sys.UnraisableHookArgs) -> None:
    if issubclass(error.exc_type, KeyboardInterrupt):
        _leave(signal.SIGINT, None)
    sys.__unraisablehook__(error)


def _leave(_number: int, _frame: FrameType | None) -> None:
    write_line(_INTERRUPTED)
    os._exit(ExitCode.INTERRUPTED)


class Interrupt:
    """Context manager that turns SIGINT, SIGTERM and SIGHUP into a flag, while it is entered.

    A second signal ends the process at once; its children die with it, and the next run clears
    the trials that were in flight. A hangup that is ignored, as under nohup, stays so.

    Of a process that is not ours only SIGINT is heard, and a second one raises KeyboardInterrupt.
    Outside the main thread no signal is: Python brings them there.
    """

    def __init__(
        self,
        say: Callable[[str], None] = write_line,
        clear: Callable[[], None] = lambda: None,
        *,
        is_ours: bool = True,
    ) -> None:
        """``say`` shows a line at once, and ``clear`` takes a display off the screen. Both are
        called in the signals' handler. The process ``is_ours`` where a command of ours is all that
        it does."""
        self._say, self._clear, self._is_ours = say, clear, is_ours
        self._at: float | None = None
        self._is_ending = False
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        return self._at is not None

    @property
    def since_s(self) -> float:
        """Seconds since the first signal; 0 before it."""
        return 0.0 if self._at is None else time.monotonic() - self._at

    def check(self) -> None:
        """Raise KeyboardInterrupt where there was a signal: for what has nothing to finish yet."""
        if self.requested:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in self._heard}
        return self

    @property
    def _heard(self) -> list[signal.Signals]:
        if not self._is_ours:
            return [signal.SIGINT]
        is_deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        return [number for number in _SIGNALS if not (is_deaf and number is signal.SIGHUP)]

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _let_go_of_the_terminal()
        if not self.requested:
            self._at = time.monotonic()
            with suppress(OSError, RuntimeError):
                self._say(_FINISHING)
            return
        if not self._is_ending:  # a third one finds a display that does not end
            self._is_ending = True
            with suppress(OSError, RuntimeError):
                self._clear()
        if not self._is_ours:
            raise KeyboardInterrupt
        write_line((_SHOW_CURSOR if os.isatty(2) else "") + _STOPPED)
        os._exit(ExitCode.INTERRUPTED)


def _let_go_of_the_terminal() -> None:
    """Have what is printed go nowhere where the terminal is gone: printing would fail."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
