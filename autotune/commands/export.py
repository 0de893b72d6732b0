"""``export``: writes the engine files again, from the storage alone."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from autotune.backends.stand_in import kernel_lines
from autotune.commands.default_folders import DEFAULT_OUTPUT
from autotune.commands.output import Output
from autotune.commands.storage_flag import add_studies_flags, chosen_studies
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.studies.study_record import StoredStudy
from autotune.tuning.engine_output import Result, write_files
from autotune.tuning.stored_results import (
    engine_now,
    of_one_routing,
    output_folder,
    settings_of,
    stored_results,
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add whose files are written, and the folder."""
    add_studies_flags(parser)
    parser.add_argument(
        "--output-dir", type=Path, help="default: that of a run that was started here, else configs"
    )
    parser.add_argument("--routing", help="whose winners, where there are several")


def run(flags: argparse.Namespace, output: Output) -> int:
    """Write the engine files again, from the storage alone."""
    written, lines = [], list[str]()
    found = chosen_studies(flags.storage, flags.model, flags.output_dir)
    folders: dict[Path, list[StoredStudy]] = {}
    for study in of_one_routing(found, flags.routing):
        folders.setdefault(output_folder(study), []).append(study)
    for folder, studies in folders.items():
        results = [r for study in studies for r in _results(study)]
        written += write_files(results, folder)
        lines += kernel_lines((r.engine, r.problem, r.device) for r in results)
    output.result(
        {"files": [str(file.path) for file in written]},
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
