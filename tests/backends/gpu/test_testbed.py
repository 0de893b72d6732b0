"""A GPU's facts, and the CPU's clock under the same timer as a GPU's."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from autotune.backends.gpu.providers import ProviderSite
from autotune.backends.gpu.testbed import (
    HostClock,
    Testbed,
    TimedDevice,
    _lock_of,
    device_of,
    take_device,
)
from autotune.backends.protocol import MeasurerOptions
from autotune.errors import DeviceError
from autotune.kernels.timing import EventTimer
from autotune.spec.device import DeviceKind, Target


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
    assert device.method == "whole layer, 4, cold L2"
    assert device_of(h200, cold_l2=False).method == "whole layer, 4, warm L2"


def test_a_sample_is_what_the_clock_went_on_by(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns, step_ns = [0], [0]
    monkeypatch.setattr(time, "perf_counter_ns", lambda: now_ns[0])
    timer = EventTimer(HostClock(cache_bytes=1 << 10), repeats=1)
    calls = [lambda ns=ns: step_ns.__setitem__(0, ns) for ns in (2_000_000, 30_000_000)]

    def call() -> None:
        now_ns[0] += step_ns[0]

    assert list(timer.samples(call, calls)) == [2_000, 30_000]


def test_there_is_nothing_to_capture() -> None:
    def call() -> None:
        pass

    assert HostClock(cache_bytes=1).capture(call) is call


def test_a_lock_in_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _lock_of("7").close()
    [folder] = tmp_path.iterdir()
    assert [path.name for path in folder.iterdir()] == ["gpu-7.lock"]
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path)
    with pytest.raises(DeviceError, match="not yours"):
        _lock_of("7")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_turn_on_the_gpu_that_is_taken_twice_ends_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    device = TimedDevice(ProviderSite("cpu", Target("cuda", 90)), None, HostClock(1 << 10), "one")
    mine = Testbed(device, MeasurerOptions(cache_dir=tmp_path))
    with _lock_of("one") as others:

        def is_free() -> bool:
            try:
                fcntl.flock(others, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            fcntl.flock(others, fcntl.LOCK_UN)
            return True

        with mine.taken():
            with mine.taken():
                assert not is_free()
            assert not is_free()
        assert is_free()


@pytest.mark.parametrize(
    ("hip", "words"),
    [
        (None, "nvidia-smi and CUDA_VISIBLE_DEVICES"),
        ("7.2", "rocm-smi and HIP_VISIBLE_DEVICES"),
    ],
)
def test_where_no_gpu_is_seen_the_makers_tool_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hip: str | None, words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "hip", hip)
    with pytest.raises(DeviceError, match=f"no GPU 0: PyTorch sees 0; check {words}"):
        take_device(0, MeasurerOptions(cache_dir=tmp_path))
