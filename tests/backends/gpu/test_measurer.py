"""One measurer over providers: a fake one and PyTorch's on the CPU, all of them on a GPU."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gpu_fakes import (  # type: ignore[import-not-found]
    BINARY,
    H200,
    MIDDLE,
    NARROW,
    SITE,
    SMALL,
    WIDE,
    FakeCompiler,
    FakeProvider,
    Memory,
    fake_measurer,
    fake_testbed,
    out_of_memory,
)
from measurer_cases import PAIR  # type: ignore[import-not-found]
from triton.runtime.errors import OutOfResources

from autotune.backends.binaries import gemm_binaries
from autotune.backends.gpu.measurer import (
    GpuMeasurer,
)
from autotune.backends.gpu.provider_measurers import ProviderMeasurers
from autotune.backends.gpu.providers import open_provider, pytorch
from autotune.backends.gpu.providers.ours import Ours
from autotune.backends.gpu.tensor_cache import TensorCache, no_room
from autotune.backends.gpu.testbed import HostClock, Testbed, TimedDevice, take_device
from autotune.backends.protocol import MeasurerOptions
from autotune.backends.selectors import open_measurer
from autotune.errors import DeviceError, ProviderError
from autotune.spec.config import Config, ConfigPair
from autotune.spec.measurement import CompileFailure, Resources
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import Stop

PROBLEM = Problem(experts=16, top_k=4, hidden=1024, intermediate=512, tokens=64)
TILES = Config(16, 64, 64, 1, 4, 3)
OPTIONS = MeasurerOptions(cache_dir=Path(tempfile.gettempdir()) / "autotune-tests")
PAIRED = replace(SMALL, kernel=KernelMode.SEPARATE)
REFUSED = RuntimeError("CUDA error: too many resources requested for launch\nand more")
POISONED = RuntimeError("CUDA error: an illegal memory access was encountered")


def _samples(result: TrialResult) -> tuple[float, ...] | None:
    return result.measurement.samples_us if result.measurement else None


@pytest.mark.parametrize("provider", ["autotune", "vllm"])
def test_a_missing_gpu_is_an_error_that_says_what_to_do(provider: str) -> None:
    options = replace(OPTIONS, provider=provider)
    with pytest.raises(DeviceError, match=r"PyTorch sees .* estimate:"):
        open_measurer(f"cuda:{torch.cuda.device_count()}", options)


def test_the_cpu_is_no_device_to_tune_for() -> None:
    measurer = GpuMeasurer(
        open_provider("torch", SITE),
        Testbed(take_device(None, OPTIONS), OPTIONS, room_bytes=no_room),
    )
    with pytest.raises(DeviceError, match="estimate:"):
        measurer.space(SMALL)


def test_a_right_config_is_timed_on_every_instance() -> None:
    result = fake_measurer(FakeProvider(), instances=4).measure(SMALL, MIDDLE)
    assert (result.outcome, _samples(result)) == (Outcome.OK, (32.0,) * 4)
    assert result.measurement is not None
    assert result.measurement.how == "CPU, the host's clock, cold caches, 4 routings"
    assert result.relative_error is not None
    assert result.relative_error < 0.05
    assert result.verify_s > 0
    assert result.measure_s > 0


def test_a_wrong_config_is_not_timed() -> None:
    provider = FakeProvider()
    provider.wrong = {MIDDLE}
    result = fake_measurer(provider).measure(SMALL, MIDDLE)
    assert (result.outcome, result.measurement) == (Outcome.WRONG_RESULT, None)
    assert "allowed" in result.reason
    assert provider.launched == [MIDDLE]


def test_a_lost_config_is_given_up() -> None:
    result = fake_measurer(FakeProvider()).measure(SMALL, WIDE, stop=Stop(((1.0,),) * 10))
    assert (result.outcome, _samples(result)) == (Outcome.PRUNED, (64.0,))
    assert result.measurement is not None
    assert result.measurement.extrapolated_us == pytest.approx(64.0)
    assert "64.0 times" in result.reason


def test_a_config_that_breaks_a_rule_is_not_launched() -> None:
    provider = FakeProvider()
    measurer = fake_measurer(provider)
    huge = Config(256, 256, 256, 1, 8, 5)
    result = measurer.measure(SMALL, huge)
    assert (result.outcome, result.failed_half) == (Outcome.INFEASIBLE, "up")
    assert "shared memory" in result.reason
    assert measurer.measure_interleaved(SMALL, (huge,))[0] == result
    assert provider.launched == []
    assert measurer.measure_any(SMALL, huge).outcome is Outcome.OK


def test_a_provider_says_what_it_cannot_compute() -> None:
    many = replace(SMALL, experts=1024)
    measurer = fake_measurer(FakeProvider())
    assert measurer.measure(many, NARROW) == TrialResult(
        Outcome.INFEASIBLE, reason="experts are many"
    )
    with pytest.raises(DeviceError, match="NVIDIA H200: experts are many"):
        measurer.space(many)


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (OutOfResources(300_000, 232_448, "shared memory"), Outcome.OUT_OF_RESOURCES, "300000"),
        (REFUSED, Outcome.OUT_OF_RESOURCES, str(REFUSED).partition("\n")[0]),
        (RuntimeError("ptxas fatal: no"), Outcome.COMPILE_ERROR, "ptxas fatal: no"),
        (out_of_memory(), Outcome.OUT_OF_RESOURCES, "device memory: CUDA out of memory"),
    ],
)
def test_failures_of_the_first_call_are_outcomes(
    error: Exception, outcome: Outcome, reason: str
) -> None:
    provider = FakeProvider()
    provider.failing = {MIDDLE: error}
    measurer = fake_measurer(provider)
    for result in (
        measurer.measure(SMALL, MIDDLE),
        *measurer.measure_interleaved(SMALL, (MIDDLE,)),
    ):
        assert result.outcome is outcome
        assert reason in result.reason
        assert result.measurement is None
    assert measurer.measure(SMALL, NARROW).outcome is Outcome.OK


@pytest.mark.parametrize(
    "error",
    [POISONED, RuntimeError("Triton Error [CUDA]: misaligned address"), ValueError("a bug")],
)
def test_a_poisoned_context_and_surprises_are_raised(error: Exception) -> None:
    provider = FakeProvider()
    provider.failing = {MIDDLE: error}
    with pytest.raises(type(error), match=str(error).split()[-1]):
        fake_measurer(provider).measure(SMALL, MIDDLE)


def test_where_it_compiles_ahead_no_failed_launch_is_the_compilers() -> None:
    provider = FakeProvider()
    provider.compiler = FakeCompiler({})
    provider.failing = {MIDDLE: RuntimeError("a bug of the launch")}
    with pytest.raises(RuntimeError, match="a bug"):
        fake_measurer(provider).measure(SMALL, MIDDLE)


def test_what_was_compiled_ahead_is_said_of_the_config() -> None:
    provider = FakeProvider()
    larger = replace(BINARY, registers=200, spill_bytes=8)
    provider.compiler = FakeCompiler({(MIDDLE, "down"): larger})
    result = fake_measurer(provider).measure(SMALL, MIDDLE)
    assert (result.outcome, result.resources) == (Outcome.OK, larger)
    assert result.blocks_per_sm == 2
    assert fake_measurer(FakeProvider()).measure(SMALL, MIDDLE).resources is None


def test_what_does_not_compile_or_is_too_big_is_never_launched() -> None:
    provider = FakeProvider()
    big = Resources(registers=64, spill_bytes=0, shared_bytes=H200.shared_bytes + 1)
    failure = CompileFailure("no such instruction")
    provider.compiler = FakeCompiler({(MIDDLE, "down"): failure, (WIDE, "up"): big})
    measurer = fake_measurer(provider)
    failed, too_big = measurer.measure(SMALL, MIDDLE), measurer.measure(SMALL, WIDE)
    assert (failed.outcome, failed.reason) == (Outcome.COMPILE_ERROR, "no such instruction")
    assert failed.failed_half == "down"
    assert (too_big.outcome, too_big.resources) == (Outcome.OUT_OF_RESOURCES, big)
    assert "232449 bytes of shared memory" in too_big.reason
    assert provider.launched == []


def test_a_pair_is_measured_half_by_half_where_the_provider_takes_pairs() -> None:
    pair = ConfigPair(MIDDLE, replace(MIDDLE, block_size_n=32))
    result = fake_measurer(FakeProvider(takes_pairs=True), instances=3).measure(PAIRED, pair)
    assert result.outcome is Outcome.OK, result.reason
    assert result.measurement is not None
    assert result.measurement.up_us == (8.0,) * 3
    assert result.measurement.down_us == (24.0,) * 3
    assert result.measurement.how.startswith("GEMMs alone, ")
    refused = fake_measurer(FakeProvider()).measure(PAIRED, pair)
    assert refused.outcome is Outcome.INFEASIBLE
    assert "one config" in refused.reason


def test_interleaved_configs_that_are_wrong_are_not_timed() -> None:
    provider = FakeProvider()
    provider.wrong = {MIDDLE}
    measurer = fake_measurer(provider, instances=2)
    results = measurer.measure_interleaved(SMALL, (NARROW, MIDDLE, WIDE))
    assert [r.outcome for r in results] == [Outcome.OK, Outcome.WRONG_RESULT, Outcome.OK]
    assert [_samples(r) for r in results] == [(16.0,) * 2, None, (64.0,) * 2]
    assert all(r.relative_error is not None for r in results)
    assert measurer.measure_interleaved(SMALL, (MIDDLE,))[0].measurement is None


def test_what_was_right_is_not_verified_again() -> None:
    provider = FakeProvider()
    measurer = fake_measurer(provider, instances=2)
    [first] = measurer.measure_interleaved(SMALL, (NARROW,))
    launched = len(provider.launched)
    provider.wrong = {NARROW, WIDE}
    again = measurer.measure(SMALL, NARROW)
    assert (again.outcome, again.relative_error) == (Outcome.OK, first.relative_error)
    assert len(provider.launched) == 2 * launched - 1
    for problem, config in ((SMALL, WIDE), (replace(SMALL, tokens=6), NARROW)):
        assert measurer.measure(problem, config).outcome is Outcome.WRONG_RESULT
        assert measurer.measure(problem, config).outcome is Outcome.WRONG_RESULT


def test_interleaved_configs_alternate() -> None:
    provider = FakeProvider()
    fake_measurer(provider).measure_interleaved(SMALL, (NARROW, WIDE))
    changes = sum(a != b for a, b in itertools.pairwise(provider.launched))
    assert changes >= 8  # one after the other would change three times: verify, then time


def test_where_interleaving_takes_too_much_memory_each_is_measured_by_itself() -> None:
    """Graphs of all configs are alive at once; here the second one finds no room."""
    provider = FakeProvider()
    provider.clock.no_room_at = 4
    results = fake_measurer(provider).measure_interleaved(SMALL, (NARROW, WIDE))
    assert [_samples(r) for r in results] == [(16.0,) * 10, (64.0,) * 10]
    alone = provider.launched[-2 * 30 :]
    assert sum(a != b for a, b in itertools.pairwise(alone)) == 1


def test_other_errors_of_interleaved_configs_are_raised() -> None:
    provider = FakeProvider()
    measurer = fake_measurer(provider)
    measurer.measure(SMALL, WIDE)
    provider.failing = {WIDE: POISONED}
    with pytest.raises(RuntimeError, match="illegal"):
        measurer.measure_interleaved(SMALL, (NARROW, WIDE))


def test_closing_releases_every_tensor_and_the_provider_once() -> None:
    provider = FakeProvider()
    testbed = fake_testbed(provider)
    measurer = GpuMeasurer(provider, testbed)
    measurer.measure(SMALL, NARROW)
    assert len(provider.memory.layers) == 1
    measurer.close()
    measurer.close()
    assert (len(provider.memory.layers), provider.closed) == (0, 1)


def test_our_kernels_are_a_provider_like_any_other(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """The GEMMs of a pair, in Triton's interpreter."""
    if device != "cpu":
        pytest.skip("kernels are compiled in this session")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    problem = replace(PAIRED, dtype=Dtype.FP16)
    half = Config(16, 32, 32, 1, 4, 3, use_tma=False)
    testbed = Testbed(
        TimedDevice(SITE, H200, HostClock(1 << 10)), OPTIONS, instances=1, room_bytes=no_room
    )
    measurer = GpuMeasurer(Ours(SITE, is_interpreted=True), testbed)
    assert measurer.device.method == H200.method
    result = measurer.measure(problem, ConfigPair(half, replace(half, block_size_n=16)))
    assert result.outcome is Outcome.OK, result.reason
    assert result.measurement is not None
    [up_us], [down_us] = result.measurement.up_us, result.measurement.down_us
    assert up_us + down_us == result.measurement.samples_us[0]
    assert min(up_us, down_us) > 0


