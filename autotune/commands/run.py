"""``run``: tunes; run again, it resumes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import partial
from statistics import median
from typing import Any

from autotune.backends.gpu.providers import chosen_providers
from autotune.backends.protocol import Measurer
from autotune.backends.selectors import open_measurer
from autotune.backends.stand_in import kernel_lines
from autotune.commands.flags import add_launcher_flags, add_tuning_flags, run_settings
from autotune.commands.output import Output
from autotune.commands.own_runs import remember
from autotune.engines import Engine
from autotune.errors import MissingStorageError
from autotune.exit_codes import ExitCode
from autotune.report.dashboard.artifacts import artifact_folder
from autotune.report.dashboard.note_writer import NoteWriter
from autotune.report.terminal.opening_rows import file_rows, written_to
from autotune.report.terminal.run_display import LiveDisplay, PlainDisplay, seconds_words
from autotune.report.terminal.serving_rows import serving_rows
from autotune.report.terminal.tables import result_row, results_table, rows_table
from autotune.report.traffic import traffic_gains
from autotune.settings import RunSettings
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.storage.open import opened
from autotune.studies.storage.url import public_url, storage_url
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.studies.trial_record import OUTCOME
from autotune.tune import session
from autotune.tune.jobs import Job, jobs_of, model_shape
from autotune.tune.processes.child import Child
from autotune.tune.session import RunReport
from autotune.tune.time_line import as_json, shares_of, shares_words
from autotune.tune.workers.launcher import Launcher


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add every flag of ``run``."""
    add_tuning_flags(parser)
    add_launcher_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="what would run, and how long")


def run(flags: argparse.Namespace, output: Output) -> int:
    """Tune; run again, it resumes."""
    settings = run_settings(flags)
    if flags.dry_run:
        plan = _plan(settings, flags.storage)
        output.result(plan, rows_table(plan["studies"]), plan["summary"])
        for row in (*plan["lookups"], *plan["serving"]):
            output.note(row["words"])
        return ExitCode.DONE
    return run_all([settings], flags, output)


def run_all(runs: Iterable[RunSettings], flags: argparse.Namespace, output: Output) -> int:
    """Tune with each of the settings, one after the other; say what each brought."""
    storage, live = flags.storage, output.err.is_terminal and not output.quiet
    launcher = Launcher(flags.ray_address if flags.launcher == "ray" else None)
    code: int = ExitCode.DONE
    reports: list[tuple[RunSettings, RunReport]] = []
    for settings in runs:
        remember(settings.as_json())
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
    data = [_report_json(settings, report) for settings, report in reports]
    output.result(data[0] if len(data) == 1 else {"runs": data}, *summary)
    for _, report in reports:
        _notes(report, storage, output)
    return max(code, *(_exit_code(report) for _, report in reports))


def _summary(settings: RunSettings, report: RunReport) -> list[Any]:
    shares = settings.model.shares
    rows = [result_row(result, shares) for result in report.results]
    lines = [gain.words for gain in traffic_gains(report.results, shares)]
    lines += [f"wrote {file.path}" for file in report.files]
    measured = (result for result in report.results if result.measured)
    folders = {(r.engine, r.folder(settings.output_dir)): None for r in measured}
    for engine, folder in folders:
        lines.append(f"{engine.title}: export {engine.env_variable}={engine.env_folder(folder)}")
        shipped = engine.installed_config_folder()
        if shipped is not None:
            lines.append(f"  or, for good, copy its files to {shipped}")
    return [results_table(rows), "\n".join(lines)]


def _notes(report: RunReport, storage: str, output: Output) -> None:
    for note in (note for file in report.files for note in file.notes):
        output.note(f"note: {note}")
    unproven = (r for r in report.results if r.kernel is not None and not r.kernel.is_proven)
    for line in kernel_lines((r.engine, r.problem, r.device) for r in unproven):
        output.note(line)
    for title in dict.fromkeys(r.engine.title for r in report.results if r.is_beaten_by_a_pair):
        output.note(
            f"{title} by itself has a config for each GEMM, from a file and its _down file, which "
            "no config for both beats: --kernel separate searches such pairs"
        )
    for row in _serving(report):
        if not row["by_itself"]:
            output.note(row["words"])
    has_times = any(result.measured for result in report.results)
    if not has_times:
        reasons = "; ".join(dict.fromkeys(report.failed.values()))
        output.note(f"no engine file is written: {reasons}")
    for name, reason in report.failed.items() if has_times else ():
        output.note(f"no winner for {name}: {reason}; its entry is what you had, or the default")
    busy = ""
    if report.device.kind is DeviceKind.CUDA and (shares := shares_of(report.device_times)):
        busy = f"; {shares_words(shares)}"
    if report.ahead is not None:
        spent = report.ahead
        busy += f"; {spent.binaries} binaries compiled ahead in {spent.seconds:.0f} s of CPU time"
    output.note(f"{report.measured} new measurements in {seconds_words(report.seconds)}{busy}")
    if report.unfinished:
        why = "interrupted" if report.interrupted else "time is up"
        url = public_url(storage_url(storage))
        output.end(
            f"{why}: {report.unfinished} studies lack measurements. Nothing is lost; go on with "
            f"the same command, or 'autotune resume --storage {url}'"
        )


