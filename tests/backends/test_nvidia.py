"""What is said of GPUs: the real nvidia-ml-py over drivers that are not there."""

from __future__ import annotations

import shutil
import subprocess

import pynvml
import pytest
from fake_nvml import DRIVER, H200, MHZ, FakeGpu, FakeNvml, HungNvml, install

from autotune.backends import nvidia
from autotune.backends.detect import amd_gpus, visible_gpus
from autotune.backends.nvidia import DriverFault, Gpu, gpus, nvidia_gpus

LOST = pynvml.NVML_ERROR_GPU_IS_LOST
NO_PERMISSION = pynvml.NVML_ERROR_NO_PERMISSION
NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED


def _found(monkeypatch: pytest.MonkeyPatch, *there: FakeGpu) -> list[Gpu]:
    install(monkeypatch, FakeNvml(there))
    found = gpus()
    assert isinstance(found, list)
    return found


def test_several_gpus_with_their_clocks_and_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = FakeGpu(sm_mhz=1200, slowed=0x24, processes={42: "python", 43: "", 44: "caf\xe9"})
    first, second = _found(monkeypatch, FakeGpu(), busy)
    assert first == Gpu(0, H200, DRIVER, MHZ, MHZ, slowed=(), processes=())
    assert (second.index, second.sm_mhz, second.max_sm_mhz) == (1, 1200, MHZ)
    assert second.slowed == ("power cap", "thermal limit (software)")
    assert second.processes == ("42 python", "43", "44")
    assert nvidia_gpus() == 2


def test_no_library_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    assert gpus() is None
    assert nvidia_gpus() == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "Driver Not Loaded"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "version mismatch"),
        (NO_PERMISSION, "Insufficient Permissions"),
    ],
)
def test_a_library_without_its_driver_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    install(monkeypatch, FakeNvml([FakeGpu()], init=code))
    fault = gpus()
    assert isinstance(fault, DriverFault)
    assert words in fault.reason
    assert nvidia_gpus() == 0


def test_a_driver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, HungNvml([FakeGpu()]))
    monkeypatch.setattr(nvidia, "_PATIENCE_S", 0.1)
    fault = gpus()
    assert isinstance(fault, DriverFault)
    assert "no answer within 0.1 s" in fault.reason
    assert nvidia_gpus() == 0


def test_words_of_a_driver_that_are_no_text_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml([FakeGpu()]))
    monkeypatch.setattr("pynvml.nvmlDeviceGetName", lambda _: b"\xff".decode())
    found = gpus()
    assert isinstance(found, DriverFault)
    assert "does not answer: 'utf-8' codec" in found.reason


def test_a_driver_may_have_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _found(monkeypatch) == []
    assert nvidia_gpus() == 0


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetClockInfo"])
def test_a_lost_gpu_is_named_beside_the_others(
    monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    found = _found(monkeypatch, FakeGpu(errors={function: LOST}), FakeGpu())
    assert found[0] == Gpu(0, driver=DRIVER, fault="GPU is lost")
    assert found[1].name == H200
    assert not found[1].fault


def test_a_gpu_of_somebody_else_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = FakeGpu(errors={"nvmlDeviceGetHandleByIndex_v2": NO_PERMISSION})
    assert [gpu.index for gpu in _found(monkeypatch, theirs, FakeGpu())] == [1]


def test_what_a_split_gpu_does_not_say_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """MIG: clocks and processes of the whole GPU are for the administrator."""
    errors = {
        "nvmlDeviceGetClockInfo": NOT_SUPPORTED,
        "nvmlDeviceGetMaxClockInfo": NOT_SUPPORTED,
        "nvmlDeviceGetCurrentClocksThrottleReasons": NOT_SUPPORTED,
        "nvmlDeviceGetComputeRunningProcesses_v3": NO_PERMISSION,
    }
    [gpu] = _found(monkeypatch, FakeGpu(processes={}, errors=errors))
    assert gpu == Gpu(0, H200, DRIVER)
    assert gpu.processes is None


@pytest.mark.parametrize(
    ("mask", "count"),
    [
        (None, 4),
        ("", 0),
        ("2", 1),
        ("3,0", 2),
        ("0,-1,2", 1),  # CUDA hides what follows an invalid one
        ("0,9,2", 1),
        ("GPU-8932f937,MIG-12", 2),
        ("MIG-GPU-8932f937/1/0", 1),
    ],
)
def test_gpus_are_counted_as_pytorch_does(
    monkeypatch: pytest.MonkeyPatch, mask: str | None, count: int
) -> None:
    install(monkeypatch, FakeNvml([FakeGpu()] * 4))
    assert visible_gpus(mask) == count


@pytest.mark.gpu
def test_the_driver_of_this_machine_says_what_pytorch_and_nvidia_smi_do() -> None:
    import torch

    if amd_gpus():
        pytest.skip("AMD's driver")
    found = gpus()
    assert isinstance(found, list)
    assert torch.cuda.get_device_name() in {gpu.name for gpu in found}
    assert visible_gpus(None) >= torch.cuda.device_count()
    tool = shutil.which("nvidia-smi")
    if tool is None:
        pytest.skip("no nvidia-smi to compare with")
    query = "--query-gpu=index,name,driver_version,clocks.max.sm"
    asked = [tool, query, "--format=csv,noheader,nounits"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    mine = [f"{gpu.index}, {gpu.name}, {gpu.driver}, {gpu.max_sm_mhz}" for gpu in found]
    assert mine == lines
