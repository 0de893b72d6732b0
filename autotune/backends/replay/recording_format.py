"""A recording: configs of one or more problems with raw samples and outcomes, in one file.

An .npz without pickles; ``n`` is the number of configs, ``i`` that of a problem:

    meta          text, JSON: format, keys (of StudyKey, one for each problem), columns, ends,
                  how, versions
    configs       [n, columns] int16; -1 where a key does not apply
    resources     [n, 3] int32: registers, spill bytes, shared bytes; -1 where not known
    compile_s     [n] float32: seconds of a core for the config's binaries; NaN where not known
    us_<i>        [n, 1 or 2, samples] float32 µs: of the layer, or of a pair's up and down GEMM;
                  sample s is routing instance s of every config; NaN where it was not taken
    measure_s_<i> [n] float32: seconds of verifying and timing
    end_<i>       [n] int16: row of ``ends`` (outcome, reason); -1 where nothing was recorded
"""

from __future__ import annotations

import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.errors import DAMAGED, DeviceError
from autotune.spec.arrays import Floats
from autotune.spec.config import AnyConfig, config_from_keys
from autotune.spec.device import Device
from autotune.spec.measurement import Measurement, Resources
from autotune.spec.ranges import LAUNCHES, Range
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult

FORMAT, VERSION = "autotune recording", 1
CONVERTER = "benchmarks/landscapes/convert_landscape.py"
"""Script that makes a recording of a landscape that was recorded elsewhere."""
_NONE = -1
_WHOLE, _REAL = "iu", "f"
"""Kinds of numpy's types."""
_NUMBERS = Range(0, LAUNCHES.most)
_MOST_BYTES = 2**30
"""A recording of thousands of configs at 18 batch sizes unpacks to a few MB."""
Results = Mapping[AnyConfig, TrialResult]


@dataclass(frozen=True, slots=True)
class Recording:
    """Results of one device, study by study."""

    studies: Mapping[StudyKey, Results]
    """Study (problem, device, space) → config → how it ended. Not all of a space need be there."""
    compile_s: Mapping[AnyConfig, float]
    """Seconds of a core for the config's binaries."""
    versions: Mapping[str, str]
    """Package ("triton", "torch", …) → the version that took part."""

    @property
    def device(self) -> Device:
        """The device of every study. Raises DeviceError where there is no study."""
        for key in self.studies:
            return key.device
        raise DeviceError("the recording is empty")


