"""A selector names a measurer: cuda, cuda:INDEX, estimate:GPU or replay:FILE.

Importing this file imports neither torch nor triton; opening a measurer imports what it needs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.backends.detect import has_gpu
from autotune.errors import DeviceError
from autotune.nearest import did_you_mean
from autotune.routing.trace import make_known
from autotune.routing.trace_files import read_trace

if TYPE_CHECKING:
    from autotune.backends.protocol import Measurer, MeasurerOptions

DEFAULT_ESTIMATE = "estimate:NVIDIA_H200"
_ALLOWED = (
    "allowed are cuda, cuda:INDEX, estimate:GPU (as estimate:NVIDIA_H200) and replay:FILE.npz, "
    "where replay:FILE.npz@15ms takes as long for each measurement"
)


def open_measurer(selector: str, options: MeasurerOptions) -> Measurer:
    """Open the measurer that ``selector`` names.

    Raises DeviceError for an unknown selector, GPU or file, and where there is no such GPU;
    UsageError where the recording cannot be read.
    """
    if options.topk_ids_dir is not None:
        make_known(read_trace(options.topk_ids_dir))
    kind, argument = _parsed(selector)
    if kind == "estimate":
        from autotune.backends.estimate.measurer import EstimateMeasurer
        from autotune.backends.hardware import find_spec

        return EstimateMeasurer(find_spec(argument), cache_dir=options.cache_dir, seed=options.seed)
    if kind == "replay":
        from autotune.backends.replay.measurer import ReplayMeasurer

        path, seconds = _pace(argument)
        return ReplayMeasurer(path, seed=options.seed, seconds=seconds)
    from autotune.backends.gpu.measurer import open_gpu

    return open_gpu(int(argument or 0), options)


def check_selector(selector: str) -> None:
    """Check what needs no device: the spelling, an estimate's GPU, a replay's file. Raises
    DeviceError as ``open_measurer`` does."""
    from autotune.backends.hardware import find_spec
    from autotune.backends.replay.measurer import ReplayMeasurer

    kind, argument = _parsed(selector)
    if kind == "estimate":
        find_spec(argument)
    elif kind == "replay":
        path, _ = _pace(argument)
        ReplayMeasurer(path)


def auto_selector() -> str:
    """Return "cuda" if there is a GPU, else an estimate; create no CUDA context."""
    return "cuda" if has_gpu() else DEFAULT_ESTIMATE


def _parsed(selector: str) -> tuple[str, str]:
    """Return kind and argument. Raises DeviceError for text that is no selector."""
    kind, _, argument = selector.partition(":")
    if (kind in ("estimate", "replay") and argument) or re.fullmatch(r"cuda(:\d+)?", selector):
        return kind, argument
    meant = did_you_mean(kind, ("auto", "cuda", "estimate", "replay"))
    raise DeviceError(f"no device {selector!r}: {_ALLOWED}{meant}")


def _pace(argument: str) -> tuple[Path, float]:
    """Return a replay's file, and the seconds that each measurement takes."""
    slow = re.fullmatch(r"(.+)@(\d+(?:\.\d+)?)ms", argument)
    return (Path(argument), 0.0) if slow is None else (Path(slow[1]), float(slow[2]) / 1e3)
