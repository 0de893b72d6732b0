"""The command line: parses, hides passwords, dispatches, turns errors into one line and a code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

from autotune.commands.command_line import Call, parsed
from autotune.commands.config_file import asks_for_json
from autotune.commands.output import Output, write_document
from autotune.documents.error import ErrorDocument
from autotune.errors import AutotuneError, ErrorKind, is_unwritable
from autotune.exit_codes import ExitCode
from autotune.shown import shown, without_passwords
from autotune.tuning.processes.signals import imports_are_done, write_line

_log = logging.getLogger(__name__)


def run_command_line(argv: Sequence[str]) -> int:
    """Run one command; return its exit code. Errors of the user's making become one line."""
    try:
        call = parsed(argv)
    except AutotuneError as error:
        return _fail(Output(as_json=asks_for_json(argv)), error.kind, str(error), error.exit_code)
    except OSError as error:  # of help
        return _fail_by_system(Output(), error)
    if isinstance(call, int):
        return call
    output = Output(as_json=call.output.json, quiet=call.output.quiet)
    _set_up_logging(output, verbose=call.output.verbose)
    hide_logins(argv)
    if call.found is not None:
        output.note(f"flags from {call.found.absolute()}")
    return _done(call, output)


def _done(call: Call, output: Output) -> int:
    try:
        imports_are_done()
        return call.run(call.flags, output)
    except AutotuneError as error:
        return _fail(output, error.kind, str(error), error.exit_code)
    except _storage_errors() as error:
        from autotune.studies.storage.retry import failure_words

        return _fail(output, ErrorKind.STORAGE_FAILED, failure_words(error), ExitCode.FAILED)
    except KeyboardInterrupt as interrupt:
        words = "; ".join(["interrupted", *map(str, interrupt.args)])
        write_line(f"autotune: {words}")
        return _said(output, ErrorKind.INTERRUPTED, words, ExitCode.INTERRUPTED)
    except BrokenPipeError:
        _say_no_more()
        return ExitCode.FAILED
    except OSError as error:  # of a path that nothing can be done with, or a full disk
        _log.debug("where it happened:", exc_info=True)
        return _fail_by_system(output, error)


class _Shown(logging.Formatter):
    """Formats records as text that may be shown, a bug's traceback too."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


def show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as ``sys.excepthook`` does, without passwords."""
    sys.stderr.write(shown("".join(traceback.format_exception(kind, error, trace))))
    output = Output(as_json="--json" in sys.argv)
    _said(output, ErrorKind.BUG, f"{kind.__name__}: {error}", ExitCode.FAILED)


def _set_up_logging(output: Output, *, verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.WARNING if output.quiet else logging.INFO
    handler: logging.Handler = logging.StreamHandler()  # a line an event, never folded
    if output.err.is_terminal:
        from rich.logging import RichHandler  # pygments: not for a pipe

        handler = RichHandler(console=output.err, show_path=False, show_level=False)
    handler.setFormatter(_Shown())
    log = logging.getLogger("autotune")
    log.handlers = [handler]
    log.setLevel(level)
    log.propagate = False


def _fail(output: Output, kind: ErrorKind, message: str, code: int) -> int:
    output.err.print("autotune: error: ", shown(message), sep="", soft_wrap=True)
    return _said(output, kind, message, code)


def _fail_by_system(output: Output, error: OSError) -> int:
    if error.filename:
        return _fail(output, ErrorKind.FILE, f"{error.filename}: {error.strerror}", ExitCode.USAGE)
    words = error.strerror or str(error)
    if is_unwritable(error):
        words = f"standard output, or a file, cannot be written: {words}"
    return _fail(output, ErrorKind.FILE, words, ExitCode.FAILED)


def _said(output: Output, kind: ErrorKind, message: str, code: int) -> int:
    """Say also on stdout, where that is JSON, why there is no result."""
    try:
        if output.as_json:
            write_document(ErrorDocument(kind=kind, message=message, exit_code=int(code)))
        sys.stdout.flush()
    except OSError:  # its reader has gone, or its disk is full
        _say_no_more()
    return code


def _say_no_more() -> None:
    """Nobody takes what stdout says: what is still to be written to it goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _storage_errors() -> tuple[type[Exception], ...]:
    from autotune.studies.storage.retry import STORAGE_ERRORS  # Optuna: not for ``--help``

    return STORAGE_ERRORS


def hide_logins(argv: Sequence[str]) -> None:
    """Show other users this process without passwords, where its words have any.

    Until this call they were to be seen: AUTOTUNE_STORAGE, or the database's own file
    of passwords, never shows them.
    """
    words = [without_passwords(word) for word in argv]
    if words == list(argv):
        return
    try:
        from setproctitle import setproctitle
    except ImportError:
        _log.warning(
            "other users of this machine can read the password in the command line: put the URL "
            "into AUTOTUNE_STORAGE instead of --storage"
        )
        return
    setproctitle(" ".join(("autotune", *words)))
