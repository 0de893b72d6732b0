"""Timers of providers, and an engine's own kernel as a Measurer."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from measurer_cases import PAIR, PROBLEM, TILES  # type: ignore[import-not-found]

from autotune.backends.gpu.engine_measurer import EngineMeasurer
from autotune.backends.gpu.provider_timer import Bench, ProviderTimer, ProviderTimers
from autotune.backends.gpu.providers import pytorch
from autotune.backends.options import MeasurerOptions
from autotune.backends.selectors import open_measurer
from autotune.errors import DeviceError, ProviderError
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Dtype, Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome
from autotune.studies.search.pruning import Stop

OPTIONS = MeasurerOptions(cache_dir=Path("unused"))
SMALL = Problem(experts=4, top_k=2, hidden=64, intermediate=32, tokens=5)
H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0", "whole layer")


@pytest.fixture
def timers() -> Iterator[ProviderTimers]:
    opened = ProviderTimers(None, OPTIONS, instances=3)
    yield opened
    opened.close()


def test_times_and_checks_on_the_cpu(timers: ProviderTimers) -> None:
    assert timers.device is None
    version, does = timers.about("torch")
    assert (version, bool(does)) == (f"torch {torch.__version__}", True)
    for name in ("torch", "torch-grouped"):
        result = timers.measure(name, SMALL, None)
        assert result.outcome is Outcome.OK, result.reason
        assert result.measurement is not None
        assert len(result.measurement.samples_us) == 3
        assert result.measurement.how == "CPU, the host's clock, cold caches, 3 routings"
        assert 0 < (result.relative_error or 0) < 0.05


def test_what_a_provider_cannot_is_an_answer(timers: ProviderTimers) -> None:
    result = timers.measure("autotune", SMALL, TILES)
    assert (result.outcome, result.reason) == (Outcome.INFEASIBLE, "Triton kernels need a GPU")
    result = timers.measure("torch-compile", replace(SMALL, dtype=Dtype.FP8_W8A8), None)
    assert result.outcome is Outcome.INFEASIBLE
    assert "fp8_w8a8" in result.reason
    with pytest.raises(ProviderError, match="no provider 'tensorrt'"):
        timers.about("tensorrt")


def test_a_wrong_layer_is_not_timed(
    timers: ProviderTimers, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = pytorch.grouped_layer
    monkeypatch.setattr(pytorch, "grouped_layer", lambda *args: right(*args) * 1.5)
    result = timers.measure("torch-grouped", SMALL, None)
    assert (result.outcome, result.measurement) == (Outcome.WRONG_RESULT, None)
    assert "allowed" in result.reason


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EngineMeasurer]:
    """A stand-in's kernel on the CPU, which stands in for an H200."""
    providers = Path(__file__).parent / "providers"
    monkeypatch.syspath_prepend(str(providers))
    from standins import write_engine  # type: ignore[import-not-found]

    monkeypatch.syspath_prepend(str(write_engine(tmp_path, "vllm", "0.33.0")))
    timer = ProviderTimer("vllm", Bench(None, OPTIONS, instances=3))
    opened = EngineMeasurer(timer, H200, OPTIONS)
    yield opened
    opened.close()
    for name in [n for n in sys.modules if n.partition(".")[0] in ("vllm", "standin_math")]:
        del sys.modules[name]


def test_an_engines_kernel_is_launched_with_the_sampled_config(vllm: EngineMeasurer) -> None:
    problem = replace(SMALL, dtype=Dtype.INT4_W4A16, block_shape=(0, 32))
    space = vllm.space(problem)
    config = next(c for c in space.configs if isinstance(c, Config) and c.block_size_k <= 32)
    result = vllm.measure(problem, config)
    assert result.outcome is Outcome.OK, result.reason
    launched = sys.modules["vllm"].LAUNCHED
    assert {tuple(sorted(keys.items())) for keys in launched} == {
        tuple(sorted((replace(config, use_tma=None).as_keys() | {"SPLIT_K": 1}).items()))
    }
    assert len(launched) > 3
    prior = vllm.prior_us(problem, space.configs)
    assert prior is not None
    assert len(prior) == len(space)


def test_its_studies_never_mix_with_ours(vllm: EngineMeasurer) -> None:
    assert vllm.device.method == "vllm 0.33.0: whole layer"
    theirs, ours = (StudyKey(SMALL, device, "x") for device in (vllm.device, H200))
    assert theirs.study_name != ours.study_name


def test_what_it_cannot_launch(vllm: EngineMeasurer) -> None:
    pair = vllm.measure(PROBLEM, PAIR)
    assert (pair.outcome, "one config" in pair.reason) == (Outcome.INFEASIBLE, True)
    huge = vllm.measure(PROBLEM, Config(256, 256, 256, 1, 8, 5))
    assert huge.outcome is Outcome.INFEASIBLE
    assert "shared memory" in huge.reason


def test_gives_up_after_one_slow_sample(vllm: EngineMeasurer) -> None:
    config = Config(16, 32, 32, 1, 4, 3)
    result = vllm.measure(SMALL, config, stop=Stop(((0.001,),)))
    assert result.outcome is Outcome.PRUNED
    assert result.measurement is not None
    assert len(result.measurement.samples_us) == 1


def test_takes_turns_between_what_it_can_launch(vllm: EngineMeasurer) -> None:
    configs = (Config(16, 32, 32, 1, 4, 3), PAIR, Config(32, 32, 32, 1, 4, 3))
    results = vllm.measure_interleaved(SMALL, configs)
    assert [r.outcome for r in results] == [Outcome.OK, Outcome.INFEASIBLE, Outcome.OK]
    assert [len(r.measurement.samples_us) if r.measurement else 0 for r in results] == [3, 0, 3]
    launched = [keys["BLOCK_SIZE_M"] for keys in sys.modules["vllm"].LAUNCHED]
    changes = sum(a != b for a, b in itertools.pairwise(launched))
    assert changes >= 4  # one after the other would change three times: to verify, then to time


def test_a_missing_gpu_says_so() -> None:
    options = replace(OPTIONS, provider="vllm")
    with pytest.raises(DeviceError, match="PyTorch sees"):
        open_measurer(f"cuda:{torch.cuda.device_count()}", options)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["autotune", "torch", "torch-grouped", "torch-compile"])
@pytest.mark.parametrize(
    "problem", [PROBLEM, replace(PROBLEM, ep_size=2, ep_rank=1)], ids=lambda p: p.name
)
def test_on_a_gpu(name: str, problem: Problem) -> None:
    timers = ProviderTimers(0, OPTIONS, instances=4)
    result = timers.measure(name, problem, TILES if name == "autotune" else None)
    timers.close()
    assert result.outcome is Outcome.OK, result.reason
    assert result.measurement is not None
    expected = "events" if name == "torch" else "CUDA graph"
    assert result.measurement.how.startswith(expected)
