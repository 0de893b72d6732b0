"""Asks ``nvidia-smi`` about GPUs, with a time limit: a sick driver hangs it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

_TIMEOUT_S = 10.0
_FIELDS = (
    "index",
    "name",
    "driver_version",
    "clocks.sm",
    "clocks.max.sm",
    "clocks_throttle_reasons.active",
)
_SLOWED = {
    0x2: "application clocks are set",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal limit (software)",
    0x40: "thermal limit (hardware)",
    0x80: "power brake",
}
"""Bits of nvmlClocksEventReasons that mean a lower clock than the GPU could have."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver reports it."""

    index: int
    name: str
    driver: str
    sm_mhz: str
    max_sm_mhz: str
    slowed: tuple[str, ...]
    """Why its clocks are lower than they could be, in words; idling is no reason."""


@dataclass(frozen=True, slots=True)
class SmiFault:
    """There is an ``nvidia-smi``, but it gave no answer."""

    reason: str


def gpus() -> list[Gpu] | SmiFault | None:
    """Return every GPU; None where there is no ``nvidia-smi``."""
    text = _ask(f"--query-gpu={','.join(_FIELDS)}")
    if text is None or isinstance(text, SmiFault):
        return text
    return parse_gpus(text)


def processes() -> list[str]:
    """Return "PID NAME" of every process that computes on a GPU; empty where nobody can say."""
    text = _ask("--query-compute-apps=pid,process_name")
    return [] if not isinstance(text, str) else [_words(line) for line in text.splitlines() if line]


def parse_gpus(text: str) -> list[Gpu]:
    """Read a line of comma-separated fields for each GPU; lines of another form are left out."""
    rows = ([cell.strip() for cell in line.split(",")] for line in text.splitlines())
    return [_gpu(row) for row in rows if len(row) == len(_FIELDS) and row[0].isdigit()]


def _gpu(row: Sequence[str]) -> Gpu:
    index, name, driver, clock, most, reasons = row
    return Gpu(int(index), name, driver, clock, most, slowed_words(reasons))


def slowed_words(reasons: str) -> tuple[str, ...]:
    """Return the reasons in a hexadecimal mask; empty where it is not one ("[N/A]")."""
    try:
        mask = int(reasons, 16)
    except ValueError:
        return ()
    return tuple(words for bit, words in _SLOWED.items() if mask & bit)


def _words(line: str) -> str:
    return " ".join(cell.strip() for cell in line.split(","))


def _ask(query: str) -> str | SmiFault | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return SmiFault(f"nvidia-smi failed: {error}")
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        return SmiFault(said[0] if said else f"nvidia-smi ended with code {done.returncode}")
    return done.stdout
