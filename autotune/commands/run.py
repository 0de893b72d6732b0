"""``run`` and ``resume``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from autotune.commands.flags import add_launcher_flags, add_tuning_flags, run_settings
from autotune.commands.output import Output
from autotune.commands.storage_flag import add_storage_flag
from autotune.engines import ENGINES, WrittenFile
from autotune.report.dashboard.artifacts import artifact_folder
from autotune.report.dashboard.note_writer import NoteKeeper
from autotune.report.terminal.live import LiveDisplay
from autotune.report.terminal.progress import PlainDisplay, seconds_words
from autotune.report.terminal.tables import result_row, results_table
from autotune.settings import RunSettings
from autotune.spec.device import DeviceKind
from autotune.studies.storage.open import open_storage, public_url, storage_url
from autotune.studies.study_record import stored_studies
from autotune.tune.dry_run import plan_rows
from autotune.tune.jobs import files_dir
from autotune.tune.observer import RunObserver
from autotune.tune.session import RunReport, run
from autotune.tune.stored_results import unfinished_settings
from autotune.tune.workers.launcher import Launcher

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Every flag of ``run``."""
    add_tuning_flags(parser)
    add_launcher_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="what would run, and how long")


def add_resume_flags(parser: argparse.ArgumentParser) -> None:
    """What may change between a run and its resumption: the rest is in the storage."""
    add_storage_flag(parser)
    add_launcher_flags(parser)


def run_command(args: argparse.Namespace, output: Output) -> int:
    """Tune; run again, it resumes."""
    settings = run_settings(args)
    if args.dry_run:
        return _dry_run(settings, args.storage, output)
    return _run_all([settings], args, output)


def resume_command(args: argparse.Namespace, output: Output) -> int:
    """Go on with everything unfinished, with the settings it was started with."""
    storage = open_storage(args.storage, create=False)
    waiting = unfinished_settings(stored_studies(storage))
    storage.remove_session()
    if not waiting:
        output.note(f"everything in {public_url(storage_url(args.storage))} is finished")
        output.result({"runs": []})
        return EXIT_DONE
    return _run_all(waiting, args, output)


def _run_all(runs: Iterable[RunSettings], args: argparse.Namespace, output: Output) -> int:
    storage = args.storage
    launcher = Launcher(args.ray_address if args.launcher == "ray" else None)
    reports = []
    for settings in runs:
        observers = _observers(settings, storage, output)
        report = run(settings, storage, *observers, launcher=launcher)
        reports.append((settings, report))
        if report.interrupted:
            break
    shown = [item for settings, report in reports for item in _summary(settings, report)]
    data = [_report_json(report) for _, report in reports]
    output.result(data[0] if len(data) == 1 else {"runs": data}, *shown)
    for _, report in reports:
        _notes(report, storage, output)
    return max(_exit_code(report) for _, report in reports)


def _observers(settings: RunSettings, storage: str, output: Output) -> list[RunObserver]:
    live = output.err.is_terminal and not output.quiet
    shown = LiveDisplay(output.err, timeout_s=settings.timeout_s) if live else PlainDisplay()
    return [shown, NoteKeeper(artifact_folder(storage))]


def _summary(settings: RunSettings, report: RunReport) -> list[Any]:
    folder = files_dir(settings.output_dir, report.device)
    lines = [f"wrote {file.path}" for file in report.files]
    for name in settings.engines:
        engine = ENGINES[name]
        lines.append(f"{engine.title}: export {engine.env_variable}={engine.env_folder(folder)}")
        shipped = engine.installed_config_folder()
        if shipped is not None:
            lines.append(f"  or, for good, copy its files to {shipped}")
    return [results_table(map(result_row, report.results)), "\n".join(lines)]


def _notes(report: RunReport, storage: str, output: Output) -> None:
    for note in (note for file in report.files for note in file.notes):
        output.note(f"note: {note}")
    for name, reason in report.failed.items():
        output.note(f"no winner for {name}: {reason}; its entry is what you had, or the default")
    busy = ""
    if report.busy is not None and report.device.kind is DeviceKind.CUDA:
        busy = f"; GPUs verified and timed {report.busy:.0%} of their time"
    if report.ahead is not None:
        spent = report.ahead
        busy += f"; {spent.binaries} binaries compiled ahead in {spent.seconds:.0f} s of CPU time"
    output.note(f"{report.measured} new measurements in {seconds_words(report.seconds)}{busy}")
    if report.unfinished:
        why = "interrupted" if report.interrupted else "time is up"
        url = public_url(storage_url(storage))
        output.note(
            f"{why}: {report.unfinished} studies lack measurements. Nothing is lost; go on with "
            f"the same command, or 'autotune resume --storage {url}'"
        )


def _exit_code(report: RunReport) -> int:
    if report.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if report.failed else EXIT_DONE


def _report_json(report: RunReport) -> dict[str, Any]:
    return {
        "device": f"{report.device.kind.value}:{report.device.name}",
        "triton": report.device.triton_version,
        "results": [result_row(result) for result in report.results],
        "files": [_file_json(file) for file in report.files],
        "failed": report.failed,
        "new_measurements": report.measured,
        "unfinished": report.unfinished,
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 1),
        "compiled_ahead": None if report.ahead is None else asdict(report.ahead),
        "device_busy": None if report.busy is None else round(report.busy, 3),
    }


def _file_json(file: WrittenFile) -> dict[str, Any]:
    return {"path": str(file.path), "written": list(file.written), "notes": list(file.notes)}


def _dry_run(settings: RunSettings, storage: str, output: Output) -> int:
    from autotune.report.terminal.tables import rows_table

    plan = plan_rows(settings, storage)
    output.result(plan, rows_table(plan["studies"]), plan["summary"])
    return EXIT_DONE
