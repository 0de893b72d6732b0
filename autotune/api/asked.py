"""What was asked for, by flags or by keywords, becomes settings: what was left open is filled in,
paths are made absolute, and what cannot work is said."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from autotune.api.batch_sizes import named_sizes
from autotune.api.defaults import user_cache
from autotune.backends.selectors import auto_selector
from autotune.engines import ENGINES
from autotune.engines.own_code.asking import NOBODY
from autotune.errors import UsageError
from autotune.routing.distributions import canonical
from autotune.routing.trace import RECORDED, make_known
from autotune.routing.trace_files import read_trace
from autotune.settings import (
    ALL_GPUS,
    ModelSettings,
    RunSettings,
    Settings,
    settings_from,
    several,
)
from autotune.tuning.compile_service.pool import default_jobs

_log = logging.getLogger(__name__)
Asked = Mapping[str, Any]
"""Values by the names of the settings' fields; others are not looked at."""


def of_fields(kind: type[Settings], asked: Asked, **found: Any) -> Settings:
    """Make settings of a class: a field is what was ``found`` for it, else what was asked for, else
    its default. Raises UsageError for values that cannot work."""
    names = get_type_hints(kind)
    given = {name: value for name, value in asked.items() if name in names}
    return settings_from(kind, given | found)


def model_asked(asked: Asked) -> ModelSettings:
    """Make the settings of a layer; ``batch_sizes`` may be "auto:FILE". Raises UsageError for
    values that cannot work."""
    folder = asked["topk_ids_dir"]
    sizes = asked["batch_sizes"]
    sources = [p if str(p) == NOBODY else Path(p).absolute() for p in asked["engine_sources"]]
    return of_fields(
        ModelSettings,
        asked,
        routing=named_routing(asked["routing"], Path(folder) if folder else None),
        topk_ids_dir=str(Path(folder).absolute()) if folder else None,
        engine_sources=sources,
        **named_sizes((sizes,) if isinstance(sizes, str) else several("batch_sizes", sizes)),
    )


def run_asked(models: Sequence[ModelSettings], asked: Asked) -> RunSettings:
    """Make the settings of a run of these models. Raises UsageError for values that cannot work."""
    gpus = str(asked["gpus"]).replace(" ", "")
    if asked["device"] == "auto" and gpus != ALL_GPUS and auto_selector() != "cuda":
        raise UsageError(
            f"--gpus {gpus}: no GPU was found on this machine. Leave --gpus out to estimate here, "
            "or see what 'python -m autotune doctor --device cuda' says of the driver"
        )
    device, jobs = device_asked(asked["device"]), asked["jobs"]
    if jobs is not None and device.startswith("cuda"):
        raise UsageError(
            f"--workers {jobs} with --device {device}: two workers on one GPU would disturb "
            "each other's times, so each GPU has one. Choose GPUs with --gpus 0,1"
        )
    model, *more = models
    return of_fields(
        RunSettings,
        asked,
        model=model,
        more_models=more,
        device=device,
        engines=engines_written(asked["engines"], asked["provider"]),
        output_dir=Path(asked["output_dir"]).absolute(),
        warm_starts=_warm_starts(asked["warm_starts"]),
        cache_dir=cache_asked(asked["cache_dir"]),
        jobs=jobs_on(device) if jobs is None else jobs,
        gpus=gpus,
    )


def device_asked(device: str) -> str:
    """Return the selector with auto resolved; the log says where no GPU was found."""
    if device != "auto":
        return device
    selector = auto_selector()
    if selector != "cuda":
        _log.warning("no GPU found on this machine: going on with --device %s", selector)
    return selector


def cache_asked(folder: str | Path | None) -> Path:
    """Return the folder of what was compiled, the user's cache folder where none was named."""
    return user_cache() if folder is None else Path(folder).absolute()


def jobs_on(device: str) -> int:
    """Return how many processes measure: estimates are compiles, one per core; a GPU must not be
    shared, a recording needs no help."""
    return default_jobs() if device.startswith("estimate") else 1


def engines_written(engines: Sequence[str], provider: str) -> tuple[str, ...]:
    """Return the engines whose files are written: an engine's own kernel is for its own alone."""
    if set(engines) == set(ENGINES) and provider in ENGINES:
        return (provider,)
    return tuple(engines)


def named_routing(routing: str | None, folder: Path | None) -> str:
    """Return the routing that both mean, with the recording's digest in place of ``recorded``. The
    recording is made known.

    Raises UsageError where only one of the two speaks of a recording, or each of another.
    """
    given = routing or (RECORDED if folder else "uniform")
    names = [canonical(name.strip()) for name in given.split(",")]
    of_recordings = [name for name in names if name.startswith(RECORDED)]
    if bool(of_recordings) != (folder is not None):
        raise UsageError(
            f"--routing {routing} needs --topk-ids-dir with the folder of the recording"
            if folder is None
            else f"--topk-ids-dir {folder} is not used by --routing {routing}. "
            f"Try --routing {routing},{RECORDED}"
        )
    if folder is not None:
        recording = read_trace(folder)
        make_known(recording)
        other = set(of_recordings) - {RECORDED, recording.routing}
        if other:
            raise UsageError(
                f"--topk-ids-dir {folder} holds {recording.routing}, not {', '.join(other)}. "
                "Give the folder of that recording, or --routing recorded"
            )
        names = [recording.routing if name == RECORDED else name for name in names]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(f"--routing {routing}: {', '.join(repeated)} is there twice")
    return ",".join(names)


def _warm_starts(paths: Iterable[str | Path]) -> tuple[Path, ...]:
    for path in map(Path, paths):
        if not path.exists():
            raise UsageError(f"--warm-start {path}: there is no such file or folder")
    return tuple(Path(path).absolute() for path in paths)
