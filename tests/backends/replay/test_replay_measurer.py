from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gemm_times import GemmTimes, read_gemm_times, write_gemm_times
from measurer_cases import (  # type: ignore[import-not-found]
    FAILED,
    PAIR,
    PROBLEM,
    RECORDED,
    SAMPLES,
    SEPARATE,
    STOPPED,
    TILES,
    save_recording,
)

from autotune.backends.replay.measurer import ReplayMeasurer
from autotune.backends.replay.recording_format import (
    Recording,
    read_recording,
    write_recording,
)
from autotune.errors import DeviceError
from autotune.spec.config import Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import Stop


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save_recording(tmp_path / "small.npz")


def recorded_us(path: Path, config: Config) -> tuple[float, ...]:
    (results,) = read_recording(path).studies.values()
    measurement = results[config].measurement
    assert measurement
    return measurement.samples_us


def test_the_first_time_samples_are_the_recorded_ones(file: Path) -> None:
    measurement = ReplayMeasurer(file).measure(PROBLEM, TILES).measurement
    assert measurement
    assert measurement.samples_us == recorded_us(file, TILES)
    assert len(measurement.samples_us) == SAMPLES


def test_a_recording_that_stopped_early_is_pruned_with_what_it_has(file: Path) -> None:
    result = ReplayMeasurer(file).measure(PROBLEM, STOPPED)
    assert result.outcome is Outcome.PRUNED
    assert result.measurement
    assert len(result.measurement.samples_us) == 2


def test_noise_is_drawn_from_the_recorded_samples(file: Path) -> None:
    recorded = np.array(recorded_us(file, TILES))
    measurer = ReplayMeasurer(file, seed=3)
    drawn = [_samples(measurer, TILES) for _ in range(3)]
    assert len(set(drawn)) == 3
    for samples in drawn:
        assert len(samples) == SAMPLES
        assert all(np.isclose(recorded, us).any() for us in samples)
    assert _samples(ReplayMeasurer(file, seed=3), TILES) == drawn[0]
    assert _samples(ReplayMeasurer(file, seed=4), TILES) != drawn[0]


def test_configs_are_drawn_with_the_same_routings(file: Path) -> None:
    recorded = np.array([recorded_us(file, config) for config in RECORDED[:2]])
    measurer = ReplayMeasurer(file, seed=5)
    for _ in range(2):
        drawn = [
            [int(np.abs(recorded[row] - us).argmin()) for us in _samples(measurer, RECORDED[row])]
            for row in (0, 1)
        ]
        assert drawn[0] == drawn[1]


def _samples(measurer: ReplayMeasurer, config: Config) -> tuple[float, ...]:
    measurement = measurer.measure(PROBLEM, config).measurement
    assert measurement
    return measurement.samples_us


def test_what_did_not_compile_still_does_not(file: Path) -> None:
    measurer = ReplayMeasurer(file)
    assert measurer.measure(PROBLEM, FAILED).outcome is Outcome.COMPILE_ERROR
    assert FAILED in measurer.space(PROBLEM)


def test_giving_up_keeps_the_first_sample(file: Path) -> None:
    result = ReplayMeasurer(file).measure(PROBLEM, TILES, stop=Stop(((1.0,),)))
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


def test_recordings_of_other_content_never_mix(file: Path, tmp_path: Path) -> None:
    recording = read_recording(file)
    other = tmp_path / "other.npz"
    write_recording(other, replace(recording, compile_s={}))
    assert ReplayMeasurer(file).device.method != ReplayMeasurer(other).device.method


def test_a_landscape_that_record_did_not_write_names_its_converter(tmp_path: Path) -> None:
    path = tmp_path / "moe_h200_other.npz"
    np.savez(path, configs=np.zeros((1, 6), np.int16), M64=np.zeros((1, 2, 3), np.float32))
    with pytest.raises(DeviceError, match=r"convert_landscape\.py"):
        ReplayMeasurer(path)


