"""Studies of one layer under several routings, on a recorded landscape."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

from autotune.errors import UsageError
from autotune.report.html.comparisons import routings_section
from autotune.report.html.page import write_report
from autotune.report.layers import layers_of
from autotune.report.terminal.run_display import PlainDisplay
from autotune.routing.trace import LayerRows, RoutingTrace, make_known
from autotune.routing.trace_files import write_trace
from autotune.settings import ModelSettings, RunSettings
from autotune.studies.selection.select import Robust
from autotune.studies.storage.open import open_storage
from autotune.studies.study_attributes import StudyAttributes
from autotune.studies.study_record import StoredStudy, stored_studies
from autotune.tuning.cross_routing import Crossing, cross, crossings_of
from autotune.tuning.session import run
from autotune.tuning.stored_results import of_one_routing

Make = Callable[..., RunSettings]


@pytest.fixture
def landscape(tmp_path: Path) -> Path:
    return save_landscape(tmp_path / "small.npz", ("uniform", "zipf:1", "uniform,zipf:1"))


def _tuned(settings: Make, database: str, routing: str, folder: str | None = None) -> RunSettings:
    model = ModelSettings(shape=SHAPE, batch_sizes=(64,), routing=routing, topk_ids_dir=folder)
    made = settings(model=model, sampler="random", trials=8)
    run(made, database, PlainDisplay())
    return made


def _studies(database: str) -> list[StoredStudy]:
    return stored_studies(open_storage(database, create=False))


def _crossings(database: str) -> list[Crossing]:
    return [crossing for study in _studies(database) for crossing in crossings_of(study.attrs)]


def test_winners_meet_each_others_routing(
    settings: Make, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tuned(settings, database, "uniform")
    assert not routings_section(layers_of(_studies(database)))
    made = _tuned(settings, database, "zipf:1")
    found = _crossings(database)
    assert {(c.tuned, c.measured) for c in found} == {("zipf:1", "uniform"), ("uniform", "zipf:1")}
    one, other = found  # the times do not know routing: both ways mirror each other
    assert 1 + one.loss == pytest.approx(1 / (1 + other.loss), rel=1e-3)  # but for the noise
    assert one.configs == other.configs[::-1]

    monkeypatch.setattr("autotune.tuning.cross_routing.measure_interleaved_in", None)
    run(made, database, PlainDisplay())  # nothing is measured twice
    assert _crossings(database) == found
    monkeypatch.undo()

    storage = open_storage(database, create=False)
    for one, other in permutations(_studies(database)):
        handle = optuna.load_study(study_name=one.name, storage=storage)
        leaving = SimpleNamespace(
            key=one.key,
            finalists=(),
            measured=one.measured,
            robust=Robust.MEAN,
            history=[other],
            optuna_study=handle,
        )
        cross(leaving, None, lambda: True, 1.0)  # type: ignore[arg-type]
    assert _crossings(database) == found  # one that leaves takes nothing away

    _tuned(settings, database, "uniform,zipf:1")
    both = {c.measured for c in _crossings(database) if c.tuned == "uniform,zipf:1"}
    assert both == {"uniform", "zipf:1"}  # and never under a mean over several
    assert {c.measured for c in _crossings(database)} == both
    with pytest.raises(UsageError, match=r"winners for uniform and .* Say which with --routing"):
        of_one_routing(_studies(database), None)
    assert of_one_routing(_studies(database), "zipf:1.0") == [
        study for study in _studies(database) if study.key.problem.routing == "zipf:1"
    ]
    [study] = of_one_routing(_studies(database), "zipf")
    assert study.key.problem.routing == "zipf:1"
    [study] = of_one_routing(_studies(database), "uniform,zipf")
    assert study.key.problem.routing == "uniform,zipf:1"
    with pytest.raises(UsageError, match="no study has --routing worst"):
        of_one_routing(_studies(database), "worst")
    page = write_report(_studies(database), tmp_path / "report")[0].read_text()
    assert page.count("timed under") == 2


def test_a_run_with_the_recording_fills_its_column(
    settings: Make, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = np.stack([np.random.default_rng(i).permutation(8)[:2] for i in range(70)])
    rows = LayerRows(ids.astype(np.int32), np.zeros(70, np.int32))
    recording = RoutingTrace({0: rows}, "test")
    write_trace(recording, tmp_path / "ids")
    make_known(recording)
    save_landscape(tmp_path / "small.npz", ("uniform", recording.routing))
    folder = str(tmp_path / "ids")
    with caplog.at_level(logging.INFO):
        _tuned(settings, database, recording.routing, folder)
        _tuned(settings, database, "uniform")
    assert f"not timed under {recording.routing}" in caplog.text
    pair = ("uniform", recording.routing)
    assert {(c.tuned, c.measured) for c in _crossings(database)} == {pair[::-1]}
    section = routings_section(layers_of(_studies(database)))
    assert section
    assert f"timed under {recording.routing}" in section.table.header
    assert section.unfilled == [(recording.routing, folder)]

    _tuned(settings, database, recording.routing, folder)
    assert {(c.tuned, c.measured) for c in _crossings(database)} == {pair, pair[::-1]}
    section = routings_section(layers_of(_studies(database)))
    assert section
    assert not section.unfilled


def test_the_table_says_how_much_slower(settings: Make, database: str) -> None:
    _tuned(settings, database, "uniform")
    [study] = _studies(database)
    crossing = Crossing("uniform", "zipf:1", us=11.0, winner_us=10.0, configs=("a", "b"))
    attrs = dict(study.attrs.values) | {"across": [asdict(crossing)]}
    section = routings_section(layers_of([replace(study, attrs=StudyAttributes(attrs))]))
    assert section
    assert section.table.rows[0] == ("uniform", "–", "+10.0 % (worst +10.0 %)")
