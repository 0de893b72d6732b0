"""``doctor`` on machines that are not this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.backends import detect
from autotune.commands.doctor import folder_check, gpu_checks, modes_set
from autotune.documents.rows import CheckRow
from autotune.engines import ENGINES

_TWO = """0, NVIDIA H200, 570.124.06, 1980, 1980, 0x0000000000000001
1, NVIDIA H200, 570.124.06, 1200, 1980, 0x0000000000000024
"""


def _tool(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An ``nvidia-smi`` that is found first."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def _states(*, needed: bool) -> dict[str, CheckRow]:
    return {check.what: check for check in gpu_checks(needed=needed)}


def test_a_slowed_gpu_and_a_foreign_process_are_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpus.csv").write_text(_TWO)
    query = f'case "$1" in *gpu=*) cat {tmp_path}/gpus.csv;; *) echo "4242, python";; esac'
    _tool(tmp_path, monkeypatch, query)
    checks = _states(needed=True)
    assert checks["GPU 0 clocks"].state == "ok"
    assert checks["GPU 1 clocks"].state == "warning"
    assert "power cap" in checks["GPU 1 clocks"].detail
    assert "thermal limit (software)" in checks["GPU 1 clocks"].detail
    assert checks["GPU in use"].state == "warning"
    assert "4242 python" in checks["GPU in use"].detail
    assert "570.124.06" in checks["GPU 0"].detail


@pytest.mark.parametrize(("needed", "state"), [(True, "error"), (False, "warning")])
def test_a_driver_that_fails_is_said_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: bool, state: str
) -> None:
    _tool(tmp_path, monkeypatch, 'echo "Failed to initialize NVML: Driver mismatch"; exit 18')
    check = _states(needed=needed)["NVIDIA driver"]
    assert check.state == state
    assert "Driver mismatch" in check.detail


def test_a_driver_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tool(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(detect, "_TIMEOUT_S", 0.3)
    assert "timed out" in _states(needed=True)["NVIDIA driver"].detail


def test_no_driver_is_no_error_where_none_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert _states(needed=False)["NVIDIA driver"].state == "absent"


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