@pytest.fixture
def providers() -> Iterator[ProviderMeasurers]:
    device = replace(take_device(None, OPTIONS), clock=HostClock(1 << 10))
    opened = ProviderMeasurers(Testbed(device, OPTIONS, instances=3, room_bytes=no_room))
    yield opened
    opened.close()


def test_several_providers_on_the_cpu(providers: ProviderMeasurers) -> None:
    assert providers.device is None
    version, does = providers.about("torch")
    assert (version, bool(does)) == (f"torch {torch.__version__}", True)
    for name in ("torch", "torch-grouped"):
        result = providers.measure(name, SMALL, None)
        assert result.outcome is Outcome.OK, result.reason
        assert result.measurement is not None
        assert len(result.measurement.samples_us) == 3
        assert result.measurement.how == "CPU, the host's clock, cold caches, 3 routings"
        assert 0 < (result.relative_error or 0) < 0.05


def test_what_a_provider_cannot_is_an_answer(providers: ProviderMeasurers) -> None:
    result = providers.measure("autotune", SMALL, TILES)
    assert (result.outcome, result.reason) == (Outcome.INFEASIBLE, "Triton kernels need a GPU")
    result = providers.measure("torch-compile", replace(SMALL, dtype=Dtype.FP8_W8A8), None)
    assert result.outcome is Outcome.INFEASIBLE
    assert "fp8_w8a8" in result.reason
    with pytest.raises(ProviderError, match="no provider 'tensorrt'"):
        providers.about("tensorrt")


