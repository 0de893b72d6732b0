"""Keeps the compiler's dumps off the terminal: Triton writes them to file descriptor 2."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

KEPT_BYTES = 8192
"""Bytes of a dump that are kept: its first lines name the failing pass, the rest is IR."""


@contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Redirect descriptor 2 of the whole process to a file while open.

    Yields a function that returns the first ``KEPT_BYTES`` of what was written so far.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield lambda: os.pread(sink.fileno(), KEPT_BYTES, 0).decode(errors="replace")
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
