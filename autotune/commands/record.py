"""``record``: measures a whole space into one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from autotune.api.asked import cache_asked, device_asked, jobs_on, of_fields
from autotune.backends.gpu.providers import TUNABLE
from autotune.commands.flag_kinds import OneOf
from autotune.commands.flags import (
    DeviceFlags,
    EngineFlag,
    Kernel,
    RunTimeout,
    Seed,
    engine_names,
)
from autotune.commands.model_flags import ModelFlags, model_settings
from autotune.commands.output import Output
from autotune.documents.measuring import RecordDocument, RecordedStudy
from autotune.exit_codes import ExitCode
from autotune.report.terminal.bars import BarDisplay, LineDisplay
from autotune.report.terminal.run_display import seconds_words
from autotune.report.terminal.tables import rows_table
from autotune.settings import RecordSettings
from autotune.shown import counted
from autotune.spec.config import config_from_keys
from autotune.spec.problem import KernelMode
from autotune.studies.search.pruning import HOPELESS
from autotune.tuning.compile_service.pool import default_jobs
from autotune.tuning.recording.recorder import RecordReport, StudyCount, record


@dataclass(frozen=True, kw_only=True)
class Flags(ModelFlags, DeviceFlags, EngineFlag):
    """The flags of ``record``."""

    panel = "Recording"

    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE.npz",
            show_default="named by device and problem, here",
            help="the recording",
        ),
    ] = None
    kernel: Kernel = KernelMode.FUSED
    provider: Annotated[
        str,
        typer.Option(
            "--provider", help="whose kernel is measured: ours, or an installed engine's own"
        ),
        OneOf(TUNABLE),
    ] = TUNABLE[0]
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", show_default="the whole space", help="N random configs and the defaults"
        ),
    ] = None
    like: Annotated[
        Path | None,
        typer.Option("--like", metavar="FILE.npz", help="only the configs of this recording"),
    ] = None
    seed: Seed = 0
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="S",
            help="seconds of measuring; compiling before it is not bounded",
        ),
    ] = None
    run_timeout_s: RunTimeout = 120.0
    give_up_at: Annotated[
        float,
        typer.Option(
            "--give-up-at",
            help="one sample is enough of a config that takes X times the best so far",
        ),
    ] = HOPELESS
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", show_default="one per core; 1 on a GPU", help="processes that estimate"
        ),
    ] = None
    compile_jobs: Annotated[
        int | None,
        typer.Option("--compile-jobs", show_default="one per core", help="processes that compile"),
    ] = None


def run(flags: Flags, output: Output) -> int:
    """Measure a whole space into one file; run again, it goes on. FAILED where time was up."""
    live = output.err.is_terminal and not output.quiet
    report = record(_settings(flags), BarDisplay(output.err) if live else LineDisplay())
    found = _document(report)
    output.result(found, rows_table(list(map(_for_people, found.studies))), f"wrote {report.path}")
    made = counted(report.measured, f"new {report.device.kind.noun}")
    output.note(f"{made} in {seconds_words(report.seconds)}")
    if report.missing:
        why = "interrupted" if report.interrupted else "time is up"
        output.note(f"{why}: {report.missing} are missing; the same command goes on")
    if report.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED if report.missing else ExitCode.DONE


def _settings(flags: Flags) -> RecordSettings:
    device = device_asked(flags.device)
    return of_fields(
        RecordSettings,
        vars(flags),
        model=model_settings(flags, flags.model),
        device=device,
        engines=engine_names(flags),
        cache_dir=cache_asked(flags.cache_dir),
        jobs=flags.jobs if flags.jobs is not None else jobs_on(device),
        compile_jobs=flags.compile_jobs if flags.compile_jobs is not None else default_jobs(),
    )


def _row(study: StudyCount) -> RecordedStudy:
    problem = study.problem
    return RecordedStudy(
        E=problem.experts,
        N=problem.intermediate,
        batch_size=problem.tokens,
        recorded=sum(study.outcomes.values()),
        space=study.space_size,
        best=study.best.as_keys() if study.best else None,
        best_us=study.best_us,
        outcomes=study.outcomes,
    )


def _for_people(row: RecordedStudy) -> dict[str, Any]:
    """Return a row with its config and outcomes in words."""
    outcomes = ", ".join(f"{count} {word}" for word, count in row.outcomes.items())
    best = str(config_from_keys(row.best)) if row.best else None
    return row.as_json() | {"best": best, "outcomes": outcomes}


def _document(report: RecordReport) -> RecordDocument:
    return RecordDocument(
        device=report.device.title,
        file=report.path,
        studies=tuple(map(_row, report.studies)),
        new_measurements=report.measured,
        missing=report.missing,
        interrupted=report.interrupted,
        seconds=report.seconds,
    )
