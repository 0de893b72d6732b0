"""The configs of ours that are recorded on the engines' kernels, and the campaign without a GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import parity_recordings
import pytest

from autotune.backends.replay.recording_format import (
    Recording,
    read_recording,
    recorded_configs,
    write_recording,
)
from autotune.spec.config import AnyConfig, Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult

OURS = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0", "layer, 4")
PROBLEM = Problem(8, 2, 512, 256, 16)
CONFIGS = [Config(16, 32 << n, 64, g, w, 3) for n in range(3) for g in (1, 8) for w in (4, 8)]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """At 16 tokens the first are the fastest, at 64 the last but one that crashed."""
    results: list[dict[AnyConfig, TrialResult]] = [
        {
            config: TrialResult(Outcome.OK, Measurement((100.0 + sign * number,), "test"))
            for number, config in enumerate(CONFIGS)
        }
        for sign in (1, -1)
    ]
    results[1][CONFIGS[-1]] = TrialResult(Outcome.CRASHED)
    keys = [StudyKey(replace(PROBLEM, tokens=tokens), OURS, "") for tokens in (16, 64)]
    path = tmp_path / "ours.npz"
    write_recording(path, Recording(dict(zip(keys, results, strict=True)), {}, {}))
    return path


def test_the_fastest_of_each_batch_size_and_as_many_others(recorded: Path) -> None:
    chosen = parity_recordings.fastest_and_others(recorded, 2)
    assert chosen[:4] == [*CONFIGS[:2], CONFIGS[-2], CONFIGS[-3]]
    assert len(chosen) == len(set(chosen)) == 6


def test_what_is_kept_is_of_these_configs_alone(recorded: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.npz"
    parity_recordings.keep(recorded, CONFIGS[3:5], kept)
    assert recorded_configs(kept) == CONFIGS[3:5]
    assert read_recording(kept).studies.keys() == read_recording(recorded).studies.keys()


def test_a_rehearsal_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    words = ["--out", str(tmp_path), "--device", "estimate:NVIDIA_H200", "--engines", "--only"]
    words += ["bf16", "--batch-size", "16", "--limit", "2", "--fastest", "1"]
    monkeypatch.setattr(sys, "argv", ["parity_recordings.py", *words])
    parity_recordings.main()
    ours = recorded_configs(tmp_path / "bf16_autotune.npz")
    assert len(ours) == 4  # the engines' defaults too
    assert 1 <= len(recorded_configs(tmp_path / "like" / "bf16_autotune.npz")) <= 2
