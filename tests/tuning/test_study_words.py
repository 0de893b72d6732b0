"""What people call a study: the model of its last run, how it is split, dtype, batch size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autotune.settings import ModelSettings, RunSettings
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.study_attributes import StudyAttributes, run_attributes
from autotune.tuning.study_words import layer_words, stored_layer_words, study_names

PROBLEM = Problem(128, 8, 2048, 384, 64)
DEVICE = Device(DeviceKind.ESTIMATE, "NVIDIA H200", Target("cuda", 90, 32), "3.6.0", 232448)
KEY = StudyKey(PROBLEM, DEVICE, "space")


def _attrs(*engines: str, **model: Any) -> StudyAttributes:
    settings = RunSettings(model=ModelSettings(**model), device="estimate:NVIDIA_H200")
    name = settings.model.model or settings.model.shape or ""
    return StudyAttributes(run_attributes(name, engines, settings.as_json(), 60))


def test_a_model_is_named_as_it_is_split() -> None:
    attrs = _attrs("sglang", "vllm", model="Qwen/Qwen3-30B-A3B", tp_size=8, ep_size=2)
    assert stored_layer_words(attrs, PROBLEM) == "Qwen3-30B-A3B TP8 EP2 bf16"


def test_a_shape_is_named_as_it_was_given() -> None:
    shape = "E=8,topk=2,hidden=512,intermediate=256"
    assert stored_layer_words(_attrs("vllm", shape=shape), PROBLEM) == f"{shape} bf16"


def test_attributes_without_settings_still_have_a_name() -> None:
    attrs = StudyAttributes({"model": "some/model", "settings": {"model": {"tp_size": "x"}}})
    assert stored_layer_words(attrs, PROBLEM) == "some/model bf16"


def test_kernel_and_routing_are_named_where_they_are_not_the_usual_ones() -> None:
    problem = replace(PROBLEM, dtype=Dtype.FP8_W8A8, kernel=KernelMode.SEPARATE, routing="zipf:1")
    assert layer_words("M fp8_w8a8", problem) == "M fp8_w8a8 separate zipf:1"


def test_a_name_has_the_digest_where_two_would_be_the_same() -> None:
    attrs = _attrs("sglang", model="Qwen/Qwen3-30B-A3B")
    name = "Qwen3-30B-A3B bf16, batch size 64, SGLang: µs on NVIDIA H200, estimated"
    other = replace(KEY, space_fingerprint="other")
    third = replace(KEY, problem=replace(PROBLEM, tokens=1))
    names = study_names([(key, attrs) for key in (KEY, other, third)])
    assert names[:2] == [f"{name} [{KEY.digest}]", f"{name} [{other.digest}]"]
    assert names[2] == name.replace("64", "1")


@pytest.mark.parametrize("engines", [("sglang", "vllm"), ("unknown",), ()])
def test_an_engine_is_named_where_it_is_alone(engines: tuple[str, ...]) -> None:
    [name] = study_names([(KEY, _attrs(*engines, model="Qwen/Qwen3-30B-A3B"))])
    assert name == "Qwen3-30B-A3B bf16, batch size 64: µs on NVIDIA H200, estimated"
