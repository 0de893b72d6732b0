"""The document of a run, from its report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from autotune.documents.lookups import ServingRow
from autotune.documents.run import CompiledAhead, ModelRow, RunDocument, TrafficRow
from autotune.engines import Engine
from autotune.report.rows import file_row, result_row
from autotune.report.terminal.opening_rows import lookup_rows, written_to
from autotune.report.terminal.serving_rows import serving_rows
from autotune.report.traffic import traffic_gains
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import Problem
from autotune.tuning.run_report import ModelReport, RunReport
from autotune.tuning.time_line import shares_of, worker_times


def run_document(report: RunReport, output_dir: Path) -> RunDocument:
    """Return what a run brought; ``output_dir`` is the folder of its files."""
    several, ahead = len(report.models) > 1, report.ahead
    is_gpu = report.device.kind is DeviceKind.CUDA
    return RunDocument(
        device=report.device.title,
        triton=report.device.triton_version,
        models=tuple(_model_row(each, output_dir, several=several) for each in report.models),
        left_out=dict(report.left_out),
        files=tuple(map(file_row, report.files)),
        new_measurements=report.measured,
        unfinished=report.unfinished,
        interrupted=report.interrupted,
        seconds=report.seconds,
        compiled_ahead=CompiledAhead(
            binaries=ahead.binaries, seconds=ahead.seconds, killed=ahead.killed
        )
        if ahead
        else None,
        device_time={c.value: share for c, share in shares_of(report.device_times).items()},
        time_line=worker_times(report.device_times, report.began_s) if is_gpu else {},
    )


def served(model: ModelReport, *, several: bool) -> list[ServingRow]:
    """Return whether engines open a model's files; the words say which of ``several`` it is."""
    return serving_rows(model.shape, _asked(model), model.label if several else None)


def _model_row(model: ModelReport, output_dir: Path, *, several: bool) -> ModelRow:
    return ModelRow(
        model=model.label,
        results=tuple(result_row(each, model.name, model.shares) for each in model.results),
        traffic=tuple(_traffic(model)),
        lookups=tuple(lookup_rows(_asked(model), written_to(output_dir))),
        serving=tuple(served(model, several=several)),
        failed=dict(model.failed),
        unfinished=model.unfinished,
    )


def _traffic(model: ModelReport) -> Iterator[TrafficRow]:
    for gain in traffic_gains(model.results, model.shares):
        yield TrafficRow(engine=gain.engine.name, speedup=gain.speedup, share=gain.share)


def _asked(model: ModelReport) -> list[tuple[Engine, Problem, Device]]:
    return [(result.engine, result.problem, result.device) for result in model.results]
