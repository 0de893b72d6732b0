"""Rows of results, studies, files and models, as documents and tables have them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

from autotune.documents.machine import CatalogueRow
from autotune.documents.rows import FileRow, ResultRow, StudyRow
from autotune.engines import WrittenFile
from autotune.models.shape import ModelShape
from autotune.report.layers import same_layer
from autotune.report.traffic import shares_of_layer
from autotune.shown import shown
from autotune.studies.key import StudyKey
from autotune.studies.storage.summaries import StudySummary
from autotune.studies.study_attributes import StudyAttributes
from autotune.studies.study_record import MeasuredStudy
from autotune.tuning.engine_output import Result
from autotune.tuning.jobs import Origin
from autotune.tuning.study_words import only_engine, place_words, stored_layer_words

_DEFAULT_FROM: Mapping[Origin, Literal["launch", "rule"]] = {
    Origin.OWN: "launch",
    Origin.DEFAULT: "rule",
}


def result_row(result: Result, model: str, shares: Mapping[int, float]) -> ResultRow:
    """Return the config to write for one engine and batch size, and how it compares. ``shares`` has
    the share of a server's time by batch size, where it is known."""
    problem, winner, kernel = result.problem, result.winner, result.kernel
    us, default_us = winner.geomean_us if winner else None, result.default_us
    return ResultRow(
        model=model,
        engine=result.engine.name,
        E=problem.experts,
        N=problem.intermediate,
        H=problem.hidden,
        top_k=problem.top_k,
        dtype=problem.dtype.value,
        batch_size=problem.tokens,
        share_of_time=shares.get(problem.tokens),
        routing=problem.routing,
        robust=result.robust.value,
        method=result.device.method,
        kernel=kernel.name if kernel else None,
        kernel_is_proven=kernel.is_proven if kernel else None,
        config=(winner.config if winner else result.config).as_keys(),
        us=us,
        default_us=default_us,
        default_from=_DEFAULT_FROM[origin] if (origin := result.default_origin) else None,
        speedup=default_us / us if us and default_us else None,
        kept=result.is_kept,
        device=result.device.title,
        measurements=len(result.measured),
    )


def result_rows(results: Sequence[tuple[MeasuredStudy, Result]]) -> list[ResultRow]:
    """Return a row for each result of a stored study. Shares of time in the rows of one layer are
    those of one server."""
    layers = defaultdict[Hashable, dict[str, MeasuredStudy]](dict)
    for study, _ in results:
        layers[same_layer(study)][study.name] = study
    shares = {layer: shares_of_layer(studies.values()) for layer, studies in layers.items()}
    return [result_row(r, study.attrs.model, shares[same_layer(study)]) for study, r in results]


def study_row(study: StudySummary) -> StudyRow:
    """Return how far one study is."""
    key, end = study.attrs.key, study.attrs.end
    return StudyRow(
        study=study.name,
        model=study.attrs.model,
        layer=", for ".join([layer_heading(study.attrs, key), *only_engine(study.attrs)]),
        batch_size=study.attrs.tokens,
        measurements=study.measured,
        target=study.attrs.target,
        state="finished" if study.is_finished else "unfinished",
        best_us=study.best_us,
        outcomes=dict(study.outcomes),
        ended=end.text if end else None,
    )


def layer_heading(attrs: StudyAttributes, key: StudyKey) -> str:
    """Return "DeepSeek-V3 TP8 fp8_w8a8, NVIDIA H200, Triton 3.6.0", above a layer's table."""
    words = (stored_layer_words(attrs, key.problem), place_words(key.device))
    return shown(f"{', '.join(words)}, Triton {key.device.triton_version}")


def file_row(file: WrittenFile) -> FileRow:
    """Return what was written."""
    return FileRow(path=file.path, written=file.written, notes=file.notes)


def model_row(shape: ModelShape) -> CatalogueRow:
    """Return a catalogue entry: the whole model, before any split."""
    quantization = shape.quantization
    return CatalogueRow(
        model=shape.name,
        E=shape.experts,
        top_k=shape.top_k,
        H=shape.hidden,
        intermediate=shape.intermediate,
        dtype=_dtype_words(shape),
        block_shape=(quantization and quantization.block_shape) or None,
        architecture=shape.architecture,
    )


def _dtype_words(shape: ModelShape) -> str:
    """Return the dtype that ``--dtype auto`` takes; the checkpoint's word where kernels lack it."""
    stored = shape.quantization
    if stored is None:
        return shape.dtype.value
    return stored.dtype.value if stored.dtype else f"{stored.method} (unsupported)"
