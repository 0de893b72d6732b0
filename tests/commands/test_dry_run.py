"""What ``run --dry-run`` says of how much there is to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.api import asked as api_asked
from autotune.cli import run_command_line
from autotune.commands import dry_run
from autotune.documents.run import PlannedStudy
from autotune.settings import ModelSettings, RunSettings

SHAPE = "E=8,topk=2,hidden=1024,intermediate=1024"
EARLIER = "most studies end earlier, when the sampler expects too little gain"


def _summary(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, device: str, sampler: str
) -> str:
    monkeypatch.setattr(dry_run, "_seconds_per_trial", lambda _: seconds)
    row = PlannedStudy(
        model="m",
        study="s",
        batch_size=16,
        engines=("vllm",),
        configs=900,
        measured=0,
        to_measure=60,
    )
    settings = RunSettings(model=ModelSettings(shape=SHAPE), device=device, sampler=sampler, jobs=2)
    return dry_run._plan_words([row] * 2, settings, [])


@pytest.mark.parametrize(
    ("seconds", "device", "sampler", "words"),
    [
        (
            0.5,
            "estimate:NVIDIA_H200",
            "surrogate",
            "at most 120 estimates, about 0.5 min to estimate here at 0.50 s each on 2 processes; "
            f"{EARLIER}",
        ),
        (
            0.5,
            "replay:a",
            "random",
            "120 measurements, about 0.5 min at 0.50 s each on 2 processes",
        ),
        (
            None,
            "estimate:NVIDIA_H200",
            "surrogate",
            f"at most 120 estimates; {EARLIER}. How long is known after the first run here",
        ),
        (
            None,
            "replay:a",
            "random",
            "120 measurements. How long is known after the first run here",
        ),
    ],
)
def test_what_is_to_do_is_a_cap_and_no_time_is_made_up(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, device: str, sampler: str, words: str
) -> None:
    assert _summary(monkeypatch, seconds, device, sampler) == words


def test_gpus_without_a_gpu_are_an_error_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api_asked, "auto_selector", lambda: "estimate:NVIDIA_H200")
    assert run_command_line(["run", "--dry-run", "--shape", SHAPE, "--gpus", "0,1"]) == 2
    said = capsys.readouterr().err
    assert "--gpus 0,1: no GPU was found on this machine" in said
    assert "going on" not in said
