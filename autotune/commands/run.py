"""``run``: tunes; run again, it resumes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from autotune.backends.stand_in import kernel_lines
from autotune.commands.dry_run import plan_rows, planned
from autotune.commands.flags import RunningFlags, TuningFlags, run_settings
from autotune.commands.output import Output
from autotune.commands.own_runs import remember
from autotune.documents.base import Document
from autotune.documents.run import RunDocument
from autotune.exit_codes import ExitCode
from autotune.report.dashboard.artifacts import artifact_folder
from autotune.report.dashboard.note_writer import NoteWriter
from autotune.report.kept import kept_words
from autotune.report.rows import result_row
from autotune.report.run_document import run_document, served
from autotune.report.terminal.run_display import LiveDisplay, PlainDisplay, seconds_words
from autotune.report.terminal.tables import results_table, rows_table
from autotune.report.traffic import traffic_gains
from autotune.settings import RunSettings
from autotune.shown import counted
from autotune.spec.device import DeviceKind
from autotune.studies.storage.url import public_url, storage_url
from autotune.tuning import session
from autotune.tuning.run_report import RunReport
from autotune.tuning.time_line import shares_of, shares_words
from autotune.tuning.workers.launcher import Launcher

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Flags(TuningFlags, RunningFlags):
    """The flags of ``run``."""

    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would run, and how long")] = (
        False
    )


def run(flags: Flags, output: Output) -> int:
    """Tune; run again, it resumes."""
    settings = run_settings(flags)
    if flags.dry_run:
        plan = planned(settings, flags.storage)
        output.result(plan, rows_table(plan_rows(plan)), plan.summary)
        lines = [row.words for row in plan.lookups] + [row.words for row in plan.serving]
        for words in lines:
            output.note(words)
        return ExitCode.FAILED if plan.left_out else ExitCode.DONE
    return run_all([settings], flags, output)


def run_all(
    runs: Iterable[RunSettings],
    flags: RunningFlags,
    output: Output,
    document: Callable[[Sequence[RunDocument]], Document] = lambda runs: runs[0],
) -> int:
    """Tune with each of the settings, one after the other; say what each brought, as the
    ``document`` of them."""
    storage, live = flags.storage, output.err.is_terminal and not output.quiet
    launcher = Launcher(flags.ray_address if flags.launcher == "ray" else None)
    code: int = ExitCode.DONE
    reports: list[tuple[RunSettings, RunReport]] = []
    _log.info("looking into %s for what is measured already", public_url(storage_url(storage)))
    for settings in runs:
        for model in settings.models:
            remember(settings.of_model(model).as_json())
        shown = LiveDisplay(output.err, timeout_s=settings.timeout_s) if live else PlainDisplay()
        notes = NoteWriter(artifact_folder(storage))
        try:
            report = session.run(settings, storage, shown, notes, launcher=launcher)
        except KeyboardInterrupt:  # before it searched: those before have something to say
            if not reports:
                raise
            code = ExitCode.INTERRUPTED
            break
        reports.append((settings, report))
        if report.interrupted:
            break
    summary = [item for settings, report in reports for item in _summary(settings, report)]
    data = [run_document(report, settings.output_dir) for settings, report in reports]
    output.result(document(data), *summary)
    for _, report in reports:
        _notes(report, storage, output)
    return max(code, *(_exit_code(report) for _, report in reports))


def _summary(settings: RunSettings, report: RunReport) -> list[Any]:
    kept = kept_words(result.is_kept for result in report.results)
    lines = [kept] if kept else []
    lines += [
        f"{model.label}: {gain.words}" if settings.more_models else gain.words
        for model in report.models
        for gain in traffic_gains(model.results, model.shares)
    ]
    lines += [f"wrote {file.path}" for file in report.files]
    measured = (result for result in report.results if result.measured)
    folders = {(r.engine.name, r.folder(settings.output_dir)): r.engine for r in measured}
    for (_, folder), engine in folders.items():
        lines.append(f"{engine.title}: export {engine.env_variable}={engine.env_folder(folder)}")
        shipped = engine.installed_config_folder()
        if shipped is not None:
            lines.append(f"  or, for good, copy its files to {shipped}")
    tables: list[Any] = []
    for model in report.models:
        tables += [f"{model.label}:"] if settings.more_models else []
        rows = [result_row(result, model.label, model.shares) for result in model.results]
        tables.append(results_table(rows))
    return [*tables, "\n".join(lines)]


def _notes(report: RunReport, storage: str, output: Output) -> None:
    for note in dict.fromkeys(note for file in report.files for note in file.notes):
        output.note(f"note: {note}")
    unproven = (r for r in report.results if r.kernel is not None and not r.kernel.is_proven)
    for line in kernel_lines((r.engine, r.problem, r.device) for r in unproven):
        output.note(line)
    for title in dict.fromkeys(r.engine.title for r in report.results if r.is_beaten_by_a_pair):
        output.note(
            f"{title} by itself has a config for each GEMM, from a file and its _down file, which "
            "no config for both beats: --kernel separate searches such pairs"
        )
    several = len(report.models) > 1
    for row in (row for model in report.models for row in served(model, several=several)):
        if not row.by_itself:
            output.note(row.words)
    has_times = any(result.measured for result in report.results)
    if not has_times:
        reasons = "; ".join(dict.fromkeys(report.failed.values()))
        output.note(f"no engine file is written: {reasons}")
    words = dict.fromkeys(words for model in report.models for words in model.failed_words)
    for each in words if has_times else ():
        output.note(f"no winner for {each}; its entry is what you had, or the default")
    for label, reason in report.left_out.items():
        output.note(f"nothing for {label}: {reason}")
    busy = ""
    if report.device.kind is DeviceKind.CUDA and (shares := shares_of(report.device_times)):
        busy = f"; {shares_words(shares)}"
    if report.ahead is not None:
        spent = report.ahead
        binaries = counted(spent.binaries, "binary", "binaries")
        busy += f"; {binaries} compiled ahead in {spent.seconds:.0f} s of CPU time"
    of_models = f" of {len(report.models)} models" if len(report.models) > 1 else ""
    made = counted(report.measured, f"new {report.device.kind.noun}")
    output.note(f"{made}{of_models} in {seconds_words(report.seconds)}{busy}")
    if report.unfinished:
        why = "interrupted" if report.interrupted else "time is up"
        url = public_url(storage_url(storage))
        output.end(
            f"{why}: {counted(report.unfinished, 'study lacks', 'studies lack')} measurements. "
            f"Nothing is lost; go on with the same command, or 'autotune resume --storage {url}'"
        )


def _exit_code(report: RunReport) -> int:
    if report.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED if report.failed or report.left_out else ExitCode.DONE
