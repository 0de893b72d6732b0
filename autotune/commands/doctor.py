"""``doctor``: what this machine has, and what would stop or spoil a run."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from autotune.backends.detect import Gpu, SmiFault, gpus, processes
from autotune.backends.host_facts import package_version
from autotune.backends.protocol import Measurer, MeasurerOptions
from autotune.backends.selectors import open_measurer
from autotune.commands import doctor_log
from autotune.commands.flags import (
    add_device_flags,
    add_engine_flag,
    cache_dir,
    device_selector,
    engine_names,
)
from autotune.commands.model_flags import add_model_flags, model_settings
from autotune.commands.output import Output
from autotune.commands.storage_flag import add_storage_flag
from autotune.engines import ENGINES, Engine
from autotune.errors import MissingStorageError, StorageError
from autotune.exit_codes import ExitCode
from autotune.report.terminal.opening_rows import file_rows, launch_rows, launch_words
from autotune.report.terminal.serving_rows import serving_rows
from autotune.report.terminal.tables import rows_table
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.storage.open import close_storage, open_storage
from autotune.studies.storage.url import public_url
from autotune.tuning.jobs import jobs_of, model_shape
from autotune.tuning.processes.child import Child

_MIN_FREE_BYTES = 2 << 30
"""A compile cache of a whole run takes a few hundred MB; a full disk stops everything."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the answer: ``state`` is ok, warning or error; absent: not there, nor needed."""

    what: str
    state: str
    detail: str


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what a run would use."""
    add_model_flags(parser)
    add_device_flags(parser)
    add_engine_flag(parser, "whose files are looked up with --model (both)")
    add_storage_flag(parser)
    parser.add_argument(
        "--server-log",
        metavar="FILE",
        help="instead: which tuned files a vLLM or SGLang server opened, which it missed and what "
        "to run for those, from its log (-: standard input)",
    )


def run(flags: argparse.Namespace, output: Output) -> int:
    """Check the machine. FAILED where something would stop a run: see ``docs/errors.md``."""
    if flags.server_log:
        return doctor_log.run(flags, output)
    device = device_selector(flags)
    rows = [asdict(check) for check in _checks(flags, device)]
    if flags.model or flags.shape:
        opens = _opens(flags, device)
        lines = (row["words"] for row in (*opens["lookups"], *opens["serving"]))
        launches = rows_table(list(map(launch_words, opens["launches"])))
        output.result({"checks": rows, **opens}, rows_table(rows), "\n".join(lines), launches)
    else:
        output.result({"checks": rows}, rows_table(rows))
    return ExitCode.FAILED if any(row["state"] == "error" for row in rows) else ExitCode.DONE


def _checks(flags: argparse.Namespace, device: str) -> Iterator[Check]:
    yield Check("python", "ok", platform.python_version())
    yield from (_package(name) for name in ("torch", "triton", "optuna", "optuna-dashboard"))
    yield Check("device", "ok", f"--device {flags.device} is {device}")
    yield from gpu_checks(needed=device.startswith("cuda"))
    yield folder_check("cache folder", cache_dir(flags))
    triton_cache = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    yield folder_check("Triton's cache", triton_cache)
    yield _storage(flags.storage)
    for engine in ENGINES.values():
        yield _engine(engine)
        yield from modes_set(engine, os.environ)


def _opens(flags: argparse.Namespace, selector: str) -> dict[str, Any]:
    """Return what engines open for the model on this device as the environment is, and what they
    launch at each batch size."""
    settings = model_settings(flags)
    shape = model_shape(settings)
    options = MeasurerOptions(cache_dir=cache_dir(flags))
    with closing(Child(partial(open_measurer, selector, options))) as child:
        device = child.call(Measurer.device)
    jobs = jobs_of(shape, settings, engine_names(flags))
    asked = [(engine, job.problem, device) for job in jobs for engine in job.engines]
    asked.sort(key=lambda one: one[0].name)
    return {
        "device": f"{device.kind.value}:{device.name}",
        "triton": device.triton_version,
        "lookups": file_rows(asked, _env_folder),
        "serving": serving_rows(shape, asked),
        "launches": launch_rows(asked, _env_folder),
    }


def _env_folder(engine: Engine, problem: Problem, device: Device) -> Path | None:
    value = os.environ.get(engine.env_variable)
    return Path(value) if value else None


def _package(name: str) -> Check:
    version = package_version(name)
    if version == "none":
        return Check(name, "error", f"not installed; try 'pip install {name}'")
    return Check(name, "ok", version)


def _storage(url: str) -> Check:
    try:
        close_storage(open_storage(url, create=False))
    except MissingStorageError:
        return Check("storage", "ok", f"{public_url(url)} will be made")
    except StorageError as error:
        return Check("storage", "error", str(error))
    return Check("storage", "ok", f"{public_url(url)} opens")


def _engine(engine: Engine) -> Check:
    """Say which version there is, and the folder of its config files; nothing is imported."""
    shipped = engine.installed_config_folder()
    if shipped is None:
        installed = "not installed here"
    else:
        version = package_version(engine.name).replace("none", "an unknown version")
        installed = f"{version} installed; its shipped configs are in {shipped}"
    value = os.environ.get(engine.env_variable)
    if not value:
        state = "absent" if shipped is None else "ok"
        return Check(engine.title, state, f"{installed}; {engine.env_variable} is not set")
    env = f"{installed}; {engine.env_variable}={value}"
    if not Path(value).is_dir():
        return Check(engine.title, "warning", f"{env} is no folder: nothing is read there")
    return Check(engine.title, "ok", f"{env}: it looks there first")


def modes_set(engine: Engine, environment: Mapping[str, str]) -> Iterator[Check]:
    """Warn of settings in the environment under which the engine does not open our files."""
    for mode in engine.modes:
        if mode.is_set(environment):
            value = environment[mode.variable]
            detail = f"{mode.variable}={value}: {engine.title} {engine.version} {mode.effect}"
            yield Check(engine.title, "warning", detail)


def gpu_checks(*, needed: bool) -> Iterator[Check]:
    """Check driver, clocks, other processes. ``needed``: a run would measure on a GPU."""
    found = gpus()
    if found is None:
        why = "nothing is known of clocks and others" if needed else "none is needed"
        state = "warning" if needed else "absent"
        yield Check("NVIDIA driver", state, f"no nvidia-smi: {why}")
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
    """Check that a folder may be written, or made, and that there is room."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Check(what, "error", f"{folder} cannot be written")
    free = shutil.disk_usage(existing).free
    state = "warning" if free < _MIN_FREE_BYTES else "ok"
    return Check(what, state, f"{folder}, {free / 2**30:.1f} GiB free")
