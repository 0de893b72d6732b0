"""Leaving well: the first signal asks to finish, the second ends at once."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import Any

from autotune.exit_codes import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = b"\x1b[?25h"


class Interrupt:
    """Context manager that turns SIGINT and SIGTERM into a flag, while it is entered.

    A second signal ends the process at once; its children die with it, and the next run clears
    the trials that were in flight.
    """

    def __init__(self) -> None:
        self._at: float | None = None
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        return self._at is not None

    @property
    def since_s(self) -> float:
        """Seconds since the first signal; 0 before it."""
        return 0.0 if self._at is None else time.monotonic() - self._at

    def __enter__(self) -> Interrupt:
        self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)  # a live display hides it
            os._exit(ExitCode.INTERRUPTED)
        self._at = time.monotonic()
