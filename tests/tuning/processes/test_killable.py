"""A killable process: what its link carries, and how its end is told."""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from alive import is_alive

from autotune.tuning.processes.killable import KillableProcess, exit_words


def _answer(link: Connection, *words: str) -> None:
    """Sends its words, then serves numbers: sleeps so many seconds, ends with code 7 at none."""
    link.send(words)
    while (seconds := link.recv()) is not None:
        time.sleep(seconds)
    sys.exit(7)


def _start_another(link: Connection) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    link.send(other.pid)
    time.sleep(3600)


def _start_one_of_us(link: Connection) -> None:
    process: KillableProcess[None, tuple[str, ...]] = KillableProcess(_answer, "inner")
    link.send((process.receive(), process.pid))
    time.sleep(3600)


def _ends(pid: int) -> bool:
    until = time.monotonic() + 60
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_alive(pid)


def _end_slowly(link: Connection) -> None:
    atexit.register(time.sleep, 60)
    sys.stdout.write("the last word")
    link.send("registered")


def _print_and_die(link: Connection) -> None:
    os.write(1, b"a warning\n")
    subprocess.run(["sh", "-c", "echo from a program >&2"], check=True)
    os.write(2, b"\n".join(b"line %d" % number for number in range(9)) + b"\n")
    link.recv()
    os.abort()


def _quiet() -> KillableProcess[None, None]:
    process: KillableProcess[None, None] = KillableProcess(_print_and_die, is_quiet=True)
    process.send(None)
    with pytest.raises(EOFError):
        process.receive()
    process.kill(60)
    return process


def test_what_a_quiet_one_prints_is_kept_back_but_for_its_last_words(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    process = _quiet()
    assert process.last_words.splitlines() == [f"line {number}" for number in range(4, 9)]
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_under_verbose_it_goes_to_stderr(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "autotune")
    process = _quiet()
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("a warning\nfrom a program\nline 0\n")
    assert process.last_words == ""


def test_its_exit_code_is_its_own_or_none() -> None:
    by_itself: KillableProcess[float | None, tuple[str, ...]] = KillableProcess(_answer, "a", "b")
    assert by_itself.receive() == ("a", "b")
    assert by_itself.resident_bytes > 2**20
    by_itself.send(None)
    assert by_itself.kill(60) == 7
    hanging: KillableProcess[float | None, tuple[str, ...]] = KillableProcess(_answer)
    hanging.receive()
    hanging.send(3600)
    assert hanging.kill(0.1) is None
    assert not is_alive(hanging.pid)


def test_one_that_somebody_kills_is_gone_and_says_by_what() -> None:
    process: KillableProcess[None, tuple[str, ...]] = KillableProcess(_answer)
    process.receive()
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EOFError):
        process.receive()
    process.send(None)  # nobody hears it
    assert process.kill(60) == -signal.SIGKILL


def test_signals_of_the_terminal_are_for_the_parent() -> None:
    process: KillableProcess[float | None, tuple[str, ...]] = KillableProcess(_answer)
    process.receive()
    os.kill(process.pid, signal.SIGINT)
    process.send(None)
    assert process.kill(60) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_signals_of_the_terminal_are_held_back_while_it_imports_its_main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted_import.py").write_text(
        "import os, signal\n"
        f"if os.getpid() != {os.getpid()}:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "def main(link):\n"
        "    link.send(signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    main = importlib.import_module("interrupted_import").main
    process: KillableProcess[None, set[int]] = KillableProcess(main)
    assert process.receive() == set()  # it lets them through to what it starts
    process.kill(60)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_the_group_that_it_leads_is_killed_with_it() -> None:
    process: KillableProcess[None, int] = KillableProcess(_start_another, leads_group=True)
    other = process.receive()
    assert is_alive(other)
    process.kill()
    assert _ends(other)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_processes_that_it_has_started_die_with_it() -> None:
    process: KillableProcess[None, tuple[object, int]] = KillableProcess(
        _start_one_of_us, has_children=True
    )
    words, inner = process.receive()
    assert words == ("inner",)
    process.kill()
    assert _ends(inner)


def test_words_of_an_end() -> None:
    assert [exit_words(code) for code in (0, -9, None)] == [
        "exit code 0",
        "signal SIGKILL",
        "it had to be killed",
    ]


def test_one_that_has_done_its_work_ends_at_once() -> None:
    process: KillableProcess[None, str] = KillableProcess(_end_slowly, is_quiet=True)
    assert process.receive() == "registered"
    assert process.kill(20.0) == 0
    assert process.last_words == "the last word"


@pytest.mark.parametrize(("settings", "runs"), [("", 1), ("imports_script = True", 2)])
def test_the_script_that_starts_one_runs_once_unless_it_wants_to_be_imported(
    tmp_path: Path, settings: str, runs: int
) -> None:
    (tmp_path / "answering.py").write_text("def main(link):\n    link.send('an answer')\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from answering import main\n"
        "from autotune.tuning.processes.killable import KillableProcess\n"
        "os.write(1, b'runs\\n')\n"
        f"{f'KillableProcess.{settings}' if settings else ''}\n"
        f"if {not settings} or __name__ == '__main__':\n"
        "    process = KillableProcess(main)\n"
        "    os.write(1, process.receive().encode())\n"
        "    process.kill()\n"
    )
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (said.stdout, said.stderr) == ("runs\n" * runs + "an answer", "")
