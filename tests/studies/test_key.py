from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from autotune.spec.device import DeviceKind, Target
from autotune.spec.problem import Dtype, KernelMode
from autotune.studies.key import StudyKey


def test_json_and_back(key: StudyKey) -> None:
    problem = replace(
        key.problem, dtype=Dtype.FP8_W8A8, block_shape=(128, 128), kernel=KernelMode.SEPARATE
    )
    for gated in (True, False):
        whole = replace(key, problem=replace(problem, gated=gated))
        assert StudyKey.from_json(json.loads(json.dumps(whole.as_json()))) == whole


def test_studies_of_experts_with_a_gate_keep_their_names() -> None:
    """Key and name as they were stored before problems said whether there is a gate."""
    key = StudyKey.from_json(json.loads(STORED))
    assert key.problem.gated
    assert key.as_json() == json.loads(STORED)
    assert key.study_name == (
        "E=128,N=768,H=2048,topk=8 bf16 M=00016 estimate NVIDIA_H200 triton 3.6.0 [b53f2320]"
    )


STORED = """
{"problem": {"experts": 128, "top_k": 8, "hidden": 2048, "intermediate": 768, "tokens": 16,
             "dtype": "bf16", "block_shape": null, "per_channel_quant": false,
             "zero_points": false, "ep_size": 1, "ep_rank": 0, "fused_shared_experts": 0,
             "routing": "uniform", "kernel": "fused"},
 "device": {"kind": "estimate", "name": "NVIDIA H200",
            "target": {"backend": "cuda", "arch": 90, "warp_size": 32}, "shared_bytes": 232448,
            "triton_version": "3.6.0", "method": "time model 5"},
 "space_fingerprint": "ab12cd34"}
"""

OTHER: dict[str, Any] = {
    "experts": 64,
    "top_k": 4,
    "hidden": 4096,
    "intermediate": 1024,
    "tokens": 1,
    "dtype": Dtype.FP16,
    "block_shape": (128, 128),
    "per_channel_quant": True,
    "zero_points": True,
    "ep_size": 2,
    "ep_rank": 1,
    "fused_shared_experts": 1,
    "routing": "zipf:1",
    "kernel": KernelMode.SEPARATE,
    "gated": False,
}


def test_every_field_of_the_problem_counts(key: StudyKey) -> None:
    assert set(OTHER) == {field.name for field in fields(key.problem)}
    for name, value in OTHER.items():
        changed = replace(key, problem=replace(key.problem, **{name: value}))
        assert changed.study_name != key.study_name, name


@pytest.mark.parametrize(
    "change",
    [
        {"kind": DeviceKind.CUDA},
        {"name": "NVIDIA H100"},
        {"target": Target("cuda", 80)},
        {"shared_bytes": 1},
        {"triton_version": "3.7.0"},
        {"method": "warm L2"},
    ],
)
def test_every_field_of_the_device_counts(key: StudyKey, change: dict[str, Any]) -> None:
    changed = replace(key, device=replace(key.device, **change))
    assert changed.digest != key.digest


def test_names_sort_by_batch_size(key: StudyKey) -> None:
    names = [
        replace(key, problem=replace(key.problem, tokens=tokens)).study_name
        for tokens in (4096, 2, 16, 1)
    ]
    assert [int(n.split("M=")[1][:5]) for n in sorted(names)] == [1, 2, 16, 4096]
    assert "estimate NVIDIA_H200 triton 3.6.0" in names[0]
