"""What a storage has: winners, how far every study is, and the engine files, without tuning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Group, RenderableType

from autotune.api.own_runs import placed
from autotune.backends.stand_in import kernel_lines
from autotune.documents.files import ExportDocument
from autotune.documents.rows import ResultRow, StudyRow
from autotune.engines import WrittenFile
from autotune.errors import UsageError
from autotune.report.baseline import baseline_lines
from autotune.report.kept import kept_words
from autotune.report.rows import file_row, layer_heading, result_rows, study_row
from autotune.report.terminal.tables import results_table, under_headings
from autotune.studies.storage.open import opened
from autotune.studies.storage.raw import Source
from autotune.studies.storage.summaries import measured_studies, study_summaries
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.tuning.engine_output import Result, write_files
from autotune.tuning.stored_results import (
    engine_now,
    of_one_routing,
    output_folder,
    select,
    settings_of,
    stored_results,
)

Layers = Sequence[tuple[str, ResultRow]]
"""A layer's heading with the winner of one of its studies for an engine, study by study."""


def status_of(source: Source, model: str | None) -> tuple[StudyRow, ...]:
    """Return how far every study of ``model`` is, or every one. Raises UsageError for none."""
    return tuple(map(study_row, select(study_summaries(source), model)))


def best_of(source: Source, model: str | None) -> Layers:
    """Return the winners so far of ``model``, or all. Raises UsageError where there is no study."""
    studies = placed(select(measured_studies(source), model))
    results = [(study, result) for study in studies for result in stored_results(study)]
    names = (layer_heading(study.attrs, study.key) for study, _ in results)
    return list(zip(names, result_rows(results), strict=True))


def rows_of(layers: Layers) -> tuple[ResultRow, ...]:
    """Return the rows of all layers, in the order of the studies' names."""
    return tuple(row for _, row in layers)


def best_view(layers: Layers) -> RenderableType:
    """Return a table for each layer, how many configs are kept, and what speed-ups are over."""
    by_layer: dict[str, list[ResultRow]] = {}
    for words, row in layers:
        by_layer.setdefault(words, []).append(row)
    tables = under_headings({words: results_table(rows) for words, rows in by_layer.items()})
    kept = kept_words(row.kept for row in rows_of(layers))
    return Group(tables, *([kept] if kept else []), *_baselines(rows_of(layers)))


def _baselines(rows: Iterable[ResultRow]) -> list[str]:
    return baseline_lines(row.engine for row in rows if row.default_from == "rule")


def chosen_studies(
    storage: str, model: str | None, output_dir: Path | None = None
) -> list[StoredStudy]:
    """Read the studies of ``model``, or all, with every trial, from a storage that exists; their
    settings have paths that may be used (``own_runs.placed``)."""
    with opened(storage) as source:
        return placed(select(stored_studies(source), model), output_dir)


@dataclass(frozen=True, slots=True)
class Exported:
    """Engine files that were written from a storage."""

    document: ExportDocument
    folders: tuple[Path, ...]
    notes: tuple[str, ...]
    """Sentences that whoever uses the files should read."""


def export(
    storage: str,
    model: str | None = None,
    output_dir: Path | None = None,
    routing: str | None = None,
) -> Exported:
    """Write the engine files of ``model``, or all, from the storage alone. Without ``output_dir``
    they go where a run went that was started here, else into the default folder.

    Raises UsageError where there is no such study, and where several routings have winners for one
    file and ``routing`` does not choose.
    """
    folders: dict[Path, list[StoredStudy]] = {}
    for study in of_one_routing(chosen_studies(storage, model, output_dir), routing):
        folders.setdefault(output_folder(study), []).append(study)
    written, rows, lines = list[WrittenFile](), list[ResultRow](), list[str]()
    for folder, studies in folders.items():
        results = [(study, result) for study in studies for result in _results(study)]
        written += write_files([result for _, result in results], folder)
        rows += result_rows(results)
        lines += kernel_lines((r.engine, r.problem, r.device) for _, r in results)
    notes = [f"note: {note}" for file in written for note in file.notes] + lines + _baselines(rows)
    document = ExportDocument(files=tuple(map(file_row, written)), results=tuple(rows))
    return Exported(document, tuple(folders), tuple(dict.fromkeys(notes)))


def _results(study: StoredStudy) -> list[Result]:
    try:
        settings = settings_of(study).model
    except UsageError:
        return stored_results(study)
    return stored_results(study, engine_of=partial(engine_now, settings))
