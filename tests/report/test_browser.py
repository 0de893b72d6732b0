"""The report, and the dashboard of a live run, in a browser."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import INK, chromium, console_lines, requested  # type: ignore[import-not-found]
from finished_run import Finished  # type: ignore[import-not-found]
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

import autotune
from autotune.report.html.page import write_report

_PATIENCE_S = 60.0


@pytest.fixture
def shots(request: pytest.FixtureRequest) -> Path:
    """Screenshots stay here for whoever wants to look."""
    folder = request.config.rootpath / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_the_report_is_drawn_and_asks_for_nothing(
    finished: Finished, tmp_path: Path, shots: Path
) -> None:
    page_file, *pictures = write_report(finished.studies(), tmp_path, finished.studies())
    with chromium(tmp_path / "profile") as driver:
        driver.get(page_file.as_uri())
        images = driver.find_elements("css selector", "figure img")
        drawn = driver.find_elements("css selector", "figure > svg")
        assert len(images) + len(drawn) == len(pictures)
        assert all(figure.size["width"] > 400 for figure in drawn)
        assert driver.find_elements("css selector", "figure > svg circle > title")
        for image in images:
            assert driver.execute_script("return arguments[0].naturalWidth", image) > 400
            assert driver.execute_script(INK, image) > 1000
        assert len(driver.find_elements("css selector", "table")) >= 3
        assert console_lines(driver) == []
        schemes = {url.split(":", 1)[0] for url in requested(driver)}
        assert schemes - {"chrome", "chrome-untrusted"} == {"file", "data"}  # the tab before it
        driver.save_screenshot(str(shots / "report.png"))


def _environment(cwd: Path) -> dict[str, str]:
    package = str(Path(autotune.__file__).parents[1])
    return os.environ | {"PYTHONPATH": package, "XDG_CACHE_HOME": str(cwd / "cache")}


@contextmanager
def _started(cwd: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "autotune", *words],
        cwd=cwd,
        env=_environment(cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _run_words(cwd: Path, tokens: int, *more: str) -> list[str]:
    words = ["run", "--shape", SHAPE, "--device", f"replay:{cwd / 'small.npz'}"]
    return [*words, "--batch-size", str(tokens), *more]


def _until(condition: Callable[[], Any]) -> Any:
    """The first true answer. Pages are drawn by scripts, some time after they are loaded."""
    end = time.monotonic() + _PATIENCE_S
    while not (answer := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)
    return answer


def _text(driver: Any) -> str:
    return str(driver.execute_script("return document.body.innerText"))


def test_the_dashboard_during_a_live_run(tmp_path: Path, shots: Path) -> None:
    save_landscape(tmp_path / "small.npz")
    done = _run_words(tmp_path, 1, "--trials", "12", "--sampler", "random")
    subprocess.run(
        [sys.executable, "-m", "autotune", *done],
        cwd=tmp_path,
        env=_environment(tmp_path),
        check=True,
        capture_output=True,
    )
    live = _run_words(tmp_path, 64, "--trials", "216", "--stop-gain", "0")
    live = [f"{w}@400ms" if w.startswith("replay:") else w for w in live]  # long enough to see
    with (
        chromium(tmp_path / "profile") as driver,
        _started(tmp_path, *live) as running,
        _started(tmp_path, "dashboard", "--port", "0") as dashboard,
    ):
        assert dashboard.stdout is not None
        address = dashboard.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        _lists_both(driver, address, shots)
        _shows_trials_as_they_come(driver, address, shots)
        assert running.poll() is None
        _shows_the_note_and_its_picture(driver, address, tmp_path / "autotune.db", shots)
        server = address.removesuffix("dashboard/")
        own = (server, "data:", "chrome:", "chrome-untrusted:")
        assert [url for url in requested(driver) if not url.startswith(own)] == []


def _lists_both(driver: Any, address: str, shots: Path) -> None:
    driver.get(address)
    _until(lambda: "batch size 1:" in _text(driver))

    def both() -> bool:
        driver.refresh()
        time.sleep(1)
        return "batch size 64:" in _text(driver)

    _until(both)
    driver.save_screenshot(str(shots / "dashboard-studies.png"))


def _study(address: str, tokens: int) -> str:
    """The page of a batch size."""
    api = address.replace("/dashboard/", "/api/studies")
    with urllib.request.urlopen(api, timeout=10) as answer:
        listed = json.load(answer)["study_summaries"]
    [found] = [s["study_id"] for s in listed if f"batch size {tokens}:" in s["study_name"]]
    return f"{address}studies/{found}"


def _shows_trials_as_they_come(driver: Any, address: str, shots: Path) -> None:
    page = _study(address, 64)

    def count() -> int:
        driver.get(f"{page}/trials")
        return int(_until(lambda: re.search(r"(\d+) Trials", _text(driver)))[1])

    before = count()
    _until(lambda: count() > before)
    driver.save_screenshot(str(shots / "dashboard-trials.png"))


def _shows_the_note_and_its_picture(driver: Any, address: str, database: Path, shots: Path) -> None:
    page = _study(address, 1)
    driver.get(f"{page}/note")
    _until(lambda: "What the sampler knew" in _text(driver))
    [image] = _until(lambda: driver.find_elements("css selector", "img[src*='/artifacts/']"))
    _until(lambda: driver.execute_script("return arguments[0].naturalWidth", image) > 400)
    assert driver.execute_script(INK, image) > 1000
    driver.save_screenshot(str(shots / "dashboard-note.png"))
    source = image.get_attribute("src")
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT number FROM trials WHERE trial_id = ?"
        [best] = connection.execute(query, [source.split("/")[-2]]).fetchone()
    driver.get(f"{page}/trials?numbers={best}")
    _until(lambda: driver.find_elements("css selector", f"img[src*='{source.split('/')[-1]}']"))
    driver.save_screenshot(str(shots / "dashboard-artifact.png"))
    driver.get(source)
    [opened] = driver.find_elements("css selector", "img")
    assert driver.execute_script("return arguments[0].naturalWidth", opened) > 400
