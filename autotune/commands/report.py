"""``report``: one HTML page with plots, from storages alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotune.api.stored import chosen_studies
from autotune.commands.flag_kinds import Beside
from autotune.commands.output import Output
from autotune.commands.storage_flag import StudiesFlags, storage_beside
from autotune.documents.files import ReportDocument
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.report.rows import result_rows
from autotune.routing.trace import make_known
from autotune.routing.trace_files import read_trace
from autotune.studies.storage.url import public_url, storage_url
from autotune.studies.study_record import StoredStudy
from autotune.tuning.stored_results import recording_folder, stored_results


@dataclass(frozen=True, kw_only=True)
class Flags(StudiesFlags):
    """Whose report it is, and the folder."""

    output_dir: Annotated[Path, typer.Option("--output-dir", help="folder of the page")] = Path(
        "report"
    )
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="STORAGE",
            help="another storage, side by side: a file, journal:FILE or URL",
        ),
        Beside(storage_beside),
    ] = None


def run(flags: Flags, output: Output) -> int:
    """Write the page and its pictures; a storage in use may be read."""
    from autotune.report.html.page import write_report  # matplotlib takes a second

    studies = chosen_studies(flags.storage, flags.model)
    other = chosen_studies(flags.compare, flags.model) if flags.compare else []
    _read_recordings([*studies, *other], output)
    try:
        page, *pictures = write_report(studies, flags.output_dir, other, _names(flags))
    except OSError as error:
        raise UsageError(
            f"--output-dir {flags.output_dir} cannot be written: {error.strerror}. "
            "Give a folder that you may write"
        ) from error
    results = [(study, result) for study in studies for result in stored_results(study)]
    output.result(
        ReportDocument(
            page=page,
            pictures=tuple(pictures),
            results=tuple(result_rows(results)),
        ),
        f"wrote {page} and {len(pictures)} pictures beside it",
    )
    return ExitCode.DONE


def _names(flags: Flags) -> tuple[str, str]:
    """Return a short name of each storage, by which a reader knows them apart."""
    urls = [public_url(storage_url(url)) for url in (flags.storage, flags.compare or "")]
    one, other = (url.rstrip("/").rpartition("/")[2] for url in urls)
    return (one, other) if one != other else (urls[0], urls[1])


def _read_recordings(studies: Iterable[StoredStudy], output: Output) -> None:
    """Read the recordings that studies were tuned on; without one its rooflines are left out."""
    folders = {recording_folder(study) for study in studies}
    for folder in sorted(folder for folder in folders if folder):
        try:
            make_known(read_trace(Path(folder)))
        except UsageError as error:
            output.note(f"note: no roofline of recorded routing: {error}")
