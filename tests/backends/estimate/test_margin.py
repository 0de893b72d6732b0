"""The gain of an estimate that is believed, and what it does to files on recorded landscapes."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import margin as benchmark
import pytest

from autotune.backends.estimate.margin import (
    CERTAINTY,
    ERRORS,
    UNKNOWN_ERROR,
    Group,
    margin,
    margin_of,
)
from autotune.engines import ENGINES
from autotune.spec.device import Target
from autotune.spec.problem import Dtype, Problem

MIXTRAL = Problem(experts=8, top_k=2, hidden=4096, intermediate=7168, tokens=64)
MOST_HARM = 0.02
HOPPER = Target("cuda", 90)


@pytest.fixture(scope="module")
def recordings() -> list[benchmark.Recording]:
    return benchmark.recordings()


def test_a_certain_gain_exceeds_the_error_of_two_times() -> None:
    """The ratio of two errs by the square root of two; 95 % lie below 1.645 deviations."""
    assert margin(0.1, certainty=0.95) == pytest.approx(2.71828 ** (1.645 * 0.1 * 2**0.5) - 1, 1e-3)
    assert margin(0.1, certainty=0.5) == pytest.approx(0)


def test_what_was_never_recorded_needs_the_largest_gain() -> None:
    int4 = replace(MIXTRAL, dtype=Dtype.INT4_W4A16, block_shape=(0, 128))
    assert margin_of(int4, HOPPER) == margin(UNKNOWN_ERROR)
    assert margin_of(MIXTRAL, HOPPER) < margin(UNKNOWN_ERROR)
    assert max(ERRORS.values()) < UNKNOWN_ERROR


@pytest.mark.parametrize("target", [Target("hip", "gfx942", 64), Target("cuda", 100)])
def test_a_gpu_of_which_nothing_was_recorded_has_no_margin_of_the_h200s(target: Target) -> None:
    assert margin_of(MIXTRAL, target) == margin(UNKNOWN_ERROR)


def test_rows_of_an_expert_say_how_large_a_batch_is() -> None:
    """Of a rank's experts, which get a share of the tokens."""
    few, more = (Group.of(replace(MIXTRAL, tokens=tokens)) for tokens in (64, 65))
    assert (few.is_few, more.is_few) == (True, False)
    assert Group.of(replace(MIXTRAL, tokens=65, ep_size=2)).is_few


def test_the_errors_are_those_of_the_recordings(recordings: list[benchmark.Recording]) -> None:
    errors, unknown = benchmark.errors_of(recordings)
    assert {group: round(error, 3) for group, error in errors.items()} == ERRORS
    assert round(unknown, 3) == UNKNOWN_ERROR


@pytest.mark.parametrize("engine", ENGINES.values(), ids=list(ENGINES))
def test_files_of_estimates_do_no_harm(
    recordings: list[benchmark.Recording], engine: benchmark.Engine
) -> None:
    """Errors are those of the other models' recordings."""
    asked = [recording for recording in recordings if engine in recording.engines]
    written = [
        benchmark.written(one, engine, benchmark.margin_for(one, recordings, CERTAINTY))
        for one in asked
    ]
    assert min(one.gain for one in written) >= -MOST_HARM
    assert fmean(one.share for one in written) > fmean(one.default_share for one in written)


def test_without_a_margin_one_would(recordings: list[benchmark.Recording]) -> None:
    deepseek = [one for one in recordings if one.problem.dtype is Dtype.FP8_W8A8]
    gains = [benchmark.written(one, ENGINES["sglang"], 0.0).gain for one in deepseek]
    assert min(gains) < -MOST_HARM
