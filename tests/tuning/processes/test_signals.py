"""Leaving well: what signals do, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import autotune

_HEAD = """
import os, signal, sys
from autotune.tuning.processes.signals import Interrupt, write_line
def press(number=signal.SIGINT):
    os.kill(os.getpid(), number)
"""


def _python(code: str, *prefix: str) -> subprocess.CompletedProcess[str]:
    root = Path(autotune.__file__).parents[1]
    words = [*prefix, sys.executable, "-c", _HEAD + code]
    return subprocess.run(words, cwd=root, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_first_signal_is_acknowledged_and_work_goes_on(name: str) -> None:
    done = _python(f"""
with Interrupt() as interrupt:
    press(signal.{name})
    write_line(f"goes on: {{interrupt.requested}}")
""")
    first, second = done.stderr.splitlines()
    assert first.startswith("finishing what runs")
    assert second == "goes on: True"
    assert done.returncode == 0


def test_the_second_signal_clears_the_screen_and_says_that_it_stops() -> None:
    done = _python("""
with Interrupt(lambda words: write_line("said"), lambda: write_line("cleared")):
    press()
    press(signal.SIGTERM)
    write_line("goes on")
""")
    assert done.returncode == 130
    assert done.stderr.splitlines()[:2] == ["said", "cleared"]
    assert done.stderr.splitlines()[2].startswith("stopped at once")


def test_a_display_that_does_not_end_is_left_by_a_third_signal() -> None:
    done = _python("""
with Interrupt(clear=press):
    press()
    press()
""")
    assert done.returncode == 130
    assert "stopped at once" in done.stderr


def test_a_hangup_is_not_heard_under_nohup() -> None:
    done = _python("""
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with Interrupt() as interrupt:
    press(signal.SIGHUP)
    write_line(str(interrupt.requested))
""")
    assert done.stderr == "False\n"


def test_in_a_process_of_others_the_second_one_raises_and_other_signals_are_theirs() -> None:
    done = _python("""
theirs = signal.signal(signal.SIGTERM, lambda *_: write_line("theirs"))
try:
    with Interrupt(lambda words: write_line("said"), lambda: write_line("cleared"), is_ours=False):
        press(signal.SIGTERM)
        press()
        press()
        write_line("goes on")
except KeyboardInterrupt:
    write_line("raised")
""")
    assert done.stderr.split() == ["theirs", "said", "cleared", "raised"]
    assert done.returncode == 0


def test_outside_the_main_thread_signals_go_where_they_went() -> None:
    done = _python("""
import threading
def work():
    with Interrupt() as interrupt:
        write_line(str(interrupt.requested))
signal.signal(signal.SIGINT, lambda *_: write_line("theirs"))
thread = threading.Thread(target=work)
thread.start()
thread.join()
press()
""")
    assert (done.returncode, done.stderr.split()) == (0, ["False", "theirs"])


def test_where_the_terminal_is_gone_nothing_that_is_printed_fails() -> None:
    done = _python("""
import pty
parent, child = pty.openpty()
for descriptor in (1, 2):
    os.dup2(child, descriptor)
os.close(child)
os.close(parent)  # the window is closed
with Interrupt() as interrupt:
    press(signal.SIGHUP)
    print("results", flush=True)
os._exit(7 if interrupt.requested else 1)
""")
    assert done.returncode == 7


def test_an_interruption_while_modules_are_imported_is_one_line() -> None:
    done = _python("""
import importlib.abc, time
class Presses(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "autotune.commands.registry":
            press()
sys.meta_path.insert(0, Presses())
sys.argv = ["autotune", "models"]
from autotune.__main__ import main
sys.exit(main())
""")
    assert (done.returncode, done.stderr) == (130, "autotune: interrupted\n")
    assert done.stdout == ""


def test_a_process_ignores_what_goes_to_the_whole_terminal() -> None:
    done = _python("""
from autotune.tuning.processes.killable import KillableProcess
def main(link):
    press(signal.SIGHUP)
    press()
    link.send("lives")
process = KillableProcess(main, is_fork=True)
write_line(process.receive())
process.kill(5.0)
""")
    assert done.stderr == "lives\n", done.stderr


def test_ctrl_c_in_a_finalizer_ends_the_process_in_a_line() -> None:
    done = _python("""
from autotune.tuning.processes.signals import imports_are_done, leave_at_once
class Held:
    def __del__(self):
        press()
leave_at_once()
imports_are_done()
Held()
write_line("it went on")
""")
    assert (done.returncode, done.stderr) == (130, "autotune: interrupted\n")
