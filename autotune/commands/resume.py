"""``resume``: goes on with everything that is unfinished in a storage."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotune.api.own_runs import is_own, placed
from autotune.commands.flags import RunningFlags, Timeout
from autotune.commands.output import Output
from autotune.commands.run import run_all
from autotune.documents.run import ResumeDocument, RunDocument
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.studies.storage.open import opened
from autotune.studies.storage.url import public_url, storage_url
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.tuning.stored_results import unfinished_settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Flags(RunningFlags):
    """The flags that may differ from the run's: the others are in the storage."""

    trials: Annotated[
        int | None,
        typer.Option("--trials", show_default="as it was started", help="trials per batch size"),
    ] = None
    timeout_s: Timeout = None
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir", show_default="as for 'export'", help="folder of the engine files"
        ),
    ] = None


def run(flags: Flags, output: Output) -> int:
    """Go on with everything unfinished, with the settings it was started with."""
    with opened(flags.storage) as storage:
        studies = stored_studies(storage)
    if not studies:
        raise UsageError(
            f"{public_url(storage_url(flags.storage))} has no studies yet: a run that ended before "
            "it opened its first left nothing to resume. Use 'autotune run' with its flags"
        )
    may_be_left = [s for s in studies if flags.trials is not None or not s.is_finished]
    here = [study for study in may_be_left if _is_here(study)]
    ours = placed(here, flags.output_dir)
    waiting = unfinished_settings(ours, trials=flags.trials, timeout_s=flags.timeout_s)
    if not waiting:
        what = "everything" if here == may_be_left else "everything but what is left out"
        output.end(f"{what} in {public_url(storage_url(flags.storage))} is finished")
        output.result(_document(()))
        return ExitCode.DONE if here == may_be_left else ExitCode.FAILED
    return run_all(waiting, flags, output, _document)


def _document(runs: Sequence[RunDocument]) -> ResumeDocument:
    return ResumeDocument(runs=tuple(runs))


def _is_here(study: StoredStudy) -> bool:
    """False, with a line in the log, for what needs a file that only settings from elsewhere
    name."""
    settings = study.attrs.settings
    model = settings.get("model")
    named = model.values() if isinstance(model, dict) else ()
    needs_file = str(settings.get("device")).startswith("replay") or any(map(_is_path, named))
    if not needs_file or is_own(settings):
        return True
    _log.warning(
        "left out: study %r: a run that was not started here names files for it. Use 'autotune "
        "run' with its flags",
        study.name,
    )
    return False


def _is_path(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(value) and Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # no name of a file
        return False
