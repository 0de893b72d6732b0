from __future__ import annotations

from collections.abc import Callable

import pytest

from autotune.backends import detect
from autotune.errors import DeviceError, UsageError
from autotune.settings import RunSettings
from autotune.tuning.workers.launcher import worker_specs

Make = Callable[..., RunSettings]


@pytest.fixture(autouse=True)
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "nvidia_gpus", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def _devices(settings: RunSettings) -> list[tuple[str, str]]:
    return [(spec.name, spec.device) for spec in worker_specs(settings, "sqlite:///a.db", 20)]


def test_a_worker_for_each_visible_gpu(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [number for number, _ in _devices(settings(device="cuda"))] == ["0", "1", "2", "3"]
    assert _devices(settings(device="cuda", gpus="3,1")) == [("3", "cuda:3"), ("1", "cuda:1")]
    assert _devices(settings(device="cuda:2")) == [("2", "cuda:2")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert _devices(settings(device="cuda")) == [("0", "cuda:0"), ("1", "cuda:1")]
    with pytest.raises(DeviceError, match="no GPU 3; 2 are visible"):
        _devices(settings(device="cuda", gpus="0,3"))


def test_where_no_gpu_is_needed_as_many_as_were_asked_for(settings: Make) -> None:
    made = _devices(settings(jobs=3))
    assert [number for number, _ in made] == ["0", "1", "2"]
    assert {device for _, device in made} == {settings().device}


def test_each_gpu_has_a_worker_for_each_kernel(settings: Make) -> None:
    chosen = settings(device="cuda", gpus="2,3")
    specs = worker_specs(chosen, "sqlite:///a.db", 20, ["vllm", "autotune"])
    assert [(spec.name, spec.device, spec.options.provider) for spec in specs] == [
        ("2 vllm", "cuda:2", "vllm"),
        ("2", "cuda:2", "autotune"),
        ("3 vllm", "cuda:3", "vllm"),
        ("3", "cuda:3", "autotune"),
    ]
    assert len({spec.number for spec in specs}) == 4
    assert {spec.options.output_dir for spec in specs} == {chosen.output_dir}


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "cuda", "gpus": "0,0"},
        {"device": "cuda", "gpus": "first"},
        {"device": "cuda", "gpus": ""},
        {"device": "cuda:1", "gpus": "0"},
        {"gpus": "0"},
    ],
)
def test_gpus_that_cannot_be(settings: Make, changes: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="--gpus"):
        settings(**changes)
