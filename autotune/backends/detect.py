"""Finds GPUs without torch and without a CUDA context.

``torch.cuda.is_available()`` takes seconds to import, and a process that has asked it cannot
fork safely; a context takes 0.3 to 0.5 GB of device memory. The management library (NVML)
needs neither, and fails cleanly where there is no driver. It does not look at
CUDA_VISIBLE_DEVICES: see ``visible_gpus``. Clocks and processes are asked of ``nvidia-smi``.
"""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_NVML = "libnvidia-ml.so.1"
_KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")
"""AMD's compute driver lists CPUs here too, with GPU id 0."""
_TIMEOUT_S = 10.0
"""Seconds for an answer of ``nvidia-smi``: a sick driver hangs it."""
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


def has_gpu() -> bool:
    """True where a driver reports at least one NVIDIA or AMD compute GPU."""
    return nvidia_gpus() > 0 or amd_gpus(_KFD_NODES) > 0


def visible_gpus(mask: str | None) -> int:
    """Return how many GPUs PyTorch would number, from 0, under a driver's mask: like
    CUDA_VISIBLE_DEVICES, indices or UUIDs of which those after the first invalid one are hidden.
    None: no mask."""
    count = nvidia_gpus() or amd_gpus(_KFD_NODES)
    if mask is None:
        return count
    words = [word.strip() for word in mask.split(",")]
    names = itertools.takewhile(lambda word: _is_gpu(word, count), words)
    return min(len(list(names)), count)


def _is_gpu(word: str, count: int) -> bool:
    return int(word) < count if word.isdigit() else word.startswith(("GPU-", "MIG-"))


def nvidia_gpus() -> int:
    """Return how many GPUs NVML sees; 0 where there is no driver."""
    try:
        nvml = ctypes.CDLL(_NVML)
    except OSError:
        return 0
    if nvml.nvmlInit_v2() != 0:
        return 0
    try:
        count = ctypes.c_uint(0)
        status = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        return count.value if status == 0 else 0
    finally:
        nvml.nvmlShutdown()


def amd_gpus(nodes: Path) -> int:
    """Return how many GPUs AMD's driver lists under ``nodes``."""
    ids = (path.read_text(encoding="ascii").strip() for path in nodes.glob("*/gpu_id"))
    return sum(1 for gpu_id in ids if gpu_id not in ("", "0"))


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
    """Return every GPU that ``nvidia-smi`` has a whole line of; None where there is no such
    program."""
    text = _ask(f"--query-gpu={','.join(_FIELDS)}")
    if text is None or isinstance(text, SmiFault):
        return text
    cells = ([cell.strip() for cell in line.split(",")] for line in text.splitlines())
    rows = (row for row in cells if len(row) == len(_FIELDS))
    return [
        Gpu(int(index), name, driver, clock, most, _slowed_words(reasons))
        for index, name, driver, clock, most, reasons in rows
        if index.isdigit()
    ]


def processes() -> list[str]:
    """Return "PID NAME" of every process that computes on a GPU; empty where nobody can say."""
    text = _ask("--query-compute-apps=pid,process_name")
    lines = text.splitlines() if isinstance(text, str) else ()
    return [" ".join(cell.strip() for cell in line.split(",")) for line in lines if line]


def _slowed_words(reasons: str) -> tuple[str, ...]:
    """Return the reasons in a hexadecimal mask; empty where it is not one ("[N/A]")."""
    try:
        mask = int(reasons, 16)
    except ValueError:
        return ()
    return tuple(words for bit, words in _SLOWED.items() if mask & bit)


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
