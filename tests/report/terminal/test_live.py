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
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

import autotune
from autotune.report.terminal.live import LiveDisplay
from autotune.spec.config import Config

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|38|9[0-7])[;\d]*m")


class _Unit:
    """As much of ``tune.plan.TuningStudy`` as is shown."""

    def __init__(self, tokens: int, measured: int) -> None:
        from autotune.spec.problem import Problem

        problem = Problem(128, 8, 2048, 768, tokens)
        self.key = type("Key", (), {"problem": problem})()
        self.entries = [object()] * measured
        self.target, self.usual_end, self.in_flight, self.ended = 60, 60, 1, ""
        self.best_us, self.default_us = 331.3, 453.0


@pytest.mark.parametrize("width", [80, 200])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    console = Console(width=width, force_terminal=True, file=io.StringIO(), color_system=None)
    display = LiveDisplay(console)
    studies = [_Unit(size, 20) for size in (1, 64, 4096)]
    display._studies = studies  # type: ignore[assignment]
    display._task = display._bar.add_task("trials", total=None, left="")
    for worker, study in enumerate(studies * 2):
        display.trial_asked(study, worker, Config(128, 256, 128, 64, 8, 5))  # type: ignore[arg-type]
    with console.capture() as capture:
        console.print(display._drawn())
    lines = [_ESCAPE.sub("", line) for line in capture.get().splitlines()]
    assert max(len(line) for line in lines) <= width
    text = "\n".join(lines)
    for word in ("4096", "331.3", "1.37×", "60/180", "worker 0: 128x256x128", "and 2 more"):
        assert word in text


@pytest.mark.parametrize(("height", "first"), [(24, 1), (12, 11), (6, 13)])
def test_studies_in_turn_have_a_row_each_or_the_last_ones_do(height: int, first: int) -> None:
    console = Console(width=80, height=height, force_terminal=True, file=io.StringIO())
    display = LiveDisplay(console)
    studies = [_Unit(size, 20) for size in range(1, 19)]
    display._studies = studies  # type: ignore[assignment]
    display._task = display._bar.add_task("trials", total=None, left="")
    for study in studies:
        display.trial_asked(study, 0, Config(128, 256, 128, 64, 8, 5))  # type: ignore[arg-type]
    with console.capture() as capture:
        console.print(display._drawn())
    lines = [_ESCAPE.sub("", line) for line in capture.get().splitlines()]
    rows = [int(line.split()[0]) for line in lines if "1.37×" in line]
    assert rows == list(range(first, 19))
    assert len(lines) < max(height, 10)


def _in_a_terminal(width: int, cwd: Path, *words: str, **more: str) -> str:
    """What a run writes to a pseudo-terminal on stderr; stdout goes elsewhere."""
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
    assert "ok" in _ESCAPE.sub("", bare)
    assert _in_a_terminal(80, tmp_path, "--quiet", "--storage", "other.db") == ""
