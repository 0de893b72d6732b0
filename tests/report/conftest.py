"""A finished run of a small recorded landscape, made once."""

from __future__ import annotations

import pytest
from finished_run import Finished  # type: ignore[import-not-found]
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

from autotune.report.dashboard.artifacts import artifact_folder
from autotune.report.dashboard.note_writer import NoteWriter
from autotune.settings import ModelSettings, RunSettings
from autotune.tuning.session import run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    settings = RunSettings(
        model=ModelSettings(shape=SHAPE, batch_sizes=(1, 64)),
        device=f"replay:{save_landscape(folder / 'small.npz')}",
        trials=20,
        sampler="random",
        output_dir=folder / "configs",
        cache_dir=folder / "cache",
    )
    storage = str(folder / "autotune.db")
    run(settings, storage, NoteWriter(artifact_folder(storage)))
    return Finished(storage, artifact_folder(storage), settings)