def test_a_wrong_layer_is_not_timed(
    providers: ProviderMeasurers, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = pytorch.grouped_layer
    monkeypatch.setattr(pytorch, "grouped_layer", lambda *args: right(*args) * 1.5)
    result = providers.measure("torch-grouped", SMALL, None)
    assert (result.outcome, result.measurement) == (Outcome.WRONG_RESULT, None)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GpuMeasurer]:
    """A stand-in's kernel on the CPU, which stands in for an H200."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "providers"))
    from standins import write_engine  # type: ignore[import-not-found]

    monkeypatch.syspath_prepend(str(write_engine(tmp_path, "vllm", "0.33.0")))
    device = TimedDevice(SITE, H200, HostClock(1 << 10))
    testbed = Testbed(device, OPTIONS, instances=3, room_bytes=no_room)
    opened = GpuMeasurer(open_provider("vllm", SITE), testbed)
    yield opened
    opened.close()
    for name in [n for n in sys.modules if n.partition(".")[0] in ("vllm", "standin_math")]:
        del sys.modules[name]


def test_an_engines_kernel_is_launched_with_the_sampled_config(vllm: GpuMeasurer) -> None:
    problem = replace(SMALL, dtype=Dtype.INT4_W4A16, block_shape=(0, 32))
    space = vllm.space(problem)
    config = next(c for c in space.configs if isinstance(c, Config) and c.block_size_k <= 32)
    result = vllm.measure(problem, config)
    assert result.outcome is Outcome.OK, result.reason
    own, *launched = sys.modules["vllm"].LAUNCHED
    assert own is None  # what it would launch by itself
    assert {tuple(sorted(keys.items())) for keys in launched} == {
        tuple(sorted((replace(config, use_tma=None).as_keys() | {"SPLIT_K": 1}).items()))
    }
    assert len(launched) > 3
    prior = vllm.prior_us(problem, space.configs)
    assert prior is not None
    assert len(prior) == len(space)


def test_its_studies_never_mix_with_ours(vllm: GpuMeasurer) -> None:
    assert vllm.device.method == "vllm 0.33.0: whole layer"
    theirs, ours = (StudyKey(SMALL, device, "x") for device in (vllm.device, H200))
    assert theirs.study_name != ours.study_name


def test_an_engine_takes_no_pair(vllm: GpuMeasurer) -> None:
    pair = vllm.measure(PROBLEM, PAIR)
    assert (pair.outcome, "one config" in pair.reason) == (Outcome.INFEASIBLE, True)


def test_an_engine_is_interleaved_where_it_can_launch(vllm: GpuMeasurer) -> None:
    configs = (Config(16, 32, 32, 1, 4, 3), PAIR, Config(32, 32, 32, 1, 4, 3))
    results = vllm.measure_interleaved(SMALL, configs)
    assert [r.outcome for r in results] == [Outcome.OK, Outcome.INFEASIBLE, Outcome.OK]
    assert [len(_samples(r) or ()) for r in results] == [3, 0, 3]
    launched = [keys["BLOCK_SIZE_M"] for keys in sys.modules["vllm"].LAUNCHED if keys]
    changes = sum(a != b for a, b in itertools.pairwise(launched))
    assert changes >= 4  # one after the other would change three times: to verify, then to time


def test_what_the_engine_launches_by_itself_is_measured_without_an_override() -> None:
    provider = FakeProvider()
    provider.own = MIDDLE
    measurer = fake_measurer(provider)
    assert measurer.own_config(SMALL) == MIDDLE
    result = measurer.measure(SMALL, MIDDLE)
    assert result.outcome is Outcome.OK
    assert set(provider.launched) == {None}
    measurer.measure_interleaved(SMALL, (NARROW, MIDDLE))
    assert set(provider.launched) == {None, NARROW}


@pytest.mark.parametrize("takes_pairs", [False, True])
def test_an_engines_own_pair_is_timed_as_a_layer_though_no_file_of_one_config_has_it(
    takes_pairs: bool,
) -> None:
    provider = FakeProvider(takes_pairs=takes_pairs)
    provider.own = ConfigPair(MIDDLE, replace(MIDDLE, num_warps=8))
    measurer = fake_measurer(provider)
    assert measurer.own_config(SMALL) == provider.own
    own = measurer.measure(SMALL, provider.own)
    assert own.measurement is not None
    assert own.measurement.up_us == ()
    other = measurer.measure(SMALL, ConfigPair(MIDDLE, replace(MIDDLE, num_warps=2)))
    assert other.outcome is (Outcome.OK if takes_pairs else Outcome.INFEASIBLE)


def test_a_provider_is_closed_though_the_gpu_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    providers = FakeProvider(), FakeProvider()
    measurers = [fake_measurer(provider) for provider in providers]
    both = ProviderMeasurers(fake_testbed(providers[0]))
    both._measurers = dict(zip("ab", measurers, strict=True))

    def poisoned(cache: TensorCache) -> None:
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(TensorCache, "release", poisoned)
    with pytest.raises(RuntimeError, match="illegal"):
        both.close()
    assert [provider.closed for provider in providers] == [1, 1]


def test_what_breaks_a_rule_is_not_compiled_ahead_and_what_launches_by_itself_is() -> None:
    provider = FakeProvider()
    provider.own = ConfigPair(MIDDLE, replace(MIDDLE, num_warps=8))
    measurer = fake_measurer(provider)
    other = ConfigPair(MIDDLE, replace(MIDDLE, num_warps=2))
    found = measurer.binaries(SMALL, (provider.own, other, NARROW))
    assert found == (gemm_binaries(SMALL, provider.own), {}, gemm_binaries(SMALL, NARROW))


def test_of_separate_kernels_an_engines_own_launch_is_timed_by_halves_without_an_override() -> None:
    provider = FakeProvider(takes_pairs=True)
    provider.own = MIDDLE
    measurer = fake_measurer(provider, instances=2)
    half = replace(MIDDLE, use_tma=False)
    assert measurer.own_config(PAIRED) == ConfigPair(half, half)
    own = measurer.measure(PAIRED, ConfigPair(half, half))
    assert own.measurement is not None
    assert (own.measurement.up_us, own.measurement.down_us) == ((0.25,) * 2, (0.75,) * 2)
    assert set(provider.launched) == {None}
    wide = ConfigPair(WIDE, WIDE)
    results = measurer.measure_interleaved(PAIRED, (wide, ConfigPair(half, half)))
    assert [_samples(result) for result in results] == [(64.0,) * 2, (1.0,) * 2]


def test_a_config_that_the_engine_refuses_costs_no_process() -> None:
    provider = FakeProvider()
    provider.refused = {MIDDLE}
    measurer = fake_measurer(provider)
    result = measurer.measure(SMALL, MIDDLE)
    assert (result.outcome, result.reason) == (Outcome.INFEASIBLE, "no such tile")
    assert provider.launched == []
    assert measurer.binaries(SMALL, (MIDDLE, NARROW)) == ({}, gemm_binaries(SMALL, NARROW))


def test_a_layer_that_does_not_fit_has_no_binaries_and_nothing_of_its_own() -> None:
    measurer = fake_measurer(FakeProvider(Memory(problems=0)))
    assert measurer.binaries(SMALL, (MIDDLE,)) == ({},)
    assert measurer.own_config(SMALL) is None
