"""The exit codes of the command line, and of the processes that a signal ends."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The ways in which a command ends."""

    DONE = 0
    FAILED = 1
    """Some of the work failed, or was not finished in time."""
    USAGE = 2
    """The input, or the machine, is not what the command needs."""
    INTERRUPTED = 130
    """Ctrl-C ended the command; the same command goes on."""
