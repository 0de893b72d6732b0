"""The measurer on a real GPU, over our kernels and PyTorch's ways."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autotune.backends.gpu.measurer import GpuMeasurer, open_gpu
from autotune.backends.gpu.provider_measurers import open_providers
from autotune.backends.protocol import MeasurerOptions
from autotune.spec.config import Config, ConfigPair
from autotune.spec.limits import why_no_tma
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies.outcome import Outcome
from autotune.studies.search.pruning import Stop

pytestmark = pytest.mark.gpu

PROBLEM = Problem(experts=16, top_k=4, hidden=1024, intermediate=512, tokens=64)
TILES = Config(16, 64, 64, 1, 4, 3)
OPTIONS = MeasurerOptions(cache_dir=Path(tempfile.gettempdir()) / "autotune-tests")


@pytest.fixture(scope="module")
def measurer() -> Iterator[GpuMeasurer]:
    opened = open_gpu(0, OPTIONS, instances=4)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "problem",
    [
        PROBLEM,
        replace(PROBLEM, tokens=1),
        replace(PROBLEM, dtype=Dtype.FP16, ep_size=2, ep_rank=1),
        replace(PROBLEM, dtype=Dtype.FP8_W8A8, block_shape=(128, 128)),
        replace(PROBLEM, dtype=Dtype.FP8_W8A8, per_channel_quant=True),
        replace(PROBLEM, dtype=Dtype.FP8_W8A8),
        replace(PROBLEM, dtype=Dtype.INT8_W8A8, per_channel_quant=True),
        replace(PROBLEM, dtype=Dtype.INT8_W8A16, per_channel_quant=True),
        replace(PROBLEM, dtype=Dtype.INT4_W4A16, block_shape=(0, 128)),
        replace(PROBLEM, dtype=Dtype.INT4_W4A16, block_shape=(0, 128), zero_points=True),
        replace(PROBLEM, dtype=Dtype.INT8_W8A16, block_shape=(0, 128), zero_points=True),
        replace(PROBLEM, gated=False),
        replace(PROBLEM, dtype=Dtype.FP8_W8A8, gated=False),
        replace(PROBLEM, dtype=Dtype.FP8_W8A8, block_shape=(128, 128), gated=False),
        replace(PROBLEM, dtype=Dtype.INT8_W8A8, per_channel_quant=True, gated=False),
    ],
    ids=lambda problem: problem.name,
)
@pytest.mark.parametrize(
    "config", [TILES, Config(64, 128, 64, 8, 8, 3), Config(16, 128, 128, 1, 8, 3)], ids=str
)
def test_measures_and_verifies(measurer: GpuMeasurer, problem: Problem, config: Config) -> None:
    result = measurer.measure(problem, config)
    assert result.outcome is Outcome.OK, result.reason
    assert result.measurement is not None
    assert len(result.measurement.samples_us) == 4
    assert 1 < result.measurement.geomean_us < 10_000
    assert result.relative_error is not None
    assert result.relative_error > 0


PLAIN, WITH_TMA = (Config(64, 128, 64, 8, 8, 3, use_tma=tma) for tma in (False, True))
NARROW = Config(16, 64, 128, 1, 4, 4, use_tma=True)


@pytest.mark.parametrize(
    "problem",
    [
        replace(PROBLEM, kernel=KernelMode.SEPARATE),
        replace(PROBLEM, kernel=KernelMode.SEPARATE, dtype=Dtype.FP8_W8A8, block_shape=(128, 128)),
        replace(PROBLEM, kernel=KernelMode.SEPARATE, dtype=Dtype.FP16, ep_size=2, ep_rank=1),
    ],
    ids=lambda problem: problem.name,
)
@pytest.mark.parametrize(
    "pair",
    [
        ConfigPair(PLAIN, replace(PLAIN, block_size_n=64)),
        ConfigPair(WITH_TMA, PLAIN),
        ConfigPair(PLAIN, WITH_TMA),
        ConfigPair(WITH_TMA, replace(WITH_TMA, num_stages=2)),
        ConfigPair(NARROW, NARROW),
    ],
    ids=str,
)
def test_pairs_with_and_without_tma(
    measurer: GpuMeasurer, problem: Problem, pair: ConfigPair
) -> None:
    if why_no_tma(problem, measurer.device.target):
        pytest.skip("this GPU has no TMA")
    result = measurer.measure(problem, pair)
    assert result.outcome is Outcome.OK, result.reason
    assert result.measurement is not None
    assert len(result.measurement.up_us) == len(result.measurement.down_us) == 4
    assert min(result.measurement.up_us + result.measurement.down_us) > 1


@pytest.mark.parametrize("kernel", list(KernelMode))
def test_several_routings_alternate(measurer: GpuMeasurer, kernel: KernelMode) -> None:
    problem = replace(PROBLEM, kernel=kernel, routing="uniform,worst,dirichlet:0.3")
    config = ConfigPair(TILES, TILES) if kernel is KernelMode.SEPARATE else TILES
    result = measurer.measure(problem, config)
    assert result.outcome is Outcome.OK, result.reason
    assert result.measurement is not None
    assert (len(result.measurement.samples_us), result.measurement.routings) == (6, 3)


def test_pairs_are_interleaved_as_configs_are(measurer: GpuMeasurer) -> None:
    """Each GEMM reads the tiles of its own pair, whichever pair ran before."""
    problem = replace(PROBLEM, kernel=KernelMode.SEPARATE)
    pairs = (ConfigPair(TILES, TILES), ConfigPair(PLAIN, PLAIN), ConfigPair(PLAIN, WITH_TMA))
    alone = [measurer.measure(problem, pair) for pair in pairs]
    for one, together in zip(alone, measurer.measure_interleaved(problem, pairs), strict=True):
        assert together.outcome is Outcome.OK, together.reason
        assert one.measurement is not None
        assert together.measurement is not None
        assert together.measurement.geomean_us == pytest.approx(one.measurement.geomean_us, rel=0.3)
        assert len(together.measurement.up_us) == 4


def test_gives_up_after_one_slow_sample(measurer: GpuMeasurer) -> None:
    result = measurer.measure(PROBLEM, TILES, stop=Stop(((0.1,),)))
    assert result.outcome is Outcome.PRUNED
    assert result.measurement is not None
    assert len(result.measurement.samples_us) == 1


def test_too_much_shared_memory_is_known_before_compiling(measurer: GpuMeasurer) -> None:
    result = measurer.measure(PROBLEM, Config(128, 256, 128, 1, 8, 5))
    assert (result.outcome, result.compile_s) == (Outcome.INFEASIBLE, 0.0)
    assert "shared memory" in result.reason
    assert measurer.measure(PROBLEM, TILES).outcome is Outcome.OK


def test_too_much_device_memory_is_an_outcome(measurer: GpuMeasurer) -> None:
    huge = replace(PROBLEM, experts=4096, hidden=16384, intermediate=16384)
    result = measurer.measure(huge, TILES)
    assert result.outcome is Outcome.OUT_OF_RESOURCES
    assert "memory" in result.reason
    assert measurer.measure(PROBLEM, TILES).outcome is Outcome.OK


def test_cold_is_slower_than_warm() -> None:
    times = []
    for cold_l2 in (True, False):
        measurer = open_gpu(0, replace(OPTIONS, cold_l2=cold_l2), instances=4)
        measurement = measurer.measure(PROBLEM, TILES).measurement
        measurer.close()
        assert measurement is not None
        times.append(measurement.geomean_us)
    assert times[0] > times[1]


def test_the_space_is_not_empty(measurer: GpuMeasurer) -> None:
    assert len(measurer.space(PROBLEM)) > 100


@pytest.mark.parametrize("name", ["autotune", "torch", "torch-grouped", "torch-compile"])
@pytest.mark.parametrize(
    "problem", [PROBLEM, replace(PROBLEM, ep_size=2, ep_rank=1)], ids=lambda p: p.name
)
def test_every_provider_on_a_gpu(name: str, problem: Problem) -> None:
    providers = open_providers(0, OPTIONS)
    result = providers.measure(name, problem, TILES if name == "autotune" else None)
    providers.close()
    assert result.outcome is Outcome.OK, result.reason
    assert result.measurement is not None
    expected = "events" if name == "torch" else "CUDA graph"
    assert result.measurement.how.startswith(expected)


def test_a_batch_size_that_comes_back_takes_less_time(measurer: GpuMeasurer) -> None:
    """Its tensors, with the reference among them, were kept."""
    large = replace(PROBLEM, experts=64, hidden=2048, tokens=2048)
    seconds = []
    for tokens in (2048, 1024, 2048):
        begin = time.perf_counter()
        assert measurer.measure(replace(large, tokens=tokens), TILES).outcome is Outcome.OK
        seconds.append(time.perf_counter() - begin)
    assert seconds[2] < seconds[0]
