"""``doctor`` on machines that are not this one."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest
from fake_nvml import DRIVER, FakeGpu, FakeNvml, install

from autotune.commands import doctor
from autotune.commands.doctor import folder_check, gpu_checks, modes_set
from autotune.documents.rows import CheckRow
from autotune.engines import ENGINES

BUSY = FakeGpu(sm_mhz=1200, slowed=0x24, processes={4242: "python"})
UNSAID = FakeGpu(
    errors={
        "nvmlDeviceGetClockInfo": pynvml.NVML_ERROR_NOT_SUPPORTED,
        "nvmlDeviceGetComputeRunningProcesses_v3": pynvml.NVML_ERROR_NO_PERMISSION,
    }
)
LOST = FakeGpu(errors={"nvmlDeviceGetHandleByIndex_v2": pynvml.NVML_ERROR_GPU_IS_LOST})
NO_DRIVER = FakeNvml([], init=pynvml.NVML_ERROR_DRIVER_NOT_LOADED)


def _states(
    monkeypatch: pytest.MonkeyPatch, library: FakeNvml | None, *, needed: bool = True
) -> dict[str, CheckRow]:
    install(monkeypatch, library)
    return {check.what: check for check in gpu_checks(needed=needed)}


def test_a_slowed_gpu_and_a_foreign_process_are_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = _states(monkeypatch, FakeNvml([FakeGpu(), BUSY, BUSY]))
    assert checks["GPU 0 clocks"].state == "ok"
    assert checks["GPU 1 clocks"].state == "warning"
    assert "power cap" in checks["GPU 1 clocks"].detail
    assert "thermal limit (software)" in checks["GPU 1 clocks"].detail
    assert checks["GPU in use"].state == "warning"
    assert checks["GPU in use"].detail.endswith("disturbed by 4242 python")
    assert DRIVER in checks["GPU 0"].detail


def test_a_free_gpu_at_full_clocks_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = _states(monkeypatch, FakeNvml([FakeGpu()]))
    assert {check.state for check in checks.values()} == {"ok"}


def test_what_the_driver_does_not_say_is_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = _states(monkeypatch, FakeNvml([UNSAID]))
    assert checks["GPU 0 clocks"].state == "warning"
    assert checks["GPU in use"].state == "warning"


@pytest.mark.parametrize("needed", [True, False])
@pytest.mark.parametrize(
    ("library", "what", "words"),
    [
        (NO_DRIVER, "NVIDIA driver", "Driver Not Loaded"),
        (FakeNvml([]), "NVIDIA driver", "no GPU"),
        (FakeNvml([LOST]), "GPU 0", "GPU is lost"),
    ],
)
def test_a_driver_or_a_gpu_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, library: FakeNvml, what: str, words: str, needed: bool
) -> None:
    check = _states(monkeypatch, library, needed=needed)[what]
    assert check.state == ("error" if needed else "warning")
    assert words in check.detail


@pytest.mark.parametrize(
    ("needed", "amd", "state"), [(False, 0, "absent"), (True, 0, "error"), (True, 2, "warning")]
)
def test_no_driver_is_an_error_where_one_is_needed(
    monkeypatch: pytest.MonkeyPatch, needed: bool, amd: int, state: str
) -> None:
    monkeypatch.setattr(doctor, "amd_gpus", lambda: amd)
    assert _states(monkeypatch, None, needed=needed)["NVIDIA driver"].state == state


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert folder_check("x", tmp_path / "new" / "deep").state in ("ok", "warning")
    assert folder_check("x", tmp_path / "file" / "deep").state == "error"


def test_a_mode_that_ignores_files_is_a_warning() -> None:
    vllm = ENGINES["vllm"]
    [check] = modes_set(vllm, {"VLLM_BATCH_INVARIANT": "1", "VLLM_ROCM_USE_AITER": "0"})
    assert check.state == "warning"
    assert check.detail.startswith("VLLM_BATCH_INVARIANT=1: vLLM 0.33.0 opens no tuned file")
    assert not list(modes_set(vllm, {}))
