"""How long a second look takes: ``run`` again, ``status``, ``best`` and ``export`` at 18 studies of
which nothing is left, on an estimated H200. Medians of seconds, CPU seconds of all their processes,
and seconds to the first line on the screen.

    python benchmarks/commands/second_look.py          # after a run of a minute, 20 seconds
    python benchmarks/commands/second_look.py 9        # so many times each, in turn
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

RUN = ("run", "--model", "Qwen/Qwen3-30B-A3B", "--device", "estimate:NVIDIA_H200", "--trials", "10")
COMMANDS = {"run again": RUN, "status": ("status",), "best": ("best",), "export": ("export",)}


def seconds_of(words: tuple[str, ...], folder: Path) -> tuple[float, float, float]:
    """Return seconds, CPU seconds and seconds to the first output of one command."""
    cpu, began = _cpu_seconds(), time.monotonic()
    process = subprocess.Popen(
        (sys.executable, "-m", "autotune", *words),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 1)
    first = time.monotonic() - began
    process.communicate()
    if process.returncode:
        raise SystemExit(f"autotune {' '.join(words)} ends with {process.returncode}")
    return time.monotonic() - began, _cpu_seconds() - cpu, first


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(times: int = 5) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        whole, cpu, first = seconds_of(RUN, folder)
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in COMMANDS}
        for _ in range(times):
            for name, words in COMMANDS.items():
                found[name].append(seconds_of(words, folder))
    print(f"median of {times}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| command | seconds | CPU seconds | first line after s |\n|---|---|---|---|")
    print(f"| the first run | {whole:.2f} | {cpu:.2f} | {first:.2f} |")
    for name, each in found.items():
        print(
            f"| {name} | " + " | ".join(f"{median(c):.2f}" for c in zip(*each, strict=True)) + " |"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
