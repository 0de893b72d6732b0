from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from measurer_cases import (  # type: ignore[import-not-found]
    COMPILED,
    FP8_BLOCK,
    MORE_TILES,
    PAIR,
    PROBLEM,
    SEPARATE,
    TILES,
)

from autotune.backends.compile_cache import FILE_NAME, CompileCache
from autotune.backends.estimate.measurer import EstimateMeasurer
from autotune.backends.hardware import find_spec
from autotune.backends.protocol import INSTANCES, MeasurerOptions
from autotune.backends.selectors import open_measurer
from autotune.errors import DeviceError
from autotune.spec.binary import BOTH, binary_key
from autotune.spec.config import AnyConfig
from autotune.spec.device import DeviceKind
from autotune.spec.measurement import CompileFailure, CompileResult, Resources
from autotune.spec.problem import Dtype, Problem
from autotune.studies.outcome import Outcome
from autotune.studies.search.pruning import Stop
from autotune.studies.space import moe_space

H200 = find_spec("NVIDIA H200")


@pytest.fixture
def measurer(tmp_path: Path) -> EstimateMeasurer:
    """One that would have to compile anything not put into its cache."""
    return EstimateMeasurer(H200, cache_dir=tmp_path)


def put(folder: Path, answer: CompileResult, config=TILES, problem=PROBLEM) -> None:  # type: ignore[no-untyped-def]
    for which in BOTH:
        CompileCache(folder / FILE_NAME, H200.target).put(
            binary_key(problem, config, which), answer
        )


@pytest.mark.parametrize(("selector", "problem", "config"), COMPILED)
def test_compiled_configs_of_both_vendors_are_timed(
    compiled_dir: Path, selector: str, problem: object, config: object
) -> None:
    measurer = open_measurer(selector, MeasurerOptions(cache_dir=compiled_dir))
    result = measurer.measure(problem, config)  # type: ignore[arg-type]
    assert result.outcome is Outcome.OK
    assert result.resources
    assert 0 < result.resources.shared_bytes <= measurer.device.shared_bytes
    assert 16 <= result.resources.registers <= 512
    assert (result.blocks_per_sm or 0) >= 1


def test_a_compile_serves_every_batch_size_and_group_size(compiled_dir: Path) -> None:
    lines = (compiled_dir / FILE_NAME).read_text()
    measurer = EstimateMeasurer(H200, cache_dir=compiled_dir)
    for tokens, group in ((1, 1), (4096, 64)):
        config = replace(TILES, group_size_m=group)
        assert measurer.measure(replace(PROBLEM, tokens=tokens), config).outcome is Outcome.OK
    assert (compiled_dir / FILE_NAME).read_text() == lines


@pytest.mark.parametrize(("problem", "config"), [(PROBLEM, TILES), (SEPARATE, PAIR)])
def test_what_cannot_win_is_not_compiled(
    measurer: EstimateMeasurer, tmp_path: Path, problem: Problem, config: AnyConfig
) -> None:
    halves = 2 if problem is SEPARATE else 1
    result = measurer.measure(problem, config, stop=Stop(((0.001,) * halves,) * INSTANCES))
    assert (result.outcome, result.compile_s) == (Outcome.PRUNED, 0.0)
    assert result.measurement
    assert result.measurement.extrapolated_us
    assert "without a compile" in result.reason
    assert not (tmp_path / FILE_NAME).exists()


@pytest.mark.parametrize(("selector", "problem", "config"), COMPILED)
def test_no_compiler_makes_it_faster_than_what_it_is_given_up_by(
    compiled_dir: Path, selector: str, problem: Problem, config: AnyConfig
) -> None:
    measurer = open_measurer(selector, MeasurerOptions(cache_dir=compiled_dir))
    compiled = measurer.measure(problem, config).measurement
    assert compiled
    slower = [[1.001 * us for us in column] for column in compiled.columns]
    stop = Stop(tuple(zip(*slower, strict=True)))
    assert measurer.measure(problem, config, stop=stop).outcome is Outcome.OK


def test_a_failed_compile_is_an_outcome(measurer: EstimateMeasurer, tmp_path: Path) -> None:
    put(tmp_path, CompileFailure("PassManager::run failed"))
    result = measurer.measure(PROBLEM, TILES)
    assert result.outcome is Outcome.COMPILE_ERROR
    assert result.reason == "PassManager::run failed"
    assert result.measurement is None


def test_too_much_shared_memory_after_compiling(measurer: EstimateMeasurer, tmp_path: Path) -> None:
    put(tmp_path, Resources(registers=64, spill_bytes=0, shared_bytes=300_000))
    result = measurer.measure(PROBLEM, TILES)
    assert result.outcome is Outcome.OUT_OF_RESOURCES
    assert "300000" in result.reason
    assert result.measurement is None


def test_spilled_registers_cost_time(tmp_path: Path) -> None:
    times = []
    for spill in (0, 512):
        folder = tmp_path / str(spill)
        put(folder, Resources(registers=255, spill_bytes=spill, shared_bytes=20_000))
        result = EstimateMeasurer(H200, cache_dir=folder).measure(PROBLEM, TILES)
        assert result.measurement
        times.append(result.measurement.geomean_us)
    assert times[0] < times[1]


