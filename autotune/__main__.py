"""``python -m autotune`` and the ``autotune`` console script."""

from __future__ import annotations

import os
import signal
import sys


def _open_closed_streams() -> None:
    """Lead streams that are closed nowhere, for children too: the next file that is opened would
    get a stream's number, and what is printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = os.fdopen(os.open(os.devnull, os.O_RDWR), mode)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def main() -> int:
    """Run the command line; returns the exit code."""
    _open_closed_streams()
    from autotune.tuning.processes.signals import leave_at_once  # children re-import this module

    leave_at_once()
    from autotune.cli import run_command_line, show_bug

    sys.excepthook = show_bug
    code = run_command_line(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said: an interruption changes nothing
    return code


if __name__ == "__main__":
    sys.exit(main())
