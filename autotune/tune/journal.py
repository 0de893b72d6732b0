"""The results of a recording under way: one JSON object a line, each by a single write.

A process may be killed at any moment: a line starts with its own line break, so a torn one
spoils only itself. ``Logbook`` is the recording's file and its journal as one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autotune.devices.recording import (
    Recording,
    columns_of,
    measurement_of,
    read_recording,
    write_recording,
)
from autotune.errors import UsageError
from autotune.kernels.config import AnyConfig, config_from_keys
from autotune.kernels.device import Device
from autotune.kernels.measurement import Resources
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult

if sys.platform != "win32":
    import fcntl


class Logbook:
    """Every result of ``path``: those in the file, those in its journal, and what is added."""

    def __init__(self, path: Path) -> None:
        """Takes the journal's lock. Raises UsageError where another process has it, or the
        folder cannot be written, DeviceError where the file is no recording."""
        self.path = path
        self.journal = path.with_name(path.name + ".journal")
        self.studies: dict[StudyKey, dict[AnyConfig, TrialResult]] = {}
        self.compile_s: dict[AnyConfig, float] = {}
        self._keys: dict[str, StudyKey] = {}
        self._descriptor = self._open()
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def check_device(self, device: Device) -> None:
        """Raises UsageError where what is there comes from another device: times never mix."""
        for key in self.studies:
            if key.device != device:
                was, now = (
                    f"{d.kind.value}:{d.name}, Triton {d.triton_version}, {d.method}"
                    for d in (key.device, device)
                )
                raise UsageError(
                    f"{self.path} was recorded on {was}; this is {now}. Give another --output, "
                    "or move the file and its journal away"
                )

    def results(self, key: StudyKey) -> Mapping[AnyConfig, TrialResult]:
        """Config → result, of one study."""
        return self.studies.get(key, {})

    def add(self, key: StudyKey, config: AnyConfig, result: TrialResult) -> None:
        """Keep a result, also against ``kill -9``."""
        self.studies.setdefault(key, {})[config] = result
        if key.study_name not in self._keys:
            self._keys[key.study_name] = key
            self._write({"study": key.study_name, "key": key.as_json()})
        record = {"in": key.study_name, "config": config.as_keys(), **_fields(result)}
        self._write(record)

    def add_compile_s(self, config: AnyConfig, seconds: float) -> None:
        """Keep how long a config's binaries took to compile."""
        self.compile_s[config] = seconds
        self._write({"config": config.as_keys(), "compile_s": round(seconds, 4)})

    def save(self, versions: Mapping[str, str], *, is_whole: bool) -> None:
        """Write the file; the journal goes where ``is_whole``."""
        write_recording(self.path, Recording(self.studies, self.compile_s, versions))
        if is_whole:
            self.journal.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock back. A journal without a line goes."""
        if not os.fstat(self._descriptor).st_size and _is_at(self.journal, self._descriptor):
            self.journal.unlink()
        os.close(self._descriptor)

    def _read(self) -> None:
        """The file and then its journal, under the lock: nobody may finish in between."""
        if self.path.exists():
            stored = read_recording(self.path)
            self.studies |= {key: dict(results) for key, results in stored.studies.items()}
            self.compile_s |= stored.compile_s
        for record in _records(self.journal):
            self._take(record)

    def _open(self) -> int:
        """Who had the lock may have removed what we opened meanwhile: then once more."""
        while True:
            descriptor = self._locked()
            if _is_at(self.journal, descriptor):
                return descriptor
            os.close(descriptor)

    def _locked(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.journal, flags, 0o644)
        except OSError as error:
            raise UsageError(
                f"{self.journal} cannot be written: {error.strerror}. Give another --output"
            ) from error
        try:
            if sys.platform != "win32":
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise UsageError(
                f"another process is recording into {self.path}. Wait, or give another --output"
            ) from error
        return descriptor

    def _take(self, record: dict[str, Any]) -> None:
        if "key" in record:
            self._keys[record["study"]] = StudyKey.from_json(record["key"])
            return
        config = config_from_keys(record["config"])
        if "compile_s" in record:
            self.compile_s[config] = record["compile_s"]
        elif record["in"] in self._keys:
            self.studies.setdefault(self._keys[record["in"]], {})[config] = _result(record)

    def _write(self, record: dict[str, Any]) -> None:
        os.write(self._descriptor, f"\n{json.dumps(record)}\n".encode())


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that lies there."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Blank and torn lines are left out."""
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line) if line.strip() else None
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


def _fields(result: TrialResult) -> dict[str, Any]:
    measurement, resources = result.measurement, result.resources
    fields: dict[str, Any] = {"outcome": result.outcome.value}
    if result.reason:
        fields |= {"reason": result.reason, "failed_half": result.failed_half}
    if measurement is not None:
        columns = columns_of(measurement)
        fields["us"] = [[round(us, 3) for us in column] for column in columns]
        fields["how"] = measurement.how
    if resources is not None:
        fields["resources"] = [resources.registers, resources.spill_bytes, resources.shared_bytes]
    return fields | {"measure_s": round(result.measure_s, 4)}


def _result(record: Mapping[str, Any]) -> TrialResult:
    columns = record.get("us")
    resources = record.get("resources")
    return TrialResult(
        Outcome(record["outcome"]),
        measurement_of(columns, record["how"]) if columns else None,
        record.get("reason", ""),
        failed_half=record.get("failed_half"),
        resources=Resources(*resources) if resources else None,
        measure_s=record["measure_s"],
    )
