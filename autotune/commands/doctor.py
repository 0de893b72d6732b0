"""``doctor``: what this machine has, and what would stop or spoil a run."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from autotune.api.asked import cache_asked, device_asked
from autotune.backends.detect import amd_gpus
from autotune.backends.host_facts import package_version
from autotune.backends.nvidia import DriverFault, Gpu, gpus
from autotune.backends.protocol import Measurer, MeasurerOptions
from autotune.backends.selectors import open_measurer
from autotune.commands import doctor_log
from autotune.commands.flag_kinds import Beside, existing_beside
from autotune.commands.flags import (
    DeviceFlags,
    EngineFlag,
    engine_names,
)
from autotune.commands.model_flags import ModelFlags, model_settings
from autotune.commands.output import Output
from autotune.commands.storage_flag import StorageFlag
from autotune.documents.machine import DoctorDocument
from autotune.documents.rows import CheckRow, State
from autotune.engines import ENGINES, Engine
from autotune.errors import MissingExtraError, MissingStorageError, StorageError
from autotune.exit_codes import ExitCode
from autotune.extras import EXTRAS, install_command
from autotune.report.terminal.opening_rows import launch_rows, launch_words, lookup_rows
from autotune.report.terminal.serving_rows import serving_rows
from autotune.report.terminal.tables import checks_table, rows_table
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.storage.open import close_storage, open_storage
from autotune.studies.storage.url import public_url
from autotune.tuning.jobs import jobs_of, model_shape
from autotune.tuning.processes.child import Child

_MIN_FREE_BYTES = 2 << 30
"""A compile cache of a whole run takes a few hundred MB; a full disk stops everything."""


@dataclass(frozen=True, kw_only=True)
class Flags(ModelFlags, DeviceFlags, EngineFlag, StorageFlag):
    """The flags that say what a run would use."""

    server_log: Annotated[
        str | None,
        typer.Option(
            "--server-log",
            metavar="FILE",
            help="instead: which tuned files a vLLM or SGLang server opened, which it missed and "
            "what to run for those, from its log (-: standard input)",
        ),
        Beside(existing_beside),
    ] = None


def run(flags: Flags, output: Output) -> int:
    """Check the machine. FAILED where something would stop a run: see ``docs/errors.md``."""
    if flags.server_log:
        return doctor_log.run(flags.server_log, flags, output)
    device = device_asked(flags.device)
    rows = tuple(_checks(flags, device))
    if flags.model or flags.shape:
        found = _opens(rows, flags, device)
        lines = [row.words for row in found.lookups] + [row.words for row in found.serving]
        launches = rows_table(list(map(launch_words, found.launches)))
        output.result(found, checks_table(rows), "\n".join(lines), launches)
    else:
        output.result(_checked(rows), checks_table(rows))
    return ExitCode.FAILED if any(row.state == "error" for row in rows) else ExitCode.DONE


def _checks(flags: Flags, device: str) -> Iterator[CheckRow]:
    yield _check("python", "ok", platform.python_version())
    yield from (_package(name) for name in ("torch", "triton", "optuna"))
    yield from (extra_check(name) for name in EXTRAS)
    yield _check("device", "ok", f"--device {flags.device} is {device}")
    yield from gpu_checks(needed=device.startswith("cuda"))
    yield folder_check("cache folder", cache_asked(flags.cache_dir))
    triton_cache = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    yield folder_check("Triton's cache", triton_cache)
    yield _storage(flags.storage)
    for engine in ENGINES.values():
        yield _engine(engine)
        yield from modes_set(engine, os.environ)


def _checked(rows: tuple[CheckRow, ...]) -> DoctorDocument:
    return DoctorDocument(
        checks=rows, device=None, triton=None, lookups=(), serving=(), launches=()
    )


def _opens(rows: tuple[CheckRow, ...], flags: Flags, selector: str) -> DoctorDocument:
    """Return also what engines open for the model on this device as the environment is, and what
    they launch at each batch size."""
    settings = model_settings(flags, flags.model)
    shape = model_shape(settings)
    options = MeasurerOptions(cache_dir=cache_asked(flags.cache_dir))
    with closing(Child(partial(open_measurer, selector, options))) as child:
        device = child.call(Measurer.device)
    jobs = jobs_of(shape, settings, engine_names(flags))
    asked = [(engine, job.problem, device) for job in jobs for engine in job.engines]
    asked.sort(key=lambda one: one[0].name)
    return replace(
        _checked(rows),
        device=device.title,
        triton=device.triton_version,
        lookups=tuple(lookup_rows(asked, _env_folder)),
        serving=tuple(serving_rows(shape, asked)),
        launches=tuple(launch_rows(asked, _env_folder)),
    )


def _env_folder(engine: Engine, problem: Problem, device: Device) -> Path | None:
    value = os.environ.get(engine.env_variable)
    return Path(value) if value else None


def _check(what: str, state: State, detail: str) -> CheckRow:
    return CheckRow(what=what, state=state, detail=detail)


def _package(name: str) -> CheckRow:
    version = package_version(name)
    if version == "none":
        return _check(name, "error", f"not installed; try 'pip install {name}'")
    return _check(name, "ok", version)


def extra_check(extra: str) -> CheckRow:
    """Say which versions of an extra's packages there are, or how they are installed."""
    versions = {name: package_version(name) for name in EXTRAS[extra]}
    missing = [name for name, version in versions.items() if version == "none"]
    if missing:
        detail = f"no {', no '.join(missing)}: {install_command(extra)}"
        return _check(f"extra {extra}", "absent", detail)
    return _check(f"extra {extra}", "ok", ", ".join(map(" ".join, versions.items())))