def _serving(report: RunReport) -> list[dict[str, Any]]:
    return serving_rows(report.shape, _asked(report))


def _asked(report: RunReport) -> list[tuple[Engine, Problem, Device]]:
    return [(result.engine, result.problem, result.device) for result in report.results]


def _exit_code(report: RunReport) -> int:
    if report.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED if report.failed else ExitCode.DONE


def _report_json(settings: RunSettings, report: RunReport) -> dict[str, Any]:
    return {
        "device": f"{report.device.kind.value}:{report.device.name}",
        "triton": report.device.triton_version,
        "results": [result_row(result, settings.model.shares) for result in report.results],
        "traffic": [
            {"engine": gain.engine.name, "speedup": round(gain.speedup, 3), "share": gain.share}
            for gain in traffic_gains(report.results, settings.model.shares)
        ],
        "lookups": file_rows(_asked(report), written_to(settings.output_dir)),
        "serving": _serving(report),
        "files": [
            {"path": str(file.path), "written": list(file.written), "notes": list(file.notes)}
            for file in report.files
        ],
        "failed": report.failed,
        "new_measurements": report.measured,
        "unfinished": report.unfinished,
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 1),
        "compiled_ahead": None if report.ahead is None else asdict(report.ahead),
        "device_time": {c.value: round(s, 3) for c, s in shares_of(report.device_times).items()},
        "time_line": as_json(report.device_times, report.began_s),
    }


def _plan(settings: RunSettings, storage_url: str) -> dict[str, Any]:
    """Return what would run: ``studies``, one row each; ``summary``, how long in one sentence;
    ``lookups``, what each engine calls its files and where it looks; ``serving``, the kernel that
    it takes by itself. Measures and writes nothing."""
    shape = model_shape(settings.model)
    known = {study.name: study for study in _stored(storage_url)}
    on_gpu = settings.device.startswith("cuda")
    chosen = chosen_providers(settings.provider, settings.engines, on_gpu=on_gpu)
    jobs = jobs_of(shape, settings.model, settings.engines, settings.kernel, chosen)
    rows, asked = [], []
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        for job in jobs:
            if job.provider not in children:
                options = replace(settings.measurer_options, provider=job.provider)
                child = Child(partial(open_measurer, settings.device, options))
                children[job.provider] = stack.enter_context(closing(child))
            child = children[job.provider]
            rows.append(_planned(job, child, settings.trials, known))
            device = child.call(Measurer.device)
            asked += [(engine, job.problem, device) for engine in job.engines]
    summary = _plan_words(rows, settings.jobs, known.values())
    lookups = file_rows(asked, written_to(settings.output_dir))
    serving = serving_rows(shape, asked)
    return {"studies": rows, "summary": summary, "lookups": lookups, "serving": serving}


def _planned(
    job: Job, child: Child, trials: int, known: Mapping[str, StoredStudy]
) -> dict[str, Any]:
    space = child.call(Measurer.space, job.problem)
    key = StudyKey(job.problem, child.call(Measurer.device), space.fingerprint)
    stored = known.get(key.study_name)
    done = len(stored.measured) if stored else 0
    return {
        "study": key.study_name,
        "engines": "+".join(engine.name for engine in job.engines),
        "configs": len(space),
        "measured": done,
        "to_measure": max(0, min(trials, len(space)) - done),
    }


def _stored(url: str) -> list[StoredStudy]:
    try:
        with opened(url) as storage:
            return stored_studies(storage)
    except MissingStorageError:
        return []  # all is to do


def _plan_words(rows: Iterable[dict[str, Any]], jobs: int, stored: Iterable[StoredStudy]) -> str:
    left = sum(row["to_measure"] for row in rows)
    each = _seconds_per_trial(stored)
    if not left:
        return "nothing to measure: everything is there"
    if each is None:
        return f"{left} measurements; how long is known once this storage has its first ones"
    minutes = left * each / jobs / 60
    return (
        f"{left} measurements, about {minutes:.1f} min at {each:.2f} s each on {jobs} process(es)"
    )


def _seconds_per_trial(stored: Iterable[StoredStudy]) -> float | None:
    """Median over the trials of the storage, from ask to tell."""
    seconds = [
        trial.duration.total_seconds()
        for study in stored
        for trial in study.trials
        if trial.duration is not None and OUTCOME in trial.user_attrs
    ]
    return median(seconds) if seconds else None
