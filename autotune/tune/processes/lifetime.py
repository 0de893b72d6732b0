"""What every process that we start does first, and how its end is told."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """On Linux the kernel kills this process when the thread that started it ends, and with it
    process ``parent``; also in the middle of a compile."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def leave_signals_to_parent() -> None:
    """Ctrl-C goes to the whole terminal; the parent alone decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_words(code: int | None) -> str:
    """An exit code of ``multiprocessing`` for people."""
    if code is None:
        return "still ending"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
