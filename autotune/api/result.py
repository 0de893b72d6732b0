"""What a run brought, and what a storage has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from autotune.api.rows import ResultRows
from autotune.api.stored import Layers, best_of, best_view, export, rows_of, status_of
from autotune.documents.rows import FileRow, StudyRow
from autotune.documents.run import RunDocument
from autotune.report.run_document import run_document
from autotune.report.terminal.run_display import device_line
from autotune.report.terminal.run_summary import run_notes, run_summary
from autotune.settings import RunSettings
from autotune.shown import counted, data_without_passwords
from autotune.studies.storage.open import reading
from autotune.tuning.run_report import RunReport


@dataclass(frozen=True, kw_only=True, repr=False)
class Result(ResultRows):
    """What ``tune`` brought. Printed, or at the end of a notebook's cell, it says where times come
    from, and what ``autotune run`` prints: the table, the files, how engines come to read them."""

    document: RunDocument
    """What ``autotune run --json`` prints, whose schema docs/schemas has."""
    settings: RunSettings
    """Everything that the run was started with."""
    report: RunReport
    """What this is made from, in types of this package that may change."""

    @classmethod
    def of(cls, settings: RunSettings, report: RunReport) -> Result:
        document = run_document(report, settings.output_dir)
        rows = tuple(row for model in document.models for row in model.results)
        return cls(results=rows, document=document, settings=settings, report=report)

    @property
    def files(self) -> tuple[FileRow, ...]:
        """The engine files that were written."""
        return self.document.files

    @property
    def notes(self) -> list[str]:
        """Sentences for whoever uses the files, what the run took, and whether time ended it."""
        return [*run_notes(self.report), *self._cut_off()]

    @property
    def failed(self) -> dict[str, str]:
        """Study without a winner, or model that was left out → why; empty where all is well."""
        return {**self.report.left_out, **self.report.failed}

    @property
    def left_out(self) -> Mapping[str, str]:
        """Model that could not be tuned beside others → why."""
        return self.document.left_out

    @property
    def unfinished(self) -> int:
        """Studies that have not all their measurements, for want of time."""
        return self.document.unfinished

    @property
    def interrupted(self) -> bool:
        """True where Ctrl-C ended it: ``tune`` raises then, ``autotune run`` does not."""
        return self.document.interrupted

    def as_json(self) -> dict[str, Any]:
        """Return ``document`` as ``json.dumps`` takes it."""
        return dict(data_without_passwords(self.document.as_json()))

    def _views(self) -> Sequence[RenderableType]:
        names = ", ".join(model.label for model in self.report.models)
        source = f"{names}: {device_line(self.report.device)}"
        left_out = (f"nothing for {label}: {reason}" for label, reason in self.left_out.items())
        return [source, *run_summary(self.settings, self.report), *left_out, *self._cut_off()]

    def _cut_off(self) -> list[str]:
        if not self.unfinished:
            return []
        words = counted(self.unfinished, "study is", "studies are")
        return [f"time is up: {words} not finished. Nothing is lost: the same call goes on"]


@dataclass(frozen=True, kw_only=True, repr=False)
class StoredResult(ResultRows):
    """What a storage had when ``load`` read it. Printed, or at the end of a notebook's cell, it is
    what ``autotune best`` prints."""

    studies: tuple[StudyRow, ...]
    """How far each study is: a batch size of a layer, on one kernel."""
    _layers: Layers
    _storage: str
    _model: str | None = None

    @classmethod
    def read(cls, storage: str, model: str | None) -> StoredResult:
        with reading(storage) as source:
            layers, studies = best_of(source, model), status_of(source, model)
        return cls(
            results=rows_of(layers),
            studies=studies,
            _layers=layers,
            _storage=storage,
            _model=model,
        )

    @property
    def unfinished(self) -> int:
        """Studies that have not all their measurements."""
        return sum(study.state == "unfinished" for study in self.studies)

    def export(
        self, output_dir: str | Path | None = None, *, routing: str | None = None
    ) -> tuple[FileRow, ...]:
        """Write the engine files of what the storage has now: ``autotune export``.

        output_dir: None for the folder of a run that was started here, else configs.
        routing: whose winners, where there are several.
        """
        folder = None if output_dir is None else Path(output_dir)
        return export(self._storage, self._model, folder, routing).document.files

    def _views(self) -> Sequence[RenderableType]:
        if not self.unfinished:
            return [best_view(self._layers)]
        words = counted(self.unfinished, "study is", "studies are")
        more = f"{words} not finished: call tune again to go on, unless it is still running"
        return [best_view(self._layers), more]
