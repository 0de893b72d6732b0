"""``status``, ``best``, ``export``, ``models`` and ``check``: look, and write files again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from autotune.commands.output import Output
from autotune.commands.storage_flag import add_storage_flag
from autotune.commands.watching import Look, watch
from autotune.engines import ENGINES, CheckReport, check_file
from autotune.models import catalogue_shapes
from autotune.report.terminal.tables import (
    model_row,
    result_row,
    results_table,
    rows_table,
    status_row,
    status_table,
)
from autotune.studies.storage.open import close_storage, open_storage
from autotune.studies.storage.summaries import Source, measured_studies, study_summaries
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.tune.engine_output import write_files
from autotune.tune.jobs import files_dir
from autotune.tune.stored_results import of_one_routing, select, settings_of, stored_results


def add_look_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of ``status`` and ``best``."""
    _add_choice(parser)
    parser.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=2.0,
        metavar="S",
        help="again every S seconds (2) until Ctrl-C; with --json a line each time",
    )


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    """Whose files, and where to."""
    _add_choice(parser)
    parser.add_argument("--output-dir", type=Path, help="default: the run's own")
    parser.add_argument("--routing", help="whose winners, where there are several")


def add_check_flags(parser: argparse.ArgumentParser) -> None:
    """Files, and who is to read them."""
    parser.add_argument("file", type=Path, nargs="+")
    parser.add_argument("--engine", choices=tuple(ENGINES), required=True)
    parser.add_argument("--triton-version", help="of the serving machine, as 3.6.0")


def status_command(args: argparse.Namespace, output: Output) -> int:
    """How far everything is."""

    def look(source: Source) -> Look:
        rows = [status_row(study) for study in select(study_summaries(source), args.model)]
        return {"studies": rows}, status_table(rows)

    return watch(args, output, look)


def best_command(args: argparse.Namespace, output: Output) -> int:
    """The winners so far."""

    def look(source: Source) -> Look:
        studies = select(measured_studies(source), args.model)
        results = [result for study in studies for result in stored_results(study)]
        rows = [result_row(result) for result in results]
        return {"results": rows}, results_table(rows)

    return watch(args, output, look)


def export_command(args: argparse.Namespace, output: Output) -> int:
    """Write the engine files again, from the storage alone."""
    written = []
    chosen = of_one_routing(_studies(args), args.routing)
    for folder, studies in _by_output(chosen, args.output_dir).items():
        results = [r for study in studies for r in stored_results(study, folder)]
        for kind_folder in {files_dir(folder, r.device) for r in results}:
            mine = [r for r in results if files_dir(folder, r.device) == kind_folder]
            written += write_files(mine, kind_folder)
    output.result(
        {"files": [str(file.path) for file in written]},
        "\n".join(f"wrote {file.path}" for file in written),
    )
    return 0


def models_command(args: argparse.Namespace, output: Output) -> int:
    """The built-in catalogue."""
    rows = [model_row(shape) for shape in catalogue_shapes()]
    output.result({"models": rows}, rows_table(rows))
    return 0


def check_command(args: argparse.Namespace, output: Output) -> int:
    """Is this engine file legal, and would the engine find it? 1 where it has errors."""
    reports = [
        check_file(path, ENGINES[args.engine], triton_version=args.triton_version)
        for path in args.file
    ]
    output.result(
        {"files": [_check_json(report) for report in reports]},
        *("\n".join(_check_lines(report)) for report in reports),
    )
    return int(not all(report.ok for report in reports))


def _add_choice(parser: argparse.ArgumentParser) -> None:
    add_storage_flag(parser)
    parser.add_argument("--model", help="only this model's studies")


def _studies(args: argparse.Namespace) -> list[StoredStudy]:
    storage = open_storage(args.storage, create=False)
    try:
        return select(stored_studies(storage), args.model)
    finally:
        close_storage(storage)


def _by_output(studies: list[StoredStudy], given: Path | None) -> dict[Path, list[StoredStudy]]:
    folders: dict[Path, list[StoredStudy]] = {}
    for study in studies:
        folder = given.absolute() if given else settings_of(study).output_dir
        folders.setdefault(folder, []).append(study)
    return folders


def _check_json(report: CheckReport) -> dict[str, Any]:
    return {
        "path": str(report.path),
        "engine": report.engine,
        "findings": [
            {"level": f.level.value, "key": f.key, "message": f.message} for f in report.findings
        ],
        "env": {report.env_variable: str(report.env_folder) if report.env_folder else None},
        "reads": str(report.reads) if report.reads else None,
    }


def _check_lines(report: CheckReport) -> list[str]:
    lines = [f"{report.path} ({report.engine})"]
    for finding in report.findings:
        key = f" [{finding.key}]" if finding.key else ""
        lines.append(f"  {finding.level.value}{key}: {finding.message}")
    if not report.findings:
        lines.append("  nothing wrong")
    if report.env_folder is not None:
        lines.append(f"  found with {report.env_variable}={report.env_folder}")
    return lines