def write_recording(path: Path, recording: Recording) -> None:
    """Replace ``path`` in one step. Raises OSError where the disk refuses."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.npz")
    try:
        with temporary.open("xb") as file:
            np.savez_compressed(file, allow_pickle=False, **_arrays(recording))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_recording(path: Path) -> Recording:
    """Read ``path``; raises DeviceError where it cannot be read, or is of a newer version."""
    if path.exists() and not path.is_file():
        raise DeviceError(f"{path} is no ordinary file; a recording is an .npz file")
    try:
        with path.open("rb") as opened:
            if not zipfile.is_zipfile(opened):  # numpy would advise to unpickle it
                raise DeviceError(f"{path} cannot be read as a recording: it is no whole .npz file")
        with np.load(path, allow_pickle=False) as file:
            if sum(part.file_size for part in file.zip.infolist()) > _MOST_BYTES:
                raise ValueError(f"it unpacks to more than {_MOST_BYTES} bytes")
            arrays = {name: file[name] for name in file.files}
            if "meta" not in arrays and "configs" in arrays:
                raise DeviceError(
                    f"{path} was not written by record: it does not say what was measured, and on "
                    f"which GPU. Convert it once, with {CONVERTER} of the repository"
                )
            return _recording(path, arrays)
    except (*DAMAGED, zipfile.BadZipFile, zlib.error) as error:
        words = getattr(error, "strerror", None) or repr(error)
        raise DeviceError(f"{path} cannot be read as a recording: {words}") from error


def recorded_configs(path: Path) -> list[AnyConfig]:
    """Return every config of a file, whatever became of it; raises as ``read_recording``."""
    studies = read_recording(path).studies.values()
    return list(dict.fromkeys(config for results in studies for config in results))


def _arrays(recording: Recording) -> dict[str, NDArray[Any]]:
    configs = list(dict.fromkeys(c for results in recording.studies.values() for c in results))
    rows = [config.as_keys() for config in configs]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    ends: dict[tuple[str, str, str], int] = {}
    arrays: dict[str, NDArray[Any]] = {
        "configs": np.array([[row.get(c, _NONE) for c in columns] for row in rows], np.int16),
        "resources": np.array([_resources(config, recording) for config in configs], np.int32),
        "compile_s": _seconds(recording.compile_s.get(config) for config in configs),
    }
    hows = []
    for number, results in enumerate(recording.studies.values()):
        found = [results.get(config) for config in configs]
        arrays[f"us_{number}"] = _samples(found)
        arrays[f"measure_s_{number}"] = _seconds(r and r.measure_s for r in found)
        codes = [_NONE if r is None else ends.setdefault(_end(r), len(ends)) for r in found]
        arrays[f"end_{number}"] = np.array(codes, np.int16)
        # One that was not cut short says how all were taken.
        whole = (r.measurement for r in found if r and r.outcome is Outcome.OK)
        hows.append(next((m.how for m in whole if m is not None), ""))
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "keys": [key.as_json() for key in recording.studies],
        "columns": columns,
        "ends": list(ends),
        "how": hows,
        "versions": dict(recording.versions),
    }
    return arrays | {"meta": np.array(json.dumps(meta))}


def _end(result: TrialResult) -> tuple[str, str, str]:
    return result.outcome.value, result.reason, result.failed_half or ""


def _resources(config: AnyConfig, recording: Recording) -> tuple[int, int, int]:
    """Return the config's resources. A binary serves every problem of a recording, so any study may
    tell."""
    for results in recording.studies.values():
        if config in results and (found := results[config].resources):
            return found.registers, found.spill_bytes, found.shared_bytes
    return _NONE, _NONE, _NONE


def _seconds(values: Any) -> NDArray[np.float32]:
    return np.array([np.nan if v is None else round(v, 4) for v in values], np.float32)


def _samples(results: Sequence[TrialResult | None]) -> NDArray[np.float32]:
    taken = [r.measurement.columns if r and r.measurement else () for r in results]
    halves = max((len(columns) for columns in taken), default=1) or 1
    count = max((len(columns[0]) for columns in taken if columns), default=0)
    us = np.full((len(results), halves, count), np.nan, np.float32)
    for row, columns in enumerate(taken):
        for half, samples in enumerate(columns):
            us[row, half, : len(samples)] = samples
    return us


def _recording(path: Path, arrays: dict[str, NDArray[Any]]) -> Recording:
    meta = json.loads(str(arrays["meta"]))
    if meta.get("format") != FORMAT or meta["version"] > VERSION:
        raise DeviceError(
            f"{path} is {meta.get('format')!r}, version {meta.get('version')}; this autotune reads "
            f"{FORMAT!r} up to version {VERSION}. Upgrade autotune"
        )
    columns = meta["columns"]
    count = len(arrays["configs"])
    table = _rows(arrays, "configs", _WHOLE, count, len(columns))
    configs = [_config(columns, row) for row in table.tolist()]
    rows = _rows(arrays, "resources", _WHOLE, count, 3).tolist()
    resources = [None if row[0] < 0 else Resources(*row) for row in rows]
    studies: dict[StudyKey, Results] = {}
    for number, key in enumerate(meta["keys"]):
        us = _times(arrays, f"us_{number}", count)
        seconds = np.nan_to_num(_rows(arrays, f"measure_s_{number}", _REAL, count)).tolist()
        results: dict[AnyConfig, TrialResult] = {}
        ends = _rows(arrays, f"end_{number}", _WHOLE, count).tolist()
        for row, code in enumerate(ends):
            if code != _NONE:
                results[configs[row]] = _result(
                    meta["ends"][code],
                    _measurement(us[row], str(meta["how"][number])),
                    resources[row],
                    seconds[row],
                )
        studies[StudyKey.from_json(key)] = results
    spent = _rows(arrays, "compile_s", _REAL, count).tolist()
    compile_s = zip(configs, spent, strict=True)
    known = {config: seconds for config, seconds in compile_s if np.isfinite(seconds)}
    return Recording(studies, known, dict(meta["versions"]))


def _rows(arrays: Mapping[str, NDArray[Any]], name: str, kinds: str, *shape: int) -> NDArray[Any]:
    """Return an array of one of the kinds and a shape. Raises ValueError where it is of another."""
    array = arrays[name]
    if (array.size and array.shape != shape) or array.dtype.kind not in kinds:
        raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, not {list(shape)}")
    return array


def _times(arrays: Mapping[str, NDArray[Any]], name: str, count: int) -> Floats:
    """Return times [count, 1 or 2, samples], NaN where none was taken. Raises ValueError where one
    is no time."""
    given = arrays[name]
    halves, samples = given.shape[1:]
    us = _rows(arrays, name, _REAL, count, min(max(halves, 1), 2), samples).astype(float)
    if (us <= 0).any() or np.isinf(us).any():
        raise ValueError(f"{name} has a time that is not above 0 µs")
    return us


def _result(
    end: Sequence[Any],
    measurement: Measurement | None,
    resources: Resources | None,
    measure_s: float,
) -> TrialResult:
    """Return what became of a config. Raises ValueError where it is said to have times, and has
    none."""
    outcome, reason, half = end
    if measurement is None and outcome == Outcome.OK.value:
        raise ValueError(f"{outcome} without a time")
    if not isinstance(reason, str) or half not in ("up", "down", ""):
        raise ValueError(f"{reason!r} of {half!r} is no reason")
    return TrialResult(
        Outcome(outcome),
        measurement,
        reason,
        failed_half=half or None,
        resources=resources,
        measure_s=measure_s,
    )


def _config(columns: Sequence[str], row: Sequence[int]) -> AnyConfig:
    """USE_TMA is a bool where it applies. Raises ValueError for a number that no launch has."""
    keys = {c: v for c, v in zip(columns, row, strict=True) if v != _NONE}
    for name, value in keys.items():
        if value not in _NUMBERS:
            raise ValueError(f"{name} is {value}; it is {_NUMBERS}")
    return config_from_keys({c: bool(v) if c.endswith("USE_TMA") else v for c, v in keys.items()})


def _measurement(us: Floats, how: str) -> Measurement | None:
    taken = us[:, np.isfinite(us).all(axis=0)]
    return Measurement.of_columns(taken.tolist(), how) if taken.size else None
