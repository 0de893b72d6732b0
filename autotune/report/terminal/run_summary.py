"""What a run brought, for people: its tables, where the files are, and what to know about them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from autotune.backends.stand_in import error_lines, kernel_lines
from autotune.report.baseline import baseline_lines, launch_lines
from autotune.report.kept import kept_words
from autotune.report.rows import result_row
from autotune.report.run_document import served
from autotune.report.terminal.run_display import seconds_words
from autotune.report.terminal.tables import results_table
from autotune.report.traffic import traffic_gains
from autotune.settings import RunSettings
from autotune.shown import counted
from autotune.spec.device import DeviceKind
from autotune.tuning.jobs import Origin
from autotune.tuning.run_report import RunReport
from autotune.tuning.time_line import shares_of, shares_words


def run_summary(settings: RunSettings, report: RunReport) -> list[RenderableType]:
    """Return a table for each model, and lines on the files and how engines come to read them."""
    tables: list[RenderableType] = []
    for model in report.models:
        tables += [f"{model.label}:"] if settings.more_models else []
        rows = [result_row(result, model.label, model.shares) for result in model.results]
        tables.append(results_table(rows))
    return [*tables, "\n".join(_lines(settings, report))]


def _lines(settings: RunSettings, report: RunReport) -> Iterator[str]:
    if kept := kept_words(result.is_kept for result in report.results):
        yield kept
    by_rule = (r.engine.name for r in report.results if r.default_origin is Origin.DEFAULT)
    yield from baseline_lines(by_rule)
    by_launch = (r.engine for r in report.results if r.default_origin is Origin.OWN)
    yield from launch_lines(by_launch, settings.output_dir)
    yield from error_lines(result.device for result in report.results)
    for model in report.models:
        for gain in traffic_gains(model.results, model.shares):
            yield f"{model.label}: {gain.words}" if settings.more_models else gain.words
    yield from (f"wrote {file.path}" for file in report.files)
    measured = (result for result in report.results if result.measured)
    folders = {(r.engine.name, r.folder(settings.output_dir)): r.engine for r in measured}
    for (_, folder), engine in folders.items():
        yield f"{engine.title}: export {engine.env_variable}={engine.env_folder(folder)}"
        shipped = engine.installed_config_folder()
        if shipped is not None:
            yield f"  or, for good, copy its files to {shipped}"


def run_notes(report: RunReport) -> list[str]:
    """Return sentences for whoever uses the files, without repetition, and what the run took."""
    notes = [
        *(f"note: {note}" for file in report.files for note in file.notes),
        *_kernel_notes(report),
        *_serving_notes(report),
        *_failure_notes(report),
    ]
    return [*dict.fromkeys(notes), _made(report)]


def _kernel_notes(report: RunReport) -> Iterator[str]:
    unproven = (r for r in report.results if r.kernel is not None and not r.kernel.is_proven)
    yield from kernel_lines((r.engine, r.problem, r.device) for r in unproven)
    for title in dict.fromkeys(r.engine.title for r in report.results if r.is_beaten_by_a_pair):
        yield (
            f"{title} by itself has a config for each GEMM, from a file and its _down file, which "
            "no config for both beats: --kernel separate searches such pairs"
        )


def _serving_notes(report: RunReport) -> Iterator[str]:
    for model in report.models:
        for row in served(model, several=len(report.models) > 1):
            if not row.by_itself:
                yield row.words


def _failure_notes(report: RunReport) -> Iterator[str]:
    for model in report.models:
        if any(result.measured for result in model.results):
            for each in model.failed_words:
                yield f"no winner for {each}; its entry is what you had, or the default"
        else:
            of_model = f" for {model.label}" if len(report.models) > 1 else ""
            reasons = "; ".join(dict.fromkeys(model.failed.values()))
            yield f"no engine file is written{of_model}: {reasons}"
    for label, reason in report.left_out.items():
        yield f"nothing for {label}: {reason}"


def _made(report: RunReport) -> str:
    of_models = f" of {len(report.models)} models" if len(report.models) > 1 else ""
    made = counted(report.measured, f"new {report.device.kind.noun}")
    parts = [f"{made}{of_models} in {seconds_words(report.seconds)}"]
    if report.device.kind is DeviceKind.CUDA and (shares := shares_of(report.device_times)):
        parts.append(shares_words(shares))
    if report.ahead is not None:
        binaries = counted(report.ahead.binaries, "binary", "binaries")
        parts.append(f"{binaries} compiled ahead in {report.ahead.seconds:.0f} s of CPU time")
    return "; ".join(parts)