def test_instances_differ_by_their_routing(measurer: EstimateMeasurer, tmp_path: Path) -> None:
    put(tmp_path, Resources(registers=64, spill_bytes=0, shared_bytes=20_000))
    measurement = measurer.measure(PROBLEM, TILES).measurement
    assert measurement
    assert len(set(measurement.samples_us)) > 1


def test_several_routings_take_turns(measurer: EstimateMeasurer, tmp_path: Path) -> None:
    answer = Resources(registers=64, spill_bytes=0, shared_bytes=20_000)
    names = ("uniform", "zipf:1", "worst")
    put(tmp_path, answer)
    both = replace(PROBLEM, routing=",".join(names))
    measurement = measurer.measure(both, TILES).measurement
    assert measurement
    assert (len(measurement.samples_us), measurement.routings) == (12, 3)
    for turn, name in enumerate(names):
        alone = measurer.measure(replace(PROBLEM, routing=name), TILES).measurement
        assert alone
        assert measurement.samples_us[turn::3] == pytest.approx(alone.samples_us[:4])


@pytest.mark.parametrize("gpu", ["NVIDIA A100-SXM4-80GB"])
def test_a_dtype_that_the_gpu_lacks_is_refused(tmp_path: Path, gpu: str) -> None:
    measurer = EstimateMeasurer(find_spec(gpu), cache_dir=tmp_path)
    with pytest.raises(DeviceError, match=r"A100.*fp8"):
        measurer.space(FP8_BLOCK)


@pytest.mark.parametrize(
    "problem",
    [
        PROBLEM,
        FP8_BLOCK,
        replace(PROBLEM, dtype=Dtype.FP32),
        replace(PROBLEM, dtype=Dtype.INT8_W8A8, per_channel_quant=True),
        replace(PROBLEM, dtype=Dtype.INT8_W8A16),
        replace(PROBLEM, dtype=Dtype.INT4_W4A16, block_shape=(0, 128)),
        replace(PROBLEM, tokens=1, ep_size=4, ep_rank=3),
    ],
    ids=lambda problem: problem.name,
)
def test_every_config_has_a_guess(measurer: EstimateMeasurer, problem: object) -> None:
    configs = moe_space(problem, measurer.device).configs  # type: ignore[arg-type]
    guess = measurer.prior_us(problem, configs)  # type: ignore[arg-type]
    assert len(guess) == len(configs)
    assert 0 < min(guess) <= max(guess) < 1e6


def test_nothing_to_guess(measurer: EstimateMeasurer) -> None:
    assert measurer.prior_us(PROBLEM, ()) == ()


def test_estimates_say_how_they_came_about(measurer: EstimateMeasurer) -> None:
    assert measurer.device.kind is DeviceKind.ESTIMATE
    assert measurer.device.method.startswith("time model")
    assert measurer.device.name == "NVIDIA H200"


def test_neither_torch_nor_triton_is_imported_before_a_compile(compiled_dir: Path) -> None:
    program = (
        "import sys, pathlib; from measurer_cases import PROBLEM, TILES, MORE_TILES\n"
        "from autotune.backends.protocol import MeasurerOptions\n"
        "from autotune.backends.selectors import auto_selector, open_measurer\n"
        "auto_selector()\n"
        f"options = MeasurerOptions(cache_dir=pathlib.Path({str(compiled_dir)!r}))\n"
        "m = open_measurer('estimate:NVIDIA_H200', options)\n"
        "m.prior_us(PROBLEM, m.space(PROBLEM).configs)\n"
        "assert m.measure(PROBLEM, TILES).measurement\n"
        "print([name for name in ('torch', 'triton') if name in sys.modules])"
    )
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_more_tiles_were_compiled(compiled_dir: Path) -> None:
    cache = CompileCache(compiled_dir / FILE_NAME, H200.target)
    assert isinstance(cache.get(binary_key(PROBLEM, MORE_TILES, "up")), Resources)


def test_a_pair_is_timed_half_by_half(compiled_dir: Path) -> None:
    measurer = EstimateMeasurer(H200, cache_dir=compiled_dir)
    result = measurer.measure(SEPARATE, PAIR)
    assert result.outcome is Outcome.OK
    assert result.measurement is not None
    up, down = result.measurement.up_us, result.measurement.down_us
    assert len(up) == len(down) == 10
    assert min(up) > 0
    sums = tuple(u + d for u, d in zip(up, down, strict=True))
    assert result.measurement.samples_us == sums


def test_it_says_which_half_failed(measurer: EstimateMeasurer, tmp_path: Path) -> None:
    cache = CompileCache(tmp_path / FILE_NAME, H200.target)
    cache.put(binary_key(SEPARATE, PAIR.up, "up"), Resources(64, 0, 1000))
    cache.put(binary_key(SEPARATE, PAIR.down, "down"), CompileFailure("PassManager::run failed"))
    assert measurer.measure(SEPARATE, PAIR).failed_half == "down"
    illegal = replace(PAIR, up=replace(PAIR.up, block_size_k=16, num_stages=1000))
    assert measurer.measure(SEPARATE, illegal).failed_half == "up"
    assert measurer.measure(SEPARATE, illegal).outcome is Outcome.INFEASIBLE


def test_a_guess_for_pairs_is_the_sum_of_its_halves(measurer: EstimateMeasurer) -> None:
    space = measurer.space(SEPARATE)
    few = space.configs[:50]
    pairs, singles = (measurer.prior_us(SEPARATE, c) for c in (few, tuple(p.up for p in few)))  # type: ignore[union-attr]
    assert pairs == singles
