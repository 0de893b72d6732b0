from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from autotune.backends.gpu.lru_by_size import LruBySize
from autotune.backends.gpu.measurer import CudaMeasurer, device_of, is_harmless
from autotune.backends.options import MeasurerOptions
from autotune.errors import DeviceError
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.limits import why_no_tma
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import Stop

PROBLEM = Problem(experts=16, top_k=4, hidden=1024, intermediate=512, tokens=64)
TILES = Config(16, 64, 64, 1, 4, 3)
OPTIONS = MeasurerOptions(cache_dir=Path(tempfile.gettempdir()) / "autotune-tests")


def test_a_missing_gpu_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DeviceError, match="estimate:"):
        CudaMeasurer(torch.cuda.device_count(), OPTIONS)


def test_facts_come_from_the_driver() -> None:
    h200 = SimpleNamespace(
        name="NVIDIA H200",
        major=9,
        minor=0,
        warp_size=32,
        shared_memory_per_block=49152,
        shared_memory_per_block_optin=232448,
    )
    device = device_of(h200, cold_l2=True)
    assert device.kind is DeviceKind.CUDA
    assert device.name == "NVIDIA H200"
    assert device.target == Target("cuda", 90, 32)
    assert device.shared_bytes == 232448
    assert "cold" in device.method
    assert device.method != device_of(h200, cold_l2=False).method


@pytest.mark.parametrize(
    ("words", "harmless"),
    [
        ("CUDA error: too many resources requested for launch\nand more", True),
        ("Triton Error [CUDA]: invalid argument", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("Triton Error [CUDA]: misaligned address", False),
        ("CUDA error: unspecified launch failure", False),
        ("shape '[2]' is an invalid argument", False),
    ],
)
def test_only_a_refused_launch_leaves_the_context_whole(words: str, harmless: bool) -> None:
    assert is_harmless(RuntimeError(words)) is harmless


class Cramped(CudaMeasurer):
    """No GPU: memory for so many routing instances, and a driver that says so."""

    def __init__(self, room: int) -> None:
        self._instances, self._halved = 10, set()
        self._room = room
        self._prepared, self._weights = LruBySize(), None

    def _attempt(self, problem: Problem, config: Config, stop: Stop | None) -> TrialResult:  # type: ignore[override]
        count = self._count(problem)
        if count > self._room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")
        return TrialResult(Outcome.OK, Measurement((1.0,) * count, "fake"))


def test_out_of_memory_halves_the_routings_once_and_then_is_an_outcome() -> None:
    enough = Cramped(room=5)
    for _ in range(2):
        result = enough._run(PROBLEM, TILES, None)
        assert result.measurement is not None
        assert len(result.measurement.samples_us) == 5
    result = Cramped(room=4)._run(PROBLEM, TILES, None)
    assert result.outcome is Outcome.OUT_OF_RESOURCES
    assert result.reason == "device memory: CUDA out of memory. Tried to allocate"


def test_other_problems_tensors_go_before_routings_are_halved() -> None:
    others = Cramped(room=0)
    others._prepared.put(replace(PROBLEM, tokens=1), others._prepared, 1, 1)  # type: ignore[arg-type]
    others._attempt = _once_without(others)  # type: ignore[method-assign]
    result = others._run(PROBLEM, TILES, None)
    assert result.measurement is not None
    assert len(result.measurement.samples_us) == 10
    assert others._kept_share == 0


def _once_without(cramped: Cramped) -> Callable[..., TrialResult]:
    """Fails where anything is kept."""

    def attempt(problem: Problem, config: Config, stop: Stop | None) -> TrialResult:
        cramped._room = 0 if len(cramped._prepared) else 10
        return Cramped._attempt(cramped, problem, config, stop)

    return attempt


class OnCpu(CudaMeasurer):
    """No GPU: tensors are made in main memory, and nothing is timed."""

    def __init__(self, kept_share: float) -> None:
        self._instances, self._halved, self._seed = 2, set(), 0
        self._place = "cpu"
        self._device = Device(DeviceKind.CUDA, "CPU", Target("cuda", 90), 1, "3.6.0")
        self._prepared, self._weights = LruBySize(), None
        self._kept_share = kept_share


SMALL = Problem(experts=4, top_k=2, hidden=64, intermediate=32, tokens=8)


@pytest.fixture
def free_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 2**30))


