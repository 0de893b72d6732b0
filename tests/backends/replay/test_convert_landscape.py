from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from convert_landscape import main, read_foreign

from autotune.backends.replay.measurer import ReplayMeasurer
from autotune.backends.replay.recording_format import CONVERTER
from autotune.errors import UsageError
from autotune.spec.config import Config
from autotune.spec.problem import Problem

ROOT = Path(__file__).parents[3]


def test_a_converted_landscape_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign, converted = tmp_path / "foreign.npz", tmp_path / "converted.npz"
    us = np.random.default_rng(0).uniform(20, 30, (2, 2, 5)).astype(np.float32)
    np.savez(foreign, configs=np.array([[16, 64, 64, 1, 4, 3], [64, 64, 64, 8, 4, 3]]), M8=us)
    flags = ["--shape", "E=8,topk=2,hidden=512,intermediate=256", "--gpu", "h200"]
    argv = ["convert", str(foreign), str(converted), *flags, "--triton", "3.6.0"]
    monkeypatch.setattr(sys, "argv", argv)
    assert main() == 0
    assert "M=[8]" in capsys.readouterr().out
    measurer = ReplayMeasurer(converted)
    assert (measurer.device.name, measurer.device.triton_version) == ("NVIDIA H200", "3.6.0")
    result = measurer.measure(Problem(8, 2, 512, 256, 8), Config(64, 64, 64, 8, 4, 3))
    assert result.measurement
    assert result.measurement.samples_us == pytest.approx(us[1].sum(axis=0), rel=1e-6)


def test_the_error_of_a_foreign_file_names_a_script_that_is_there() -> None:
    assert (ROOT / CONVERTER).is_file()


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"M64": np.zeros((1, 2, 3))}, "configs"),
        ({"configs": np.zeros((1, 6), int)}, "M<batch>"),
        ({"configs": np.zeros((2, 6), int), "M64": np.zeros((1, 2, 3))}, "M64 is"),
        ({"configs": np.zeros((1, 5), int), "M64": np.zeros((1, 2, 3))}, "configs"),
        ({"configs": np.array([{"a": 1}], dtype=object)}, "cannot be read"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], complaint: str
) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=complaint):
        read_foreign(path)
