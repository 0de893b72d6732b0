from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from measurer_cases import (  # type: ignore[import-not-found]
    FAILED,
    PROBLEM,
    RECORDED,
    SAMPLES,
    STOPPED,
    TILES,
    save_landscape,
)

from autotune.devices.landscape import load_landscape
from autotune.devices.replay import ReplayMeasurer
from autotune.errors import DeviceError
from autotune.kernels.device import DeviceKind
from autotune.studies.outcome import Outcome


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save_landscape(tmp_path / "moe_h200_small.npz")


def test_samples_are_up_plus_down(file: Path) -> None:
    measurement = ReplayMeasurer(file).measure(PROBLEM, TILES).measurement
    recorded = load_landscape(file).gemm_us[64][RECORDED.index(TILES)]
    assert measurement
    assert measurement.samples_us == pytest.approx(recorded.sum(axis=0))
    assert len(measurement.samples_us) == SAMPLES


def test_a_recording_that_stopped_early_is_pruned_with_what_it_has(file: Path) -> None:
    result = ReplayMeasurer(file).measure(PROBLEM, STOPPED)
    assert result.outcome is Outcome.PRUNED
    assert result.measurement
    assert len(result.measurement.samples_us) == 2


def test_what_did_not_compile_still_does_not(file: Path) -> None:
    measurer = ReplayMeasurer(file)
    assert measurer.measure(PROBLEM, FAILED).outcome is Outcome.COMPILE_ERROR
    assert FAILED not in measurer.space(PROBLEM)


def test_giving_up_keeps_the_first_sample(file: Path) -> None:
    result = ReplayMeasurer(file).measure(PROBLEM, TILES, stop_above_us=1.0)
    assert result.outcome is Outcome.PRUNED
    assert result.measurement
    assert len(result.measurement.samples_us) == 1


def test_another_batch_size_names_the_recorded_ones(file: Path) -> None:
    measurer = ReplayMeasurer(file)
    other = replace(PROBLEM, tokens=63)
    with pytest.raises(DeviceError, match=r"63 .* 64"):
        measurer.space(other)
    with pytest.raises(DeviceError, match=r"63 .* 64"):
        measurer.measure(other, TILES)


def test_the_name_of_the_file_names_the_gpu(file: Path) -> None:
    device = ReplayMeasurer(file).device
    assert device.kind is DeviceKind.REPLAY
    assert device.name == "NVIDIA H200"
    assert device.shared_bytes == 232448


def test_a_name_without_a_gpu_is_a_device_of_its_own(tmp_path: Path) -> None:
    assert ReplayMeasurer(save_landscape(tmp_path / "small.npz")).device.name == "small"


def test_recordings_of_other_content_never_mix(file: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(file))
    arrays["M64"] = arrays["M64"] + 1
    other = tmp_path / "moe_h200_other.npz"
    np.savez(other, **arrays)
    assert ReplayMeasurer(file).device.method != ReplayMeasurer(other).device.method


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"M64": np.zeros((1, 2, 3))}, "configs"),
        ({"configs": np.zeros((1, 6), int)}, "batch size"),
        ({"configs": np.zeros((2, 6), int), "M64": np.zeros((1, 2, 3))}, "M64 is"),
        ({"configs": np.zeros((1, 5), int), "M64": np.zeros((1, 2, 3))}, "configs"),
        ({"configs": np.array([{"a": 1}], dtype=object)}, "cannot be read"),
    ],
)
def test_what_is_no_landscape_is_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], complaint: str
) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match=complaint):
        load_landscape(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04torn", b"not an archive"])
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(DeviceError, match="cannot be read"):
        load_landscape(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cannot be read"):
        load_landscape(tmp_path / "none.npz")


def test_a_landscape_knows_its_optimum(file: Path) -> None:
    landscape = load_landscape(file)
    medians = landscape.median_us(64)
    assert landscape.batch_sizes == (64,)
    assert landscape.best_us(64) == np.nanmin(medians)
    assert np.isnan(medians[RECORDED.index(STOPPED)])
