"""The results of a recording under way: one JSON object a line, each by a single write.

A process may be killed at any moment: a line starts with its own line break, so a torn one
spoils only itself. ``RecordingLog`` is the recording's file and its journal as one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from autotune.backends.replay.recording_format import (
    Recording,
    read_recording,
    write_recording,
)
from autotune.engines.atomic import locked
from autotune.errors import UsageError
from autotune.spec.config import AnyConfig, config_from_keys
from autotune.spec.device import Device
from autotune.spec.measurement import Measurement, Resources
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult

_PATIENCE_S = 0.5
"""Seconds to wait for a lock that is just being given back."""


class RecordingLog:
    """Every result of ``path``: those in the file, those in its journal, and what is added."""

    def __init__(self, path: Path) -> None:
        """Takes the file's lock, then reads. Raises UsageError where another process has it, or
        the folder cannot be written, DeviceError where the file is no recording."""
        self.path = path
        self.journal = path.with_name(path.name + ".journal")
        self.studies: dict[StudyKey, dict[AnyConfig, TrialResult]] = {}
        self.compile_s: dict[AnyConfig, float] = {}
        self._keys: dict[str, StudyKey] = {}
        self._descriptor: int | None = None
        with ExitStack() as stack:
            self._lock(stack)
            self._read()
            self._held = stack.pop_all()

    def check_device(self, device: Device) -> None:
        """Raises UsageError where what is there comes from another device: times never mix."""
        for key in self.studies:
            if key.device != device:
                was, now = (
                    f"{d.title}, Triton {d.triton_version}, {d.method}"
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
        """Give the lock back."""
        self._held.close()

    def _lock(self, stack: ExitStack) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(self.path, timeout_s=_PATIENCE_S))
        except TimeoutError as error:
            raise UsageError(
                f"another process is recording into {self.path}. Wait, or give another --output"
            ) from error
        except OSError as error:
            raise UsageError(
                f"{self.path} cannot be written: {error.strerror}. Give another --output"
            ) from error

    def _read(self) -> None:
        """The file, and then its journal."""
        if self.path.exists():
            stored = read_recording(self.path)
            self.studies |= {key: dict(results) for key, results in stored.studies.items()}
            self.compile_s |= stored.compile_s
        if self.journal.exists():
            for record in _records(self.journal):
                with suppress(LookupError, TypeError, ValueError):  # a damaged line is left out
                    self._take(record)

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
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._descriptor = os.open(self.journal, flags, 0o644)
            self._held.callback(os.close, self._descriptor)
        os.write(self._descriptor, f"\n{json.dumps(record)}\n".encode())


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
        columns = measurement.columns
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
        Measurement.of_columns(columns, record["how"]) if columns else None,
        record.get("reason", ""),
        failed_half=record.get("failed_half"),
        resources=Resources(*resources) if resources else None,
        measure_s=record["measure_s"],
    )
