"""Presses Ctrl-C at many moments of a run on a terminal: is it heard at once, is the end soon?

    python benchmarks/survival/interrupt.py [--at 0.3 0.6 1 2 4 8 12] [--signal SIGINT] [--busy 2]

Each run has a pseudo-terminal, and ``--busy`` processes that do nothing but use a core. Prints for
each moment after how many seconds the screen said that it was heard, after how many the process had
ended, and its exit code; then the last line on the screen. Exits with 1 where there was a
traceback, nothing was said, another code than 130 came back, or the end took over 5 s.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "benchmarks/landscapes/qwen3-30b-a3b_tp1_bf16.npz"
HEARD = re.compile(rb"finishing what runs|interrupted")
_LONGEST_S = 5.0


def press(at_s: float, number: signal.Signals, folder: Path) -> bool:
    """Run, press after a while, print what happened; return whether it was well."""
    words = [sys.executable, "-m", "autotune", "run", "--model", "Qwen/Qwen3-30B-A3B"]
    words += ["--device", f"replay:{RECORDING}@40ms", "--batch-size", "1", "64", "--trials", "900"]
    parent, child = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    running = subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
    )
    os.close(child)
    os.set_blocking(parent, False)
    seen, pressed, heard, began = b"", None, None, time.monotonic()
    while running.poll() is None or pressed is None:
        now = time.monotonic()
        if pressed is None and now - began >= at_s:
            pressed, before = now, len(seen)
            running.send_signal(number)
        try:
            seen += os.read(parent, 65536)
        except (BlockingIOError, OSError):
            time.sleep(0.01)
        if pressed is not None and heard is None and HEARD.search(seen[before:]):
            heard = now - pressed
        if now - began > at_s + 60:
            running.kill()
    took = time.monotonic() - pressed
    try:
        while more := os.read(parent, 65536):
            seen += more
    except OSError:
        pass
    os.close(parent)
    if heard is None and HEARD.search(seen[before:]):
        heard = took
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen[before:]).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    code = running.returncode
    told = "never" if heard is None else f"{heard:.1f} s"
    print(f"{number.name} at {at_s:g} s: heard {told}, ended {took:.1f} s, code {code}")
    print(f"    {lines[-1][:110] if lines else 'nothing was said'}", flush=True)
    if "Traceback" in text:
        print("    A TRACEBACK:", *lines[-5:], sep="\n    ")
    is_well = heard is not None and running.returncode == 130 and took <= _LONGEST_S
    return is_well and "Traceback" not in text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    moments = [0.2, 0.5, 1, 1.5, 2, 3, 5, 8, 12, 16]
    parser.add_argument("--at", type=float, nargs="+", default=moments, metavar="S")
    parser.add_argument("--signal", default="SIGINT", choices=("SIGINT", "SIGTERM", "SIGHUP"))
    parser.add_argument("--busy", type=int, default=0)
    flags = parser.parse_args()
    burn = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(burn) for _ in range(flags.busy)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            number = signal.Signals[flags.signal]
            well = [press(at_s, number, Path(folder)) for at_s in flags.at]
    finally:
        for burner in burners:
            burner.kill()
    print(f"{sum(well)} of {len(well)} well")
    return int(not all(well))


if __name__ == "__main__":
    sys.exit(main())
