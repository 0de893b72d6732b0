"""``python -m autotune`` and the ``autotune`` console script."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    from autotune.cli import run_command_line, show_bug  # children re-import this module

    sys.excepthook = show_bug
    return run_command_line(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
