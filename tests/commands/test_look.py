"""``status`` and ``best`` again and again, the dashboard's address, a report from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

import autotune


def _start(cwd: Path, *words: str) -> subprocess.Popen[str]:
    package = str(Path(autotune.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "autotune", *words],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": package, "XDG_CACHE_HOME": str(cwd / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run; tests look at it."""
    folder = tmp_path_factory.mktemp("tuned")
    landscape = save_landscape(folder / "small.npz")
    words = ["run", "--shape", SHAPE, "--device", f"replay:{landscape}", "--batch-size", "1", "64"]
    run = _start(folder, *words, "--trials", "10", "--sampler", "random")
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == 0, stderr
    return folder


def test_watching_ends_well_with_ctrl_c_and_prints_a_document_a_line(tuned: Path) -> None:
    for command, field in (("status", "studies"), ("best", "results")):
        watch = _start(tuned, command, "--watch", "0.2", "--json")
        assert watch.stdout is not None
        lines = [json.loads(watch.stdout.readline()) for _ in range(2)]
        watch.send_signal(signal.SIGINT)
        _, stderr = watch.communicate(timeout=20)
        assert (watch.returncode, stderr) == (0, "")
        assert lines[0] == lines[1]
        assert len(lines[0][field]) in (2, 4)


def test_watching_a_storage_that_is_deleted_ends_in_a_line(tuned: Path, tmp_path: Path) -> None:
    shutil.copy(tuned / "autotune.db", tmp_path / "copy.db")
    watch = _start(tmp_path, "status", "--watch", "0.1", "--json", "--storage", "copy.db")
    assert watch.stdout is not None
    assert json.loads(watch.stdout.readline())["studies"]
    (tmp_path / "copy.db").unlink()
    _, stderr = watch.communicate(timeout=60)
    assert watch.returncode == 1
    assert "copy.db was deleted meanwhile" in stderr
    assert len(stderr.splitlines()) == 1


def test_no_time_between_two_looks_is_refused(tuned: Path) -> None:
    done = _start(tuned, "status", "--watch", "0")
    _, stderr = done.communicate(timeout=20)
    assert done.returncode == 2
    assert "--watch" in stderr


def test_the_dashboard_takes_a_free_port_and_listens_on_loopback_alone(tuned: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = _start(tuned, "dashboard", "--port", str(port))
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        try:
            assert address.startswith("http://127.0.0.1:")
            assert f":{port}/" not in address
            url = address.replace("/dashboard/", "/api/studies")
            with urllib.request.urlopen(url, timeout=20) as answer:
                names = [each["study_name"] for each in json.load(answer)["study_summaries"]]
            assert names == [
                f"{SHAPE} bf16, batch size {size}: µs on small, replayed" for size in (1, 64)
            ]
        finally:
            server.send_signal(signal.SIGINT)
            _, stderr = server.communicate(timeout=20)
    assert server.returncode == 0
    assert "Traceback" not in stderr


def test_a_report_of_two_storages(tuned: Path) -> None:
    done = _start(tuned, "report", "--compare", "autotune.db", "--json")
    stdout, stderr = done.communicate(timeout=60)
    assert done.returncode == 0, stderr
    written = json.loads(stdout)
    assert (tuned / written["page"]).stat().st_size > 100_000
    assert all((tuned / path).exists() for path in written["pictures"])
    assert any("compare" in path for path in written["pictures"])
