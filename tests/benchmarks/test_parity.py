"""Recordings of two kernels side by side, and the data file that is made of them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import parity
import pytest

from autotune.backends import stand_in
from autotune.backends.replay.recording_format import Recording, write_recording
from autotune.backends.stand_in import DATA
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Dtype, Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult

OURS = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0", "layer, 4")
VLLM = replace(OURS, method="vllm 0.33.0: layer, 4")
PROBLEM = Problem(8, 2, 512, 256, 16)
BLOCK = replace(PROBLEM, dtype=Dtype.FP8_W8A8, block_shape=(128, 128))
SIZES = (16, 64, 256)
CONFIGS = [
    Config(16, n, k, g, w, 3)
    for n in (32, 64, 128)
    for k in (64, 128)
    for g in (1, 8)
    for w in (4, 8)
]
US = [100.0 + number for number in range(len(CONFIGS))]


def _ok(us: float) -> TrialResult:
    return TrialResult(Outcome.OK, Measurement((us, us), "test"))


def _record(
    path: Path,
    device: Device,
    us: Sequence[float],
    problem: Problem = PROBLEM,
    changed: Mapping[int, TrialResult] | None = None,
) -> Path:
    results = {config: _ok(value) for config, value in zip(CONFIGS, us, strict=True)}
    results |= {CONFIGS[number]: result for number, result in (changed or {}).items()}
    keys = [StudyKey(replace(problem, tokens=tokens), device, "") for tokens in SIZES]
    write_recording(path, Recording(dict.fromkeys(keys, results), {}, {}))
    return path


def _rows(*paths: Path) -> list[parity.Parity]:
    return parity.parities(parity.read(paths))


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return _record(tmp_path / "ours.npz", OURS, US)


def test_the_same_order_costs_nothing(ours: Path, tmp_path: Path) -> None:
    rows = _rows(ours, _record(tmp_path / "vllm.npz", VLLM, [2 * us for us in US]))
    assert [row.problem.tokens for row in rows] == list(SIZES)
    for row in rows:
        assert (row.owner, row.cell.dtype, row.configs) == ("vllm 0.33.0", "bf16", len(CONFIGS))
        assert row.spearman == pytest.approx(1)
        assert (row.ours_there, row.theirs_here) == (0, 0)


def test_another_order_costs_what_the_winner_takes_there(ours: Path, tmp_path: Path) -> None:
    row, *_ = _rows(ours, _record(tmp_path / "vllm.npz", VLLM, US[::-1]))
    assert row.spearman == pytest.approx(-1)
    assert row.ours_there == row.theirs_here == pytest.approx(US[-1] / US[0] - 1)


def test_a_winner_that_was_given_up_or_fails_there_is_not_left_out(
    ours: Path, tmp_path: Path
) -> None:
    slow = TrialResult(Outcome.PRUNED, Measurement((300.0,), "test"), "slow")
    row, *_ = _rows(ours, _record(tmp_path / "a.npz", VLLM, US, changed={0: slow}))
    assert row.ours_there == pytest.approx(300 / US[1] - 1)
    wrong = TrialResult(Outcome.WRONG_RESULT, reason="wrong")
    row, *_ = _rows(ours, _record(tmp_path / "b.npz", VLLM, US, changed={0: wrong}))
    assert row.ours_there == math.inf
    assert row.theirs_here == pytest.approx(US[1] / US[0] - 1)


def test_other_problems_gpus_and_tritons_are_no_pairs(ours: Path, tmp_path: Path) -> None:
    others = [
        _record(tmp_path / "problem.npz", VLLM, US, replace(PROBLEM, hidden=1024)),
        _record(tmp_path / "gpu.npz", replace(VLLM, name="NVIDIA H100"), US),
        _record(tmp_path / "triton.npz", replace(VLLM, triton_version="3.5.0"), US),
    ]
    assert _rows(ours, *others) == []


def test_too_few_common_configs_say_nothing(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = TrialResult(Outcome.OUT_OF_RESOURCES)
    gone = dict.fromkeys(range(parity.FEWEST - 1, len(CONFIGS)), failed)
    assert _rows(ours, _record(tmp_path / "vllm.npz", VLLM, US, changed=gone)) == []
    assert f"left out, {parity.FEWEST - 1} configs" in capsys.readouterr().out


def test_the_data_file_gets_each_cell_and_keeps_the_others(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """bf16 is alike; of block fp8 our winner is wrong in the engine."""
    wrong = {0: TrialResult(Outcome.WRONG_RESULT, reason="wrong")}
    files = [
        ours,
        _record(tmp_path / "vllm.npz", VLLM, US),
        _record(tmp_path / "ours_block.npz", OURS, US, BLOCK),
        _record(tmp_path / "vllm_block.npz", VLLM, US, BLOCK, wrong),
    ]
    data = tmp_path / "data.json"
    before = json.loads(DATA.read_text())["evidence"]
    other = {**before[0], "dtype": "of another day"}
    stale = {**before[0], "engine": "vllm", "dtype": "bf16", "target": "cuda:90", "problems": 99}
    data.write_text(json.dumps({"evidence": [other, stale]}))
    monkeypatch.setattr(
        sys, "argv", ["parity.py", *map(str, files), "--write", "--data", str(data)]
    )
    parity.main()
    assert "not proven" in capsys.readouterr().out
    monkeypatch.setattr(stand_in, "DATA", data)
    known = stand_in.known_evidence.__wrapped__()
    found = {cell.dtype: evidence for cell, evidence in known.items()}
    assert set(found) == {"of another day", "bf16", "fp8_w8a8 block"}
    assert found["bf16"].is_enough
    assert (found["bf16"].problems, found["bf16"].spearman, found["bf16"].cost_mean) == (3, 1, 0)
    assert found["bf16"].source == "python benchmarks/gpu/parity.py ours.npz vllm.npz"
    assert found["fp8_w8a8 block"].cost_worst == math.inf
    assert not found["fp8_w8a8 block"].is_enough


def test_the_shipped_data_is_what_its_recordings_say() -> None:
    """Of those that the repository holds."""
    prefix = "python benchmarks/gpu/parity.py "
    rows = [
        row
        for row in json.loads(DATA.read_text())["evidence"]
        if row["source"].startswith(prefix)
        and all((parity.REPOSITORY / f).exists() for f in row["source"][len(prefix) :].split())
    ]
    files = {parity.REPOSITORY / f for row in rows for f in row["source"][len(prefix) :].split()}
    evidence = parity.evidence_of(_rows(*sorted(files)))
    found = [asdict(cell) | asdict(known) for cell, known in evidence.items()]
    for row in rows:
        [same] = [f for f in found if parity._named(f) == parity._named(row)]
        assert {k: v for k, v in same.items() if k != "source"} == {
            k: v for k, v in row.items() if k != "source"
        }
