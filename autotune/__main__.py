"""``python -m autotune`` and the ``autotune`` console script."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    from autotune.tuning.processes.signals import leave_at_once  # children re-import this module

    leave_at_once()
    from autotune.cli import run_command_line, show_bug

    sys.excepthook = show_bug
    code = run_command_line(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said: an interruption changes nothing
    return code


if __name__ == "__main__":
    sys.exit(main())
