"""The terminal display: on consoles of both widths, and in a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

import autotune
from autotune.engines import ENGINES
from autotune.models.parse import parse_shape
from autotune.report.terminal.run_display import LiveDisplay, PlainDisplay, study_table
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Problem
from autotune.studies.search.history import StudyHistory
from autotune.studies.trial_record import TrialRecord
from autotune.tuning.engine_output import Result
from autotune.tuning.jobs import Incumbent, Job, Origin
from autotune.tuning.observer import ModelStudies, RunStart

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_REDRAWN = re.compile(r"\r(?:\x1b\[1?A|\x1b\[2K)+")
"""The move back to the first line of a frame, which is cleared."""
_COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|38|9[0-7])[;\d]*m")


DEVICE = Device(DeviceKind.REPLAY, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")


class _Study:
    """The part of a ``TuningStudy`` that is shown."""

    def __init__(self, tokens: int, device: Device = DEVICE) -> None:
        problem = Problem(128, 8, 2048, 768, tokens)
        self.key = type("Key", (), {"problem": problem, "device": device})()
        self.problem, self.engines = problem, list(ENGINES.values())
        self.plan = type("Plan", (), {"job": Job(problem, ()), "model": None})()
        self.measured = [object()] * 20
        self.target, self.usual_end, self.in_flight, self.ended = 60, 60, 1, ""
        self.best_us, self.default_us = 331.3, 453.0


def _start(studies: list[_Study], device: Device) -> RunStart:
    models = [ModelStudies(SHAPE, SHAPE, {}, parse_shape(SHAPE), studies)]  # type: ignore[arg-type]
    return RunStart(models, device, studies, StudyHistory())  # type: ignore[arg-type]


def _shown(studies: list[_Study], workers: Iterable[int], width: int, height: int) -> list[str]:
    """Return the lines of the last frame, after each of the workers turned to the next study."""
    written = io.StringIO()
    console = Console(
        width=width, height=height, force_terminal=True, file=written, color_system=None
    )
    display = LiveDisplay(console)
    display.started(_start(studies, DEVICE))
    for worker, study in zip(workers, studies * 2, strict=False):
        display.trial_asked(study, worker, Config(128, 256, 128, 64, 8, 5))  # type: ignore[arg-type]
    display.close(lambda: False)
    frames = [frame for frame in _REDRAWN.split(written.getvalue()) if "331.3" in frame]
    lines = _ESCAPE.sub("", frames[-1]).rstrip().splitlines()
    return lines[next(i for i, line in enumerate(lines) if "batch size" in line) :]


@pytest.mark.parametrize("width", [80, 200])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    lines = _shown([_Study(size) for size in (1, 64, 4096)], range(6), width, 25)
    assert max(len(line) for line in lines) <= width
    text = "\n".join(lines)
    for word in ("4096", "331.3", "1.37×", "60/180", "worker 0: 128x256x128", "and 2 more"):
        assert word in text


@pytest.mark.parametrize(("height", "first"), [(24, 1), (12, 11), (6, 13)])
def test_studies_in_turn_have_a_row_each_or_the_last_ones_do(height: int, first: int) -> None:
    lines = _shown([_Study(size) for size in range(1, 19)], [0] * 18, 80, height)
    rows = [int(line.split()[0]) for line in lines if "1.37×" in line]
    assert rows == list(range(first, 19))
    assert len(lines) < max(height, 10)


def _in_a_terminal(width: int, cwd: Path, *words: str, **more: str) -> str:
    """Return what a run writes to a pseudo-terminal on stderr; stdout goes elsewhere."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    package = str(Path(autotune.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": package, "TERM": "xterm-256color", "COLUMNS": "", **more}
    env.pop("COLUMNS")
    process = subprocess.Popen(
        [sys.executable, "-m", "autotune", *_run_words(cwd), *words],
        cwd=cwd,
        env=env,
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    seen = b"".join(_chunks(ours))
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0, seen
    assert "SGLANG_MOE_CONFIG_DIR=" in stdout
    assert "VLLM_TUNED_CONFIG_FOLDER=" in stdout
    return seen.decode()


def _run_words(cwd: Path) -> list[str]:
    words = ["run", "--shape", SHAPE, "--device", f"replay:{cwd / 'small.npz'}"]
    return [*words, "--batch-size", "1", "64", "--trials", "12", "--sampler", "random"]


def _chunks(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # Linux's word for: the other side has closed
            break
        if not chunk:
            break
        yield chunk
    os.close(descriptor)


@pytest.mark.parametrize("width", [80, 200])
def test_a_run_in_a_pseudo_terminal(tmp_path: Path, width: int) -> None:
    save_landscape(tmp_path / "small.npz")
    seen = _in_a_terminal(width, tmp_path)
    assert _COLOUR.search(seen)
    plain = _ESCAPE.sub("", seen)
    assert "batch size" in plain
    assert "24 new measurements" in plain
    drawn = [line for line in re.split(r"[\r\n]+", plain) if "━" in line]
    assert drawn
    assert max(map(len, drawn)) <= width
    assert "\x1b[?25h" in seen.rsplit("\x1b[?25l", 1)[-1]  # the cursor is back


def test_no_color_quiet_and_verbose(tmp_path: Path) -> None:
    save_landscape(tmp_path / "small.npz")
    bare = _in_a_terminal(80, tmp_path, "--verbose", NO_COLOR="1")
    assert not _COLOUR.search(bare)
    assert re.search(
        r"batch size \d+: \d+x\d+x\d+ G\d+ w\d s\d ok\s[\d.]+ µs", _ESCAPE.sub("", bare)
    )
    assert _in_a_terminal(80, tmp_path, "--quiet", "--storage", "other.db") == ""


def test_a_run_begins_with_whose_kernel_is_measured_for_each_engine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = replace(DEVICE, kind=DeviceKind.CUDA, method="vllm 0.33.0: whole layer, 4, cold L2")
    written = io.StringIO()
    start = _start([_Study(1, device)] * 2, device)
    display = LiveDisplay(Console(file=written, width=80))
    display.started(start)
    display.close(lambda: False)
    with caplog.at_level("INFO"):
        PlainDisplay().started(start)
    for text in (written.getvalue(), caplog.text):
        assert text.count("vLLM: its own kernel, vllm 0.33.0") == 1
        assert text.count("SGLang: vllm 0.33.0 stands in, not proven") == 1


def _ended(caplog: pytest.LogCaptureFixture, study: _Study) -> str:
    caplog.clear()
    with caplog.at_level("INFO"):
        PlainDisplay().study_ended(study)  # type: ignore[arg-type]
    return caplog.messages[0]


def _estimated(us: float) -> _Study:
    """A study of a config that takes ``us``, and of both engines' default, which takes 100 µs."""
    study = _Study(64, replace(DEVICE, kind=DeviceKind.ESTIMATE))
    default, fast = Config(16, 32, 64, 1, 4, 3), Config(16, 64, 64, 1, 4, 3)
    times = ((default, 100.0), (fast, us))
    trials = tuple(TrialRecord(each, (time,), time, 0, True) for each, time in times)

    def results() -> list[Result]:
        return [
            Result(
                engine,
                study.problem,
                study.key.device,
                trials,
                (Incumbent(engine.name, Origin.DEFAULT, default),),
            )
            for engine in study.engines
        ]

    study.results = results  # type: ignore[attr-defined]
    return study


def test_what_is_said_of_an_estimated_study_is_what_its_results_say(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert _ended(caplog, _estimated(99.0)) == (
        "batch size 64: 100.0 µs for SGLang (kept); 100.0 µs for vLLM (kept), 20 estimates"
    )
    assert _ended(caplog, _estimated(50.0)) == (
        "batch size 64: 50.0 µs for SGLang, 2.00× its default; "
        "50.0 µs for vLLM, 2.00× its default, 20 estimates"
    )
    assert "1.37×" in _ended(caplog, _Study(64))
    assert [column.header for column in study_table([_estimated(99.0)]).columns][2:] == [  # type: ignore[list-item]
        "lowest µs",
        "default µs",
    ]


def test_a_study_of_one_engine_is_called_so(caplog: pytest.LogCaptureFixture) -> None:
    study = _Study(64)
    assert _ended(caplog, study).startswith("batch size 64: best")
    study.engines = study.engines[1:]
    assert _ended(caplog, study).startswith("batch size 64 of vLLM: best")


def test_a_minute_without_a_line_is_followed_by_one(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    display = PlainDisplay(lambda: now[0])
    studies = [_Study(size) for size in (1, 64)]
    with caplog.at_level("INFO"):
        display.tick()
        display.started(_start(studies, DEVICE))
        begun = len(caplog.messages)
        for now[0] in (59.0, 61.0, 62.0, 100.0):
            display.tick()
        assert caplog.messages[begun:] == ["40 of about 120 measurements so far"]
        display.study_ended(studies[0])  # type: ignore[arg-type]
        for now[0] in (159.0, 161.0):
            display.tick()
    assert caplog.messages[begun + 2 :] == ["40 of about 120 measurements so far"]
