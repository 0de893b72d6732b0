"""``export``: writes the engine files again, from the storage alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from autotune.backends.stand_in import kernel_lines
from autotune.commands.default_folders import DEFAULT_OUTPUT
from autotune.commands.flag_kinds import Many
from autotune.commands.output import Output
from autotune.commands.storage_flag import StudiesFlags, chosen_studies
from autotune.documents.files import ExportDocument
from autotune.documents.rows import ResultRow
from autotune.engines import WrittenFile
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.report.rows import file_row, result_row
from autotune.studies.study_record import StoredStudy
from autotune.tuning.engine_output import Result, write_files
from autotune.tuning.stored_results import (
    engine_now,
    of_one_routing,
    output_folder,
    settings_of,
    shares_of,
    stored_results,
)


@dataclass(frozen=True, kw_only=True)
class Flags(StudiesFlags):
    """Whose files are written, and the folder."""

    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            show_default="that of a run that was started here, else configs",
            help="folder of the engine files",
        ),
    ] = None
    routing: Annotated[
        tuple[str, ...],
        typer.Option("--routing", metavar="R", help="whose winners, where there are several"),
        Many(),
    ] = ()


def run(flags: Flags, output: Output) -> int:
    """Write the engine files again, from the storage alone."""
    written, rows, lines = list[WrittenFile](), list[ResultRow](), list[str]()
    found = chosen_studies(flags.storage, flags.model, flags.output_dir)
    folders: dict[Path, list[StoredStudy]] = {}
    for study in of_one_routing(found, ",".join(flags.routing) or None):
        folders.setdefault(output_folder(study), []).append(study)
    for folder, studies in folders.items():
        found_of = {study.name: _results(study) for study in studies}
        results = [result for of_study in found_of.values() for result in of_study]
        written += write_files(results, folder)
        rows += [
            result_row(result, study.attrs.model, shares_of(study))
            for study in studies
            for result in found_of[study.name]
        ]
        lines += kernel_lines((r.engine, r.problem, r.device) for r in results)
    output.result(
        ExportDocument(files=tuple(map(file_row, written)), results=tuple(rows)),
        "\n".join(f"wrote {file.path}" for file in written),
    )
    if flags.output_dir is None:
        for folder in folders:
            output.note(f"note: {folder}: {_whose(folder)}; --output-dir names another")
    for note in dict.fromkeys(note for file in written for note in file.notes):
        output.note(f"note: {note}")
    for line in dict.fromkeys(lines):
        output.note(line)
    return ExitCode.DONE


def _results(study: StoredStudy) -> list[Result]:
    try:
        settings = settings_of(study).model
    except UsageError:
        return stored_results(study)
    return stored_results(study, engine_of=partial(engine_now, settings))


def _whose(folder: Path) -> str:
    if folder == DEFAULT_OUTPUT.absolute():
        return "the default, in the current folder"
    return "the folder of a run that was started here"
