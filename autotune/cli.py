"""The command line: parses, dispatches, and turns errors into one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from rich.logging import RichHandler

from autotune.commands.hide_logins import hide_logins
from autotune.commands.output import Output
from autotune.commands.registry import Command, make_parser
from autotune.errors import AutotuneError
from autotune.exit_codes import ExitCode


def run_command_line(argv: Sequence[str]) -> int:
    """Run one command; return its exit code. Errors of the user's making become one line."""
    flags = make_parser().parse_args(argv)
    output = Output(as_json=flags.json, quiet=flags.quiet)
    _set_up_logging(output, verbose=flags.verbose)
    hide_logins(argv, [getattr(flags, name, None) for name in ("storage", "compare")])
    try:
        command: Command = flags.command
        return command.load().run(flags, output)
    except AutotuneError as error:
        return _fail(output, str(error), error.exit_code)
    except _storage_errors() as error:
        from autotune.studies.storage.retry import failure_words

        return _fail(output, failure_words(error), ExitCode.FAILED)
    except KeyboardInterrupt:
        return _fail(output, "interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout has gone: nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def _set_up_logging(output: Output, *, verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.WARNING if output.quiet else logging.INFO
    handler: logging.Handler = logging.StreamHandler()  # a line an event, never folded
    if output.err.is_terminal:
        handler = RichHandler(console=output.err, show_path=False, show_level=False)
    log = logging.getLogger("autotune")
    log.handlers = [handler]
    log.setLevel(level)
    log.propagate = False


def _fail(output: Output, message: str, code: int) -> int:
    output.err.print("autotune: error: ", message, sep="", soft_wrap=True)
    return code


def _storage_errors() -> tuple[type[Exception], ...]:
    from autotune.studies.storage.retry import STORAGE_ERRORS  # Optuna: not for ``--help``

    return STORAGE_ERRORS
