"""``resume``: goes on with everything that is unfinished in a storage."""

from __future__ import annotations

import argparse

from autotune.commands.flags import add_launcher_flags
from autotune.commands.output import Output
from autotune.commands.run import run_all
from autotune.commands.storage_flag import add_storage_flag
from autotune.exit_codes import ExitCode
from autotune.studies.storage.open import opened
from autotune.studies.storage.url import public_url, storage_url
from autotune.studies.study_record import stored_studies
from autotune.tune.stored_results import unfinished_settings


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that may differ from the run's: the others are in the storage."""
    add_storage_flag(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--trials", type=int, help="measurements per batch size (as it was started)")
    group.add_argument(
        "--timeout",
        dest="timeout_s",
        type=float,
        metavar="S",
        help="seconds of measuring, anew (as it was started)",
    )
    add_launcher_flags(parser)


def run(flags: argparse.Namespace, output: Output) -> int:
    """Go on with everything unfinished, with the settings it was started with."""
    with opened(flags.storage) as storage:
        waiting = unfinished_settings(
            stored_studies(storage), trials=flags.trials, timeout_s=flags.timeout_s
        )
    if not waiting:
        output.end(f"everything in {public_url(storage_url(flags.storage))} is finished")
        output.result({"runs": []})
        return ExitCode.DONE
    return run_all(waiting, flags, output)
