"""The benchmarks that run the whole product on pretended GPUs start: they put parts of their own in
the place of some of its names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_a_run_with_faults_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_landscape(tmp_path / "recording.npz")
    for name, text in (("workers", "1"), ("measure_ms", "1")):
        (tmp_path / name).write_text(text)
    (tmp_path / "orders").mkdir()
    monkeypatch.setenv("CHAOS_FOLDER", str(tmp_path))
    words = ["run", "--shape", SHAPE, "--device", "cuda", "--batch-size", "64", "--trials", "4"]
    folders = ["--storage", str(tmp_path / "a.db"), "--output-dir", str(tmp_path / "out")]
    jobs = ["--compile-jobs", "1", "--cache-dir", str(tmp_path / "cache")]
    done = _run("survival/faulty.py", *words, *folders, *jobs)
    assert "4 new measurements" in done.stderr
    measured = (tmp_path / "gpu.log").read_text().splitlines()
    assert len(set(measured)) == 4 < len(measured)  # finalists are measured again


def test_the_order_of_visits_is_timed() -> None:
    quick = ["--workers", "1", "--measure-ms", "1", "--prepare-ms", "1"]
    done = _run("workers/turns.py", *quick, "--trials", "2", "--seeds", "1", "--orders", "turns")
    assert "\n| turns |" in done.stdout


def _run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return done