@pytest.mark.usefixtures("free_bytes")
def test_a_batch_size_that_comes_back_finds_its_tensors() -> None:
    measurer, other = OnCpu(0.25), replace(SMALL, tokens=16)
    first = measurer._prepare(SMALL)
    second = measurer._prepare(other)
    assert measurer._prepare(SMALL) is first
    assert measurer._prepare(other) is second
    assert first.inputs.weights is second.inputs.weights
    fresh = OnCpu(0.25)._prepare(SMALL)
    assert torch.equal(first.reference, fresh.reference)
    assert torch.equal(first.routings[1].ids, fresh.routings[1].ids)


@pytest.mark.usefixtures("free_bytes")
def test_where_room_is_short_the_problem_at_hand_is_kept_alone() -> None:
    measurer, other = OnCpu(0.0), replace(SMALL, tokens=16)
    first = measurer._prepare(SMALL)
    assert measurer._prepare(SMALL) is first
    measurer._prepare(other)
    assert list(measurer._prepared) == [other]


@pytest.mark.usefixtures("free_bytes")
def test_other_weights_push_out_all_that_was_made_with_the_old_ones() -> None:
    measurer, other = OnCpu(0.25), replace(SMALL, experts=8)
    measurer._prepare(SMALL)
    measurer._prepare(replace(SMALL, tokens=16, ep_size=2))
    assert len(measurer._prepared) == 2
    measurer._prepare(other)
    assert list(measurer._prepared) == [other]


@pytest.mark.usefixtures("free_bytes")
def test_what_a_problem_takes_counts_without_the_weights() -> None:
    prepared = OnCpu(0.25)._prepare(SMALL)
    inputs, buffers = prepared.inputs, prepared.buffers
    least = inputs.x.nbytes + buffers.up.nbytes + buffers.down.nbytes + prepared.reference.nbytes
    assert least < prepared.own_bytes < 3 * least


class TrialFinished(OnCpu):
    """No GPU: what is right and how long it takes is told."""

    def __init__(self, wrong: Config) -> None:
        super().__init__(0.25)
        self._wrong, self._timer = wrong, SimpleNamespace(how="told")  # type: ignore[assignment]

    def _answer(self, problem: Problem, config: AnyConfig, timed: object) -> TrialResult:
        outcome = Outcome.WRONG_RESULT if config == self._wrong else Outcome.OK
        return TrialResult(outcome, relative_error=0.5)

    def _rows(self, prepared: object, config: AnyConfig) -> Iterator[tuple[float, ...]]:
        us = float(config.block_size_m) if isinstance(config, Config) else 0.0
        return iter([(us,), (us + 1,)])


@pytest.mark.usefixtures("free_bytes")
def test_interleaved_what_is_wrong_is_not_timed() -> None:
    narrow, wrong, wide = (Config(m, 64, 64, 1, 4, 3) for m in (16, 32, 64))
    results = TrialFinished(wrong).measure_interleaved(SMALL, (narrow, wrong, wide))
    assert [r.outcome for r in results] == [Outcome.OK, Outcome.WRONG_RESULT, Outcome.OK]
    found = [r.measurement.samples_us if r.measurement else None for r in results]
    assert found == [(16.0, 17.0), None, (64.0, 65.0)]
    assert [r.relative_error for r in results] == [0.5, 0.5, 0.5]
    assert TrialFinished(wrong).measure_interleaved(SMALL, (wrong,))[0].measurement is None


