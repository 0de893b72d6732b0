"""Facts about this machine that measurements depend on: versions, driver, clocks.

Nothing is imported to learn its version.
"""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

import autotune
from autotune.backends.nvidia import gpus
from autotune.spec.device import Device, DeviceKind


@cache
def triton_version() -> str:
    """Return the installed Triton's version, as "3.9.0"; "none" where it is not installed."""
    return package_version("triton").partition("+")[0]


def package_version(name: str) -> str:
    """Return the version with its local part, as "2.11.0+cu129"; "none" where it is not
    installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def host_facts(device: Device) -> dict[str, str]:
    """Return name → value, for people and for a study's attribute. Nothing identifies a host."""
    found = {"Autotune": autotune.__version__, "Python": platform.python_version()}
    found |= {name.capitalize(): package_version(name) for name in ("torch", "optuna")}
    return found | (_gpu_facts(device.name) if device.kind is DeviceKind.CUDA else {})


def _gpu_facts(name: str) -> dict[str, str]:
    """Return driver and clocks of the first GPU of this name."""
    known = gpus()
    mine = [gpu for gpu in known if gpu.name == name] if isinstance(known, list) else []
    if not mine:
        return {}
    gpu = mine[0]
    if gpu.sm_mhz is None:
        return {"Driver": gpu.driver}
    clocks = f"{gpu.sm_mhz} MHz before the run, at most {gpu.max_sm_mhz} MHz"
    slowed = f"; slowed by {', '.join(gpu.slowed)}" if gpu.slowed else ""
    return {"Driver": gpu.driver, "SM clock": clocks + slowed}
