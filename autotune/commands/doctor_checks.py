"""Checks of ``doctor`` that look at the machine: GPUs, folders, disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autotune.backends.gpu.smi import Gpu, SmiFault, gpus, processes

_MIN_FREE_BYTES = 2 << 30
"""A compile cache of a whole run takes a few hundred MB; a full disk stops everything."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line: ``state`` is ok, warning or error."""

    what: str
    state: str
    detail: str


def gpu_checks(*, needed: bool) -> Iterator[Check]:
    """Driver, clocks, other processes. ``needed``: a run would measure on a GPU."""
    found = gpus()
    if found is None:
        state = "warning" if needed else "ok"
        yield Check("NVIDIA driver", state, "no nvidia-smi: nothing is known of clocks and others")
    elif isinstance(found, SmiFault):
        yield Check("NVIDIA driver", "error" if needed else "warning", found.reason)
    else:
        for gpu in found:
            yield from _gpu(gpu)
        yield _others(processes())


def _gpu(gpu: Gpu) -> Iterator[Check]:
    what = f"GPU {gpu.index}"
    yield Check(what, "ok", f"{gpu.name}, driver {gpu.driver}")
    clocks = f"SM clock {gpu.sm_mhz} of at most {gpu.max_sm_mhz} MHz"
    if gpu.slowed:
        yield Check(f"{what} clocks", "warning", f"{clocks}; slowed by {', '.join(gpu.slowed)}")
    else:
        yield Check(f"{what} clocks", "ok", clocks)


def _others(found: list[str]) -> Check:
    if not found:
        return Check("GPU in use", "ok", "no other process computes on a GPU")
    return Check("GPU in use", "warning", f"times will be disturbed by {'; '.join(found)}")


def folder_check(what: str, folder: Path) -> Check:
    """May it be written, or made, and is there room?"""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Check(what, "error", f"{folder} cannot be written")
    free = shutil.disk_usage(existing).free
    state = "warning" if free < _MIN_FREE_BYTES else "ok"
    return Check(what, state, f"{folder}, {free / 2**30:.1f} GiB free")
