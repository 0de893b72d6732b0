"""``run``: tunes; run again, it resumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from autotune.api.result import Result
from autotune.api.runs import run_tuning
from autotune.commands.dry_run import plan_rows, planned
from autotune.commands.flags import RunningFlags, TuningFlags, run_settings
from autotune.commands.output import Output
from autotune.documents.base import Document
from autotune.documents.run import RunDocument
from autotune.exit_codes import ExitCode
from autotune.report.terminal.run_display import LiveDisplay, PlainDisplay
from autotune.report.terminal.run_summary import run_notes, run_summary
from autotune.report.terminal.tables import rows_table
from autotune.settings import RunSettings
from autotune.shown import counted
from autotune.studies.storage.url import public_url, storage_url
from autotune.tuning.run_report import RunReport


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
    live = output.err.is_terminal and not output.quiet
    ray_address = flags.ray_address if flags.launcher == "ray" else None
    code: int = ExitCode.DONE
    results: list[Result] = []
    for settings in runs:
        shown = LiveDisplay(output.err, timeout_s=settings.timeout_s) if live else PlainDisplay()
        try:
            report = run_tuning(settings, flags.storage, shown, ray_address=ray_address)
        except KeyboardInterrupt:  # before it searched: those before have something to say
            if not results:
                raise KeyboardInterrupt("the same command goes on") from None
            code = ExitCode.INTERRUPTED
            break
        results.append(Result.of(settings, report))
        if report.interrupted:
            break
    views = (view for each in results for view in run_summary(each.settings, each.report))
    output.result(document([each.document for each in results]), *views)
    for each in results:
        _say_more(each, flags.storage, output)
    return max(code, *(_exit_code(each.report) for each in results))


def _say_more(result: Result, storage: str, output: Output) -> None:
    for note in run_notes(result.report):
        output.note(note)
    if result.unfinished:
        why = "interrupted" if result.interrupted else "time is up"
        url = public_url(storage_url(storage))
        output.end(
            f"{why}: {counted(result.unfinished, 'study is', 'studies are')} not finished. "
            f"Nothing is lost; go on with the same command, or 'autotune resume --storage {url}'"
        )


def _exit_code(report: RunReport) -> int:
    if report.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED if report.failed or report.left_out else ExitCode.DONE
