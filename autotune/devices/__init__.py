"""Where measurements come from: a GPU, a model of a GPU, or a recorded landscape.

Importing this package imports neither torch nor triton; opening a measurer imports what it
needs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.devices.detect import has_gpu
from autotune.devices.options import MeasurerOptions
from autotune.errors import DeviceError
from autotune.kernels.recording import make_known
from autotune.kernels.topk_files import read_recording

if TYPE_CHECKING:
    from autotune.devices.measurer import Measurer

__all__ = ["DEFAULT_ESTIMATE", "MeasurerOptions", "auto_selector", "open_measurer"]

DEFAULT_ESTIMATE = "estimate:NVIDIA_H200"
_ALLOWED = (
    "allowed are cuda, cuda:INDEX, estimate:GPU (as estimate:NVIDIA_H200) and replay:FILE.npz, "
    "where replay:FILE.npz@15ms takes as long for each measurement"
)


def open_measurer(selector: str, options: MeasurerOptions) -> Measurer:
    """The measurer that ``selector`` names; see ``Measurer`` for what it promises.

    Raises DeviceError for an unknown selector, GPU or file, and where there is no such GPU;
    UsageError where the recording cannot be read.
    """
    if options.topk_ids_dir is not None:
        make_known(read_recording(options.topk_ids_dir))
    kind, _, argument = selector.partition(":")
    if kind == "estimate" and argument:
        return _open_estimate(argument, options)
    if kind == "replay" and argument:
        return _open_replay(argument, options)
    if re.fullmatch(r"cuda(:\d+)?", selector):
        return _open_cuda(int(argument or 0), options)
    raise DeviceError(f"no device {selector!r}: {_ALLOWED}")


def auto_selector() -> str:
    """ "cuda" where a GPU is there, else an estimate; creates no CUDA context."""
    return "cuda" if has_gpu() else DEFAULT_ESTIMATE


def _open_estimate(gpu: str, options: MeasurerOptions) -> Measurer:
    from autotune.devices.estimate import EstimateMeasurer
    from autotune.devices.specs import find_spec

    return EstimateMeasurer(find_spec(gpu), cache_dir=options.cache_dir, seed=options.seed)


def _open_replay(argument: str, options: MeasurerOptions) -> Measurer:
    from autotune.devices.replay import ReplayMeasurer

    slow = re.fullmatch(r"(.+)@(\d+(?:\.\d+)?)ms", argument)
    if slow is None:
        return ReplayMeasurer(Path(argument), seed=options.seed)
    return ReplayMeasurer(Path(slow[1]), seed=options.seed, seconds=float(slow[2]) / 1e3)


def _open_cuda(index: int, options: MeasurerOptions) -> Measurer:
    if options.provider != "autotune":
        return _open_engine_kernel(index, options)
    from autotune.devices.cuda import CudaMeasurer

    return CudaMeasurer(index, options)


def _open_engine_kernel(index: int, options: MeasurerOptions) -> Measurer:
    from autotune.devices.engine_kernel import EngineMeasurer
    from autotune.devices.provider import ProviderTimers

    timers = ProviderTimers(index, options)
    assert timers.device is not None
    return EngineMeasurer(timers.timer(options.provider), timers.device, options)