@pytest.mark.usefixtures("free_bytes")
def test_where_turns_take_too_much_memory_each_is_measured_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Graphs of all configs are alive at once."""
    crowded = TrialFinished(Config(32, 64, 64, 1, 4, 3))
    alone = TrialResult(Outcome.OK, Measurement((5.0,), "alone"))

    def no_room(*_: object) -> list[Measurement]:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(crowded, "_interleaved", no_room)
    monkeypatch.setattr(crowded, "measure", lambda *_: alone)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert crowded.measure_interleaved(SMALL, (TILES, TILES)) == (alone, alone)


@pytest.fixture(scope="module")
def measurer() -> Iterator[CudaMeasurer]:
    opened = CudaMeasurer(0, OPTIONS, instances=4)
    yield opened
    opened.close()


@pytest.mark.gpu
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
    ],
    ids=lambda problem: problem.name,
)
@pytest.mark.parametrize(
    "config", [TILES, Config(64, 128, 64, 8, 8, 3), Config(16, 128, 128, 1, 8, 3)], ids=str
)
def test_measures_and_verifies(measurer: CudaMeasurer, problem: Problem, config: Config) -> None:
    result = measurer.measure(problem, config)
    assert result.outcome is Outcome.OK, result.reason
    assert result.measurement is not None
    assert len(result.measurement.samples_us) == 4
    assert 1 < result.measurement.geomean_us < 10_000
    assert result.relative_error is not None
    assert result.relative_error > 0


PLAIN, WITH_TMA = (Config(64, 128, 64, 8, 8, 3, use_tma=tma) for tma in (False, True))
NARROW = Config(16, 64, 128, 1, 4, 4, use_tma=True)


@pytest.mark.gpu
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
    measurer: CudaMeasurer, problem: Problem, pair: ConfigPair
) -> None:
    if why_no_tma(problem, measurer.device.target):
        pytest.skip("this GPU has no TMA")
    result = measurer.measure(problem, pair)
    assert result.outcome is Outcome.OK, result.reason
    assert result.measurement is not None
    assert len(result.measurement.up_us) == len(result.measurement.down_us) == 4
    assert min(result.measurement.up_us + result.measurement.down_us) > 1


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", list(KernelMode))
def test_several_routings_take_turns(measurer: CudaMeasurer, kernel: KernelMode) -> None:
    problem = replace(PROBLEM, kernel=kernel, routing="uniform,worst,dirichlet:0.3")
    config = ConfigPair(TILES, TILES) if kernel is KernelMode.SEPARATE else TILES
    result = measurer.measure(problem, config)
    assert result.outcome is Outcome.OK, result.reason
    assert result.measurement is not None
    assert (len(result.measurement.samples_us), result.measurement.routings) == (6, 3)


@pytest.mark.gpu
def test_pairs_take_turns_as_configs_do(measurer: CudaMeasurer) -> None:
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


@pytest.mark.gpu
def test_gives_up_after_one_slow_sample(measurer: CudaMeasurer) -> None:
    result = measurer.measure(PROBLEM, TILES, stop=Stop(((0.1,),)))
    assert result.outcome is Outcome.PRUNED
    assert result.measurement is not None
    assert len(result.measurement.samples_us) == 1


@pytest.mark.gpu
def test_too_much_shared_memory_is_known_before_compiling(measurer: CudaMeasurer) -> None:
    result = measurer.measure(PROBLEM, Config(128, 256, 128, 1, 8, 5))
    assert (result.outcome, result.compile_s) == (Outcome.INFEASIBLE, 0.0)
    assert "shared memory" in result.reason
    assert measurer.measure(PROBLEM, TILES).outcome is Outcome.OK


@pytest.mark.gpu
def test_too_much_device_memory_is_an_outcome(measurer: CudaMeasurer) -> None:
    huge = replace(PROBLEM, experts=4096, hidden=16384, intermediate=16384)
    result = measurer.measure(huge, TILES)
    assert result.outcome is Outcome.OUT_OF_RESOURCES
    assert "memory" in result.reason
    assert measurer.measure(PROBLEM, TILES).outcome is Outcome.OK


@pytest.mark.gpu
def test_cold_is_slower_than_warm() -> None:
    times = []
    for cold_l2 in (True, False):
        measurer = CudaMeasurer(0, replace(OPTIONS, cold_l2=cold_l2), instances=4)
        measurement = measurer.measure(PROBLEM, TILES).measurement
        measurer.close()
        assert measurement is not None
        times.append(measurement.geomean_us)
    assert times[0] > times[1]


@pytest.mark.gpu
def test_the_space_is_not_empty(measurer: CudaMeasurer) -> None:
    assert len(measurer.space(PROBLEM)) > 100
