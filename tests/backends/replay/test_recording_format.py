from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from measurer_cases import (  # type: ignore[import-not-found]
    MORE_TILES,
    PAIR,
    PROBLEM,
    SEPARATE,
    TILES,
)

from autotune.backends.replay import recording_format
from autotune.backends.replay.recording_format import (
    Recording,
    read_recording,
    write_recording,
)
from autotune.errors import DeviceError
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement, Resources
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult

DEVICE = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0", "layer, cold")
KEY = StudyKey(PROBLEM, DEVICE, "0123456789ab")
LATER = StudyKey(replace(PROBLEM, tokens=128), DEVICE, "0123456789ab")
BROKEN = Config(128, 64, 64, 1, 8, 3)
RESULTS = {
    TILES: TrialResult(
        Outcome.OK,
        Measurement((20.5, 21.25, 19.75), "graph, 3 routings"),
        resources=Resources(96, 8, 49152),
        measure_s=0.25,
    ),
    MORE_TILES: TrialResult(
        Outcome.PRUNED, Measurement((200.5,), "graph, 3 routings"), resources=Resources(40, 0, 1024)
    ),
    BROKEN: TrialResult(Outcome.COMPILE_ERROR, reason="PassManager: no", failed_half="down"),
}
RECORDING = Recording(
    {KEY: RESULTS, LATER: {TILES: RESULTS[TILES]}}, {TILES: 1.5}, {"triton": "3.6.0"}
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_recording(path, RECORDING)
    read = read_recording(path)
    assert list(read.studies) == [KEY, LATER]
    assert dict(read.studies[LATER]) == {TILES: RESULTS[TILES]}
    cut = replace(RESULTS[MORE_TILES], measurement=Measurement((200.5,), "graph, 3 routings"))
    assert dict(read.studies[KEY]) == RESULTS | {MORE_TILES: cut}
    assert dict(read.compile_s) == {TILES: 1.5}
    assert read.versions == {"triton": "3.6.0"}
    assert read.device == DEVICE
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_pairs_keep_both_gemms_and_tma(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    key = replace(KEY, problem=SEPARATE)
    measurement = Measurement.of_columns([(10.5, 11.5), (5.25, 5.5)], "graph")
    results = {PAIR: TrialResult(Outcome.OK, measurement)}
    write_recording(path, Recording({key: results}, {}, {}))
    assert dict(read_recording(path).studies[key]) == results


def test_experts_without_a_gate_are_other_experts(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    no_gate = replace(KEY, problem=replace(PROBLEM, gated=False))
    slower = {TILES: replace(RESULTS[TILES], measurement=Measurement((30.5,), "graph"))}
    write_recording(path, Recording({KEY: RESULTS, no_gate: slower}, {}, {}))
    assert dict(read_recording(path).studies[no_gate])[TILES].measurement == Measurement(
        (30.5,), "graph"
    )
    assert list(read_recording(path).studies) == [KEY, no_gate]


def test_the_file_holds_no_pickles(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_recording(path, RECORDING)
    with np.load(path, allow_pickle=False) as arrays:
        assert {"meta", "configs", "resources", "us_0", "end_1"} <= set(arrays.files)
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_nothing_recorded_yet_is_a_recording_too(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_recording(path, Recording({}, {}, {}))
    with pytest.raises(DeviceError, match="empty"):
        _ = read_recording(path).device


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_recording(path, RECORDING)
    arrays = dict(np.load(path))
    text = str(arrays["meta"]).replace('"version": 1', '"version": 2')
    np.savez(path, **(arrays | {"meta": np.array(text)}))
    with pytest.raises(DeviceError, match="Upgrade"):
        read_recording(path)


@pytest.mark.parametrize("missing", ["configs", "us_0", "end_1"])
def test_a_file_that_lacks_a_part_is_refused(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "a.npz"
    write_recording(path, RECORDING)
    arrays = dict(np.load(path))
    del arrays[missing]
    np.savez(path, **arrays)
    with pytest.raises(DeviceError, match=missing):
        read_recording(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("us_0", 0.0), ("us_0", np.inf), ("configs", -2), ("end_0", 9), ("us_1", -1)],
)
def test_numbers_that_cannot_be_are_refused(tmp_path: Path, name: str, value: float) -> None:
    path = tmp_path / "a.npz"
    write_recording(path, RECORDING)
    arrays = dict(np.load(path))
    arrays[name] = np.full_like(arrays[name], value)
    np.savez(path, **arrays)
    with pytest.raises(DeviceError, match="cannot be read"):
        read_recording(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("experts", 10**30),
        ("tokens", 0),
        ("top_k", 9999),
        ("block_shape", [-1, 2]),
        ("gated", "no"),
    ],
)
def test_a_layer_that_cannot_be_is_refused(tmp_path: Path, name: str, value: object) -> None:
    path = tmp_path / "a.npz"
    write_recording(path, RECORDING)
    arrays = dict(np.load(path))
    meta = json.loads(str(arrays["meta"]))
    meta["keys"][0]["problem"][name] = value
    np.savez(path, **(arrays | {"meta": np.array(json.dumps(meta))}))
    with pytest.raises(DeviceError, match="cannot be read"):
        read_recording(path)


def test_a_file_that_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    write_recording(path, RECORDING)
    monkeypatch.setattr(recording_format, "_MOST_BYTES", 100)
    with pytest.raises(DeviceError, match="unpacks to more than 100 bytes"):
        read_recording(path)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04torn", b"not an archive"])
def test_other_files_are_no_recordings(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    words = "No such file" if content is None else "it is no whole .npz file"
    with pytest.raises(DeviceError, match=f"cannot be read as a recording: {words}"):
        read_recording(path)


def test_a_file_that_may_not_be_read_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, mode: str) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    path = tmp_path / "a.npz"
    path.touch()
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(DeviceError, match="cannot be read as a recording: Permission denied"):
        read_recording(path)
