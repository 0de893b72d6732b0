"""The command line: parses, dispatches, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 some of it failed, 2 usage or bad input, 130 interrupted and resumable.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.logging import RichHandler

import autotune
from autotune.commands.benching import bench_command
from autotune.commands.comparing import add_compare_flags, compare_command
from autotune.commands.converting import add_convert_flags, convert_command
from autotune.commands.dashboard import dashboard_command
from autotune.commands.doctor import doctor_command
from autotune.commands.flags import (
    add_device_flags,
    add_launcher_flags,
    add_model_flags,
    add_run_flags,
    add_storage_flag,
)
from autotune.commands.inspecting import (
    best_command,
    check_command,
    export_command,
    models_command,
    status_command,
)
from autotune.commands.output import Output
from autotune.commands.process import hide_logins
from autotune.commands.recording import add_record_flags, record_command
from autotune.commands.reporting import report_command
from autotune.commands.routing import (
    add_capture_flags,
    add_stats_flags,
    capture_command,
    stats_command,
)
from autotune.commands.storing import (
    backup_command,
    check_storage_command,
    serve_command,
    upgrade_command,
)
from autotune.commands.tuning import resume_command, run_command
from autotune.engines import ENGINES
from autotune.errors import AutotuneError
from autotune.studies.address import GRPC_PORT
from autotune.studies.storage import fault_words, storage_faults

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


def run_command_line(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code. Errors of the user's making become one line."""
    args = make_parser().parse_args(argv)
    output = Output(as_json=args.json, quiet=args.quiet)
    _set_up_logging(output, verbose=args.verbose)
    hide_logins(argv, [getattr(args, name, None) for name in ("storage", "compare")])
    try:
        return int(args.command(args, output))
    except AutotuneError as error:
        return _fail(output, str(error), error.exit_code)
    except storage_faults() as error:
        return _fail(output, _storage_words(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail(output, "interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout has gone: nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def make_parser() -> argparse.ArgumentParser:
    """Every command with its flags."""
    parser = argparse.ArgumentParser(prog="autotune", description=autotune.__doc__)
    parser.add_argument("--version", action="version", version=f"autotune {autotune.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    _add_measuring_commands(commands)

    for name, function, words in (
        ("status", status_command, "how far everything is"),
        ("best", best_command, "the winners so far"),
        ("export", export_command, "write the engine files again from the storage"),
    ):
        command = _command(commands, name, function, words)
        add_storage_flag(command)
        command.add_argument("--model", help="only this model's studies")
        if name != "export":
            command.add_argument(
                "--watch",
                type=float,
                nargs="?",
                const=2.0,
                metavar="S",
                help="again every S seconds (2) until Ctrl-C; with --json a line each time",
            )
        if name == "export":
            command.add_argument("--output-dir", type=Path, help="default: the run's own")
            command.add_argument("--routing", help="whose winners, where there are several")

    dashboard = _command(
        commands, "dashboard", dashboard_command, "optuna-dashboard on the storage, on loopback"
    )
    add_storage_flag(dashboard)
    dashboard.add_argument("--host", default="127.0.0.1", help="(127.0.0.1: this machine only)")
    dashboard.add_argument("--port", type=int, default=8080, help="a free one if taken (8080)")
    dashboard.add_argument(
        "--artifacts", type=Path, metavar="DIR", help="pictures (default: beside the storage)"
    )

    report = _command(commands, "report", report_command, "one HTML page with plots, and PNGs")
    add_storage_flag(report)
    report.add_argument("--model", help="only this model's studies")
    report.add_argument("--output-dir", type=Path, default=Path("report"), help="(report)")
    report.add_argument("--compare", metavar="STORAGE", help="another storage, side by side")

    capture = _command(
        commands, "capture-routing", capture_command, "record which experts a model chooses"
    )
    add_capture_flags(capture)

    stats = _command(
        commands, "routing-stats", stats_command, "load and padding of a recorded routing"
    )
    add_stats_flags(stats)

    _command(commands, "models", models_command, "the built-in catalogue with its shapes")

    check = _command(commands, "check", check_command, "is an engine file legal, is it found")
    check.add_argument("file", type=Path, nargs="+")
    check.add_argument("--engine", choices=tuple(ENGINES), required=True)
    check.add_argument("--triton-version", help="of the serving machine, as 3.6.0")

    _add_storage_commands(commands)

    words = "an engine's file made legal for another, with every change listed"
    add_convert_flags(_command(commands, "convert", convert_command, words))

    doctor = _command(commands, "doctor", doctor_command, "what this machine has")
    add_device_flags(doctor)
    add_storage_flag(doctor)
    return parser


def _add_measuring_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = _command(commands, "run", run_command, "tune; run again, it resumes")
    _add_tuning_flags(run)
    add_launcher_flags(run)
    run.add_argument("--dry-run", action="store_true", help="what would run, and how long")

    resume = _command(commands, "resume", resume_command, "go on with everything unfinished")
    add_storage_flag(resume)
    add_launcher_flags(resume)

    bench = _command(commands, "bench", bench_command, "time given configs, without tuning")
    _add_tuning_flags(bench)
    bench.add_argument(
        "--configs",
        type=int,
        nargs="+",
        metavar="N",
        help="six numbers a config: BLOCK_SIZE_M N K GROUP_SIZE_M num_warps num_stages",
    )
    bench.add_argument(
        "--config-file",
        type=Path,
        nargs="+",
        action="extend",
        metavar="F",
        help="engine files; two and more are measured in turns, and compared with the first",
    )

    words = "kernels side by side: ours, SGLang's, vLLM's, PyTorch's; plots and data"
    add_compare_flags(_command(commands, "compare", compare_command, words))

    record = _command(commands, "record", record_command, "measure a whole space into one file")
    add_record_flags(record)


def _add_storage_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    words = "is the storage sound; copy, upgrade, serve it"
    storage = commands.add_parser("storage", help=words, description=words)
    actions = storage.add_subparsers(title="actions", required=True, metavar="ACTION")
    check = _command(actions, "check", check_storage_command, "version, integrity, what is in it")
    backup = _command(actions, "backup", backup_command, "copy it, also while a run goes on")
    backup.add_argument("file", type=Path, nargs="?", help="default: beside it, with the time")
    upgrade = _command(actions, "upgrade", upgrade_command, "an older Optuna's, after a backup")
    upgrade.add_argument("--backed-up", action="store_true", help="a server's: I have a copy")
    serve = _command(actions, "serve", serve_command, "by gRPC, to workers on other machines")
    serve.add_argument("--host", default="127.0.0.1", help="(127.0.0.1: this machine only)")
    serve.add_argument("--port", type=int, default=GRPC_PORT, help=f"({GRPC_PORT})")
    for action in (check, backup, upgrade, serve):
        add_storage_flag(action)


def _add_tuning_flags(parser: argparse.ArgumentParser) -> None:
    add_model_flags(parser)
    add_device_flags(parser)
    add_run_flags(parser)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    function: object,
    words: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=words, description=words)
    parser.set_defaults(command=function)
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="one JSON document on stdout")
    group.add_argument("--quiet", "-q", action="store_true", help="results and errors only")
    group.add_argument("--verbose", "-v", action="store_true", help="log every trial")
    return parser


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


def _storage_words(error: BaseException) -> str:
    words = fault_words(error)
    if "malformed" in words:
        return (
            f"the storage is damaged: {words}. 'autotune storage check' says more; go on with a "
            "backup, or save what is there by 'sqlite3 FILE .recover'"
        )
    return (
        f"the storage failed: {words}. Everything that was told to it is safe; "
        "mend the cause (a full disk, a lock held by another program) and run the same again"
    )
