"""``report``: one HTML page with plots, from storages alone."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from autotune.commands.output import Output
from autotune.commands.storage_flag import add_storage_flag
from autotune.errors import UsageError
from autotune.routing.trace import make_known
from autotune.routing.trace_files import read_trace
from autotune.studies.storage.open import close_storage, open_storage
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.tune.stored_results import select, settings_of


def add_report_flags(parser: argparse.ArgumentParser) -> None:
    """Of what, and where to."""
    add_storage_flag(parser)
    parser.add_argument("--model", help="only this model's studies")
    parser.add_argument("--output-dir", type=Path, default=Path("report"), help="(report)")
    parser.add_argument("--compare", metavar="STORAGE", help="another storage, side by side")


def report_command(args: argparse.Namespace, output: Output) -> int:
    """Write the page and its pictures; a storage in use may be read."""
    from autotune.report.html.page import write_report  # matplotlib takes a second

    studies = _studies(args.storage, args.model)
    other = _studies(args.compare, args.model) if args.compare else []
    _bring_recordings([*studies, *other], output)
    try:
        report = write_report(studies, args.output_dir, other)
    except OSError as error:
        raise UsageError(
            f"--output-dir {args.output_dir} cannot be written: {error.strerror}. "
            "Give a folder that you may write"
        ) from error
    output.result(
        {"page": str(report.page), "pictures": [str(path) for path in report.pictures]},
        f"wrote {report.page} and {len(report.pictures)} pictures beside it",
    )
    return 0


def _bring_recordings(studies: Iterable[StoredStudy], output: Output) -> None:
    """What was tuned on may be gone; then what follows from it is left out."""
    folders = {settings_of(study).model.topk_ids_dir for study in studies}
    for folder in sorted(folder for folder in folders if folder):
        try:
            make_known(read_trace(Path(folder)))
        except UsageError as error:
            output.note(f"note: no roofline of recorded routing: {error}")


def _studies(url: str, model: str | None) -> list[StoredStudy]:
    storage = open_storage(url, create=False)
    try:
        return select(stored_studies(storage), model)
    finally:
        close_storage(storage)
