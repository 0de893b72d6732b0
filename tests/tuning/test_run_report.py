"""A run's end for people names what has no winner by model and batch size, not by its key."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.tuning.run_report import model_report

DEVICE = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90, 32), "3.6.0", 232448)


def _study(tokens: int, best_us: float | None, ended: str = "") -> Any:
    key = StudyKey(Problem(128, 8, 2048, 384, tokens), DEVICE, "space")
    return SimpleNamespace(
        key=key, best_us=best_us, ended=ended, end=None, measured=[], target=60, results=()
    )


def test_what_has_no_winner_is_named_for_machines_and_for_people() -> None:
    studies = [_study(1, 20.0), _study(64, None, "40 failures in a row"), _study(96, None)]
    names = [study.key.study_name for study in studies]
    model: Any = SimpleNamespace(
        name="Qwen3 TP2", label="Qwen3 TP2", shares={}, shape=None, studies=studies
    )
    report = model_report(model, dict.fromkeys(names, ()))
    assert report.failed == {
        names[1]: "40 failures in a row",
        names[2]: "nothing was timed yet",
    }
    assert report.failed_words == (
        "Qwen3 TP2 bf16, batch size 64: 40 failures in a row",
        "Qwen3 TP2 bf16, batch size 96: nothing was timed yet",
    )
