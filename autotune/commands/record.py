"""``record``: measures a whole space into one file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from autotune.backends.gpu.providers import TUNABLE
from autotune.commands.flags import (
    add_device_flags,
    add_engine_flag,
    add_kernel_flag,
    add_time_limits,
    cache_dir,
    device_selector,
    engine_names,
    jobs_on,
)
from autotune.commands.model_flags import add_model_flags, from_flags, model_settings
from autotune.commands.output import Output
from autotune.exit_codes import ExitCode
from autotune.report.terminal.bars import BarDisplay, LineDisplay
from autotune.report.terminal.run_display import seconds_words
from autotune.report.terminal.tables import rows_table
from autotune.settings import RecordSettings
from autotune.studies.search.pruning import HOPELESS
from autotune.tuning.compile_service.pool import default_jobs
from autotune.tuning.recording.recorder import RecordReport, StudyCount, record


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag of ``record``."""
    add_model_flags(parser)
    add_device_flags(parser)
    group = parser.add_argument_group("recording")
    group.add_argument(
        "--output", type=Path, metavar="FILE.npz", help="(named by device and problem, here)"
    )
    add_kernel_flag(group, "one config for both GEMMs, or pairs of twice the same, each GEMM timed")
    add_engine_flag(group)
    group.add_argument(
        "--provider",
        choices=TUNABLE,
        default=TUNABLE[0],
        help="whose kernel is measured: ours (default), or an installed engine's own",
    )
    group.add_argument(
        "--limit", type=int, metavar="N", help="N random configs and the defaults (the whole space)"
    )
    group.add_argument(
        "--like", type=Path, metavar="FILE.npz", help="only the configs of this recording"
    )
    group.add_argument("--seed", type=int, default=0, help="of what --limit chooses")
    add_time_limits(group, "seconds from the first measurement", "for one compile or config")
    group.add_argument(
        "--give-up-at",
        type=float,
        default=HOPELESS,
        metavar="X",
        help="one sample is enough of a config that takes X times the best so far (%(default)g)",
    )
    group.add_argument(
        "--jobs", type=int, help="processes that estimate (default: one per core); 1 on a GPU"
    )
    group.add_argument("--compile-jobs", type=int, help="processes that compile (one per core)")


def run(flags: argparse.Namespace, output: Output) -> int:
    """Measure a whole space into one file; run again, it goes on. FAILED where time was up."""
    live = output.err.is_terminal and not output.quiet
    report = record(_settings(flags), BarDisplay(output.err) if live else LineDisplay())
    rows = [_row(study) for study in report.studies]
    output.result(_json(report, rows), rows_table(rows), f"wrote {report.path}")
    output.note(f"{report.measured} new measurements in {seconds_words(report.seconds)}")
    if report.missing:
        why = "interrupted" if report.interrupted else "time is up"
        output.note(f"{why}: {report.missing} are missing; the same command goes on")
    if report.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED if report.missing else ExitCode.DONE


def _settings(flags: argparse.Namespace) -> RecordSettings:
    device = device_selector(flags)
    return from_flags(
        RecordSettings,
        flags,
        model=model_settings(flags),
        device=device,
        engines=engine_names(flags),
        cache_dir=cache_dir(flags),
        jobs=flags.jobs if flags.jobs is not None else jobs_on(device),
        compile_jobs=flags.compile_jobs if flags.compile_jobs is not None else default_jobs(),
    )


def _row(study: StudyCount) -> dict[str, Any]:
    problem = study.problem
    return {
        "E": problem.experts,
        "N": problem.intermediate,
        "batch_size": problem.tokens,
        "recorded": sum(study.outcomes.values()),
        "space": study.space_size,
        "best": None if study.best is None else str(study.best),
        "best_us": None if study.best_us is None else round(study.best_us, 2),
        "outcomes": ", ".join(f"{count} {word}" for word, count in study.outcomes.items()),
    }


def _json(report: RecordReport, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "device": report.device.title,
        "file": str(report.path),
        "studies": rows,
        "new_measurements": report.measured,
        "missing": report.missing,
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 1),
    }