def _storage(url: str) -> CheckRow:
    try:
        close_storage(open_storage(url, create=False))
    except MissingStorageError:
        words = f"{public_url(url)} has nothing yet; the first run makes what it needs"
        return _check("storage", "ok", words)
    except (MissingExtraError, StorageError) as error:
        return _check("storage", "error", str(error))
    return _check("storage", "ok", f"{public_url(url)} opens")


def _engine(engine: Engine) -> CheckRow:
    """Say which version there is, and the folder of its config files; nothing is imported."""
    shipped = engine.installed_config_folder()
    if shipped is None:
        installed = "not installed here"
    else:
        version = package_version(engine.name).replace("none", "an unknown version")
        installed = f"{version} installed; its shipped configs are in {shipped}"
    value = os.environ.get(engine.env_variable)
    if not value:
        state: State = "absent" if shipped is None else "ok"
        return _check(engine.title, state, f"{installed}; {engine.env_variable} is not set")
    env = f"{installed}; {engine.env_variable}={value}"
    if not Path(value).is_dir():
        return _check(engine.title, "warning", f"{env} is no folder: nothing is read there")
    return _check(engine.title, "ok", f"{env}: it looks there first")


def modes_set(engine: Engine, environment: Mapping[str, str]) -> Iterator[CheckRow]:
    """Warn of settings in the environment under which the engine does not open our files."""
    for mode in engine.modes:
        if mode.is_set(environment):
            value = environment[mode.variable]
            detail = f"{mode.variable}={value}: {engine.title} {engine.version} {mode.effect}"
            yield _check(engine.title, "warning", detail)


def gpu_checks(*, needed: bool) -> Iterator[CheckRow]:
    """Check driver, clocks, other processes. ``needed``: a run would measure on a GPU."""
    found = gpus()
    bad: State = "error" if needed else "warning"
    if found is None:
        yield _no_driver(needed=needed)
    elif isinstance(found, DriverFault):
        yield _check("NVIDIA driver", bad, found.reason)
    elif not found:
        yield _check("NVIDIA driver", bad, "it has no GPU, or none that you may use")
    else:
        for gpu in found:
            yield from _gpu(gpu, bad)
        yield _others(found)


def _no_driver(*, needed: bool) -> CheckRow:
    if not needed:
        return _check("NVIDIA driver", "absent", "not installed; none is needed")
    if amd_gpus():
        detail = "not installed: of AMD's GPUs neither clocks nor other processes are known"
        return _check("NVIDIA driver", "warning", detail)
    return _check("NVIDIA driver", "error", "not installed, or a container without the GPU")


def _gpu(gpu: Gpu, bad: State) -> Iterator[CheckRow]:
    what = f"GPU {gpu.index}"
    if gpu.fault:
        yield _check(what, bad, f"the driver says: {gpu.fault}")
        return
    yield _check(what, "ok", f"{gpu.name}, driver {gpu.driver}")
    clocks = f"SM clock {gpu.sm_mhz} of at most {gpu.max_sm_mhz} MHz"
    if gpu.sm_mhz is None:
        yield _check(f"{what} clocks", "warning", "the driver does not say")
    elif gpu.slowed:
        yield _check(f"{what} clocks", "warning", f"{clocks}; slowed by {', '.join(gpu.slowed)}")
    else:
        yield _check(f"{what} clocks", "ok", clocks)


def _others(found: list[Gpu]) -> CheckRow:
    processes = dict.fromkeys(process for gpu in found for process in gpu.processes or ())
    if processes:
        return _check("GPU in use", "warning", f"times will be disturbed by {'; '.join(processes)}")
    if any(gpu.processes is None for gpu in found):
        return _check("GPU in use", "warning", "the driver does not say whether others compute")
    return _check("GPU in use", "ok", "no other process computes on a GPU")


def folder_check(what: str, folder: Path) -> CheckRow:
    """Check that a folder may be written, or made, and that there is room."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return _check(what, "error", f"{folder} cannot be written")
    free = shutil.disk_usage(existing).free
    state: State = "warning" if free < _MIN_FREE_BYTES else "ok"
    return _check(what, state, f"{folder}, {free / 2**30:.1f} GiB free")
