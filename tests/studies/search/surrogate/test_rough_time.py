"""Each work that the rough time knows makes the config slower that has more of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gemm_times import read_gemm_times

from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.problem import Dtype, Problem
from autotune.studies.search.surrogate.rough_time import rough_clocks

RECORDINGS = Path(__file__).parents[4] / "benchmarks/landscapes/sglang"


def clocks(problem: Problem, device: Device, config: Config) -> float:
    return float(rough_clocks(problem, device, [config])[0])


@pytest.mark.parametrize(
    ("tokens", "slower", "faster"),
    [
        pytest.param(1, Config(16, 64, 64, 1, 4, 2), Config(16, 64, 64, 1, 4, 4), id="latency"),
        pytest.param(
            8192, Config(128, 256, 64, 1, 4, 3), Config(128, 256, 64, 1, 8, 3), id="spills"
        ),
        pytest.param(
            8192, Config(128, 128, 32, 1, 8, 5), Config(128, 128, 64, 1, 8, 3), id="short rows"
        ),
        pytest.param(64, Config(256, 64, 64, 1, 8, 3), Config(16, 64, 64, 1, 8, 3), id="padding"),
        pytest.param(
            8192, Config(16, 64, 64, 1, 4, 3), Config(128, 128, 64, 1, 8, 3), id="tiles read again"
        ),
    ],
)
def test_more_work_takes_longer(
    problem: Problem, h200: Device, tokens: int, slower: Config, faster: Config
) -> None:
    problem = replace(problem, tokens=tokens)
    assert clocks(problem, h200, slower) > 1.1 * clocks(problem, h200, faster)


def test_fewer_bits_are_faster_and_block_scales_slower(problem: Problem, h200: Device) -> None:
    config = Config(128, 128, 128, 1, 8, 3)
    problem = replace(problem, tokens=8192)
    fp8 = replace(problem, dtype=Dtype.FP8_W8A8)
    scaled = replace(fp8, block_shape=(128, 128))
    assert clocks(fp8, h200, config) < 0.7 * clocks(problem, h200, config)
    assert clocks(scaled, h200, config) > 1.02 * clocks(fp8, h200, config)


def test_weights_are_read_however_small_the_batch(problem: Problem, h200: Device) -> None:
    """16 blocks of 8 experts leave most SMs idle: the rest is the weights of those experts."""
    config = Config(16, 128, 64, 1, 4, 4)
    one = replace(problem, tokens=1, top_k=1)
    twice = replace(one, experts=2 * one.experts)
    assert clocks(one, h200, config) == clocks(twice, h200, config)
    assert clocks(replace(one, top_k=8), h200, config) > clocks(one, h200, config)


QWEN3 = Problem(experts=128, top_k=8, hidden=2048, intermediate=768, tokens=4096)
DEEPSEEK = Problem(257, 9, 7168, 256, 128, Dtype.FP8_W8A8, (128, 128))


@pytest.mark.parametrize(
    ("name", "recorded_problem"),
    [("qwen3-30b-a3b_tp1_bf16", QWEN3), ("deepseek-v3_tp8_fp8block", DEEPSEEK)],
)
def test_its_best_on_recorded_landscapes(
    h200: Device, name: str, recorded_problem: Problem
) -> None:
    """Of its first eight guesses one is within 5 % of the optimum: of eight random configs the
    best takes 1.39 and 1.15 times the optimum."""
    recorded = read_gemm_times(RECORDINGS / f"{name}.npz")
    us = recorded.median_us(recorded_problem.tokens)
    known = np.flatnonzero(us > 0)
    configs = [recorded.configs[row] for row in known]
    rough = rough_clocks(recorded_problem, h200, configs)
    first = np.argsort(rough, kind="stable")[:8]
    assert us[known][first].min() < 1.05 * recorded.best_us(recorded_problem.tokens)
