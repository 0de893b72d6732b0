from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from autotune.backends import hardware
from autotune.backends.hardware import GpuSpec, find_spec, known_specs
from autotune.errors import DeviceError
from autotune.spec.device import Target
from autotune.spec.occupancy import SMS
from autotune.spec.problem import Dtype

NUMBERS = (
    "shared_per_block",
    "sms",
    "clock_mhz",
    "memory_gb_s",
    "l2_bytes",
    "fp32_tflops",
)


@pytest.mark.parametrize("spec", known_specs(), ids=lambda spec: spec.name)
def test_every_figure_is_positive(spec: GpuSpec) -> None:
    figures = {name: getattr(spec, name) for name in NUMBERS}
    assert all(0 < value < math.inf for value in figures.values())
    assert all(rate >= spec.fp32_tflops for rate in spec.tensor_tflops.values())
    assert spec.target.arch in SMS


def test_every_figure_has_a_source() -> None:
    data = json.loads(hardware._DATA.read_text())
    for record in data["gpus"].values():
        architecture = data["architectures"][record["architecture"]]
        named = [record[name][1] for name in (*NUMBERS, "tensor_tflops") if name in record]
        assert len(named) == len(NUMBERS)  # shared_per_block is the architecture's
        assert all(data["sources"][source] for source in (*named, architecture["source"]))


@pytest.mark.parametrize("spec", known_specs(), ids=lambda spec: spec.name)
def test_rates_of_narrower_operands_are_not_lower(spec: GpuSpec) -> None:
    rates = spec.tensor_tflops
    assert rates["tf32"] < rates["half"] <= min(rates.get("fp8", math.inf), rates["int8"])


@pytest.mark.parametrize("spec", known_specs(), ids=lambda spec: spec.name)
def test_plain_fp32_is_two_operations_of_each_lane(spec: GpuSpec) -> None:
    lanes = spec.fp32_tflops * 1e6 / 2 / (spec.sms * spec.clock_mhz)
    powers = (64, 128)  # per SM; CDNA 3 issues two
    assert min(abs(lanes / power - 1) for power in powers) < 0.05


@pytest.mark.parametrize("name", ["NVIDIA H200", "NVIDIA_H200", "H200", "nvidia h200", " h200 "])
def test_spellings_of_one_gpu(name: str) -> None:
    assert find_spec(name).name == "NVIDIA H200"


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("H100_PCIe", "NVIDIA H100 PCIe"),
        ("rtx 4090", "NVIDIA GeForce RTX 4090"),
        ("A100", "NVIDIA A100-SXM4-80GB"),
        ("MI300X", "AMD Instinct MI300X"),
        ("NVIDIA_H100_80GB_HBM3", "NVIDIA H100 80GB HBM3"),
    ],
)
def test_a_part_that_only_one_has_will_do(name: str, full: str) -> None:
    assert find_spec(name).name == full


def test_an_ambiguous_part_names_the_candidates() -> None:
    with pytest.raises(DeviceError, match="NVIDIA_H100_80GB_HBM3 or NVIDIA_H100_PCIe"):
        find_spec("H100")


@pytest.mark.parametrize("name", ["GH200", "H20", "", "NVIDIA", "H200_NVL"])
def test_an_unknown_gpu_lists_the_known_ones(name: str) -> None:
    with pytest.raises(DeviceError, match=r"Known are: NVIDIA_H200, .*AMD_Instinct_MI300X"):
        find_spec(name)


def test_a_close_name_is_proposed() -> None:
    with pytest.raises(DeviceError, match="did you mean NVIDIA_H200"):
        find_spec("NVIDIA_H2000")


def test_the_target_is_what_triton_compiles_for() -> None:
    assert find_spec("H200").target == Target("cuda", 90, 32)
    assert find_spec("MI300X").target == Target("hip", "gfx942", 64)


def test_rates_by_dtype() -> None:
    h200, a100 = find_spec("H200"), find_spec("A100")
    fp8, half = h200.dense_tflops(Dtype.FP8_W8A8), h200.dense_tflops(Dtype.BF16)
    assert fp8 == pytest.approx(2 * half, rel=1e-3)
    assert h200.dense_tflops(Dtype.INT4_W4A16) == h200.dense_tflops(Dtype.FP16)
    with pytest.raises(DeviceError, match="no fp8"):
        a100.dense_tflops(Dtype.FP8_W8A8)


def test_the_limits_name_every_gpu_that_an_estimate_may_be_of() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "limits.md").read_text().split())
    assert [spec.name for spec in known_specs() if spec.name not in text] == []
