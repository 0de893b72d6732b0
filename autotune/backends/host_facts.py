"""What this machine brings to a measurement: versions, driver, clocks."""

from __future__ import annotations

import importlib.metadata
import platform

import autotune
from autotune.backends.gpu.smi import gpus
from autotune.spec.device import Device, DeviceKind


def facts(device: Device) -> dict[str, str]:
    """Name → value, for people and for a study's attribute. Nothing that identifies a host."""
    found = {"Autotune": autotune.__version__, "Python": platform.python_version()}
    found |= {name.capitalize(): _version(name) for name in ("torch", "optuna")}
    return found | (_gpu_facts(device.name) if device.kind is DeviceKind.CUDA else {})


def _gpu_facts(name: str) -> dict[str, str]:
    """Of the first GPU of this name."""
    known = gpus()
    mine = [gpu for gpu in known if gpu.name == name] if isinstance(known, list) else []
    if not mine:
        return {}
    gpu = mine[0]
    clocks = f"{gpu.sm_mhz} MHz before the run, at most {gpu.max_sm_mhz} MHz"
    slowed = f"; slowed by {', '.join(gpu.slowed)}" if gpu.slowed else ""
    return {"Driver": gpu.driver, "SM clock": clocks + slowed}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
