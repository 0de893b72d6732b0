"""A process that builds what an engine's first call would: heard, and ended with its tools."""

from __future__ import annotations

import logging
import time
from multiprocessing.connection import wait
from pathlib import Path

import pytest
from alive import is_alive

from autotune.spec.problem import Problem
from autotune.tuning.compile_service.first_builds import FirstBuilds, builds_ahead

LAYER = Problem(experts=4, top_k=2, hidden=64, intermediate=32, tokens=8)


def test_only_a_gpus_provider_that_builds() -> None:
    assert builds_ahead("cuda:0", "sglang")
    assert not builds_ahead("cuda", "vllm")
    assert not builds_ahead("cuda", "autotune")
    assert not builds_ahead("estimate:NVIDIA_H200", "sglang")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SGLang whose packages can be found; what it builds is whatever its loader does."""
    for name in ("srt/utils", "kernels/jit/utils", "kernels/ops/activation"):
        folder = tmp_path / "sglang"
        for part in name.split("/"):
            folder /= part
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "__init__.py").touch()
    (tmp_path / "sglang/__init__.py").touch()
    (tmp_path / "sglang/kernels/ops/activation/activation.py").write_text(
        "from sglang.kernels.jit.utils import load_jit\n"
        "def silu_and_mul(input, out): load_jit(input)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)  # also in processes that are spawned
    return tmp_path / "sglang/kernels/jit/utils/__init__.py"


def _said(builds: FirstBuilds, caplog: pytest.LogCaptureFixture) -> list[str]:
    wait([builds._process.link], timeout=120)
    with caplog.at_level(logging.DEBUG, "autotune"):
        builds.close()
    assert all(record.levelno == logging.DEBUG for record in caplog.records)
    return [record.message for record in caplog.records if "built ahead" in record.message]


def test_what_came_of_it_is_a_debug_line(fake: Path, caplog: pytest.LogCaptureFixture) -> None:
    fake.write_text("def load_jit(*_): print('nvcc says something')")
    said = _said(FirstBuilds("sglang", LAYER), caplog)
    assert said == ["built ahead for sglang: silu_and_mul is built"]


def test_a_failure_is_one_too(fake: Path, caplog: pytest.LogCaptureFixture) -> None:
    fake.write_text("raise ImportError('no ninja')")
    said = _said(FirstBuilds("sglang", LAYER), caplog)
    assert said == ["built ahead for sglang: ImportError: no ninja"]


def test_its_compilers_end_with_it(fake: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    fake.write_text(
        "import subprocess, pathlib\n"
        "def load_jit(*_):\n"
        "    compiler = subprocess.Popen(['sleep', '600'])\n"
        f"    pathlib.Path({str(pid)!r}).write_text(str(compiler.pid))\n"
        "    compiler.wait()\n"
    )
    builds = FirstBuilds("sglang", LAYER)
    until = time.monotonic() + 120
    while not (pid.exists() and pid.read_text()) and time.monotonic() < until:
        time.sleep(0.02)
    builds.close()
    while is_alive(int(pid.read_text())) and time.monotonic() < until:
        time.sleep(0.02)
    assert time.monotonic() < until