def test_gemms_timed_apart_are_replayed_apart_and_as_a_sum(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    us = np.random.default_rng(0).uniform(20, 30, (3, 2, 4))
    us[1, 0, 2:], us[2] = np.nan, np.nan
    device = ReplayMeasurer(save_recording(tmp_path / "small.npz")).device
    write_gemm_times(path, GemmTimes(RECORDED[:3], {64: us}), [PROBLEM], device, "apart")
    measurer = ReplayMeasurer(path)
    results = [measurer.measure(PROBLEM, config) for config in RECORDED[:3]]
    outcomes = [Outcome.OK, Outcome.PRUNED, Outcome.COMPILE_ERROR]
    assert [result.outcome for result in results] == outcomes
    assert results[0].measurement
    assert results[0].measurement.samples_us == pytest.approx(us[0].sum(axis=0), rel=1e-6)
    pairs = measurer.space(SEPARATE).configs
    assert len(pairs) == 3
    by_config = {pair.up.block_size_m: pair for pair in pairs if isinstance(pair, ConfigPair)}
    both = measurer.measure(SEPARATE, by_config[TILES.block_size_m]).measurement
    assert both
    assert both.up_us == pytest.approx(us[0, 0], rel=1e-6)
    read = read_gemm_times(path)
    assert read.configs == RECORDED[:3]
    assert np.allclose(read.samples_us(64), us.sum(axis=1), rtol=1e-6, equal_nan=True)
    assert read.best_us(64) == pytest.approx(np.median(us[0].sum(axis=0)), rel=1e-6)


def test_a_recording_is_the_device_that_it_was_made_on(tmp_path: Path) -> None:
    device = ReplayMeasurer(save_recording(tmp_path / "any name.npz")).device
    assert (device.kind, device.name) == (DeviceKind.REPLAY, "NVIDIA H200")
    assert device.triton_version == "3.6.0"


def test_a_recording_has_exactly_its_configs_and_their_outcomes(tmp_path: Path) -> None:
    measurer = ReplayMeasurer(save_recording(tmp_path / "a.npz"))
    assert set(measurer.space(PROBLEM).configs) == set(RECORDED)
    outcomes = [measurer.measure(PROBLEM, config).outcome for config in RECORDED]
    assert outcomes == [Outcome.OK, Outcome.OK, Outcome.PRUNED, Outcome.COMPILE_ERROR]
    assert measurer.measure(PROBLEM, FAILED).reason == "as recorded"
    assert measurer.measure(PROBLEM, Config(16, 32, 64, 1)).outcome is Outcome.INFEASIBLE


def test_a_recording_knows_its_problems(tmp_path: Path) -> None:
    measurer = ReplayMeasurer(save_recording(tmp_path / "a.npz"))
    with pytest.raises(DeviceError, match=r"63 .* 64"):
        measurer.space(replace(PROBLEM, tokens=63))
    with pytest.raises(DeviceError, match="recorded are E=16,N=512"):
        measurer.space(replace(PROBLEM, experts=32))


def test_recorded_halves_make_other_pairs(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    one, two = (replace(PAIR.up, group_size_m=size) for size in (1, 8))
    times = {one: ((10.0, 11.0), (5.0, 6.0)), two: ((20.0, 21.0), (3.0, 4.0))}
    results = {
        ConfigPair(config, config): TrialResult(Outcome.OK, Measurement.of_columns(us, "graph"))
        for config, us in times.items()
    }
    device = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
    key = StudyKey(SEPARATE, device, "0123456789ab")
    write_recording(path, Recording({key: results}, {}, {}))
    measurer = ReplayMeasurer(path)
    best = ConfigPair(one, two)
    assert best in measurer.space(SEPARATE)
    assert len(measurer.space(SEPARATE)) == 4
    measurement = measurer.measure(SEPARATE, best).measurement
    assert measurement
    assert measurement.samples_us == (13.0, 15.0)
    with pytest.raises(DeviceError, match="separate"):
        measurer.space(PROBLEM)
