"""File names: the engines' own files, and each part in each spelling."""

from __future__ import annotations

import pytest
from engine_cases import H200, MI300X, SHIPPED, make_device, make_problem, needs_shipped

from autotune.engines import ENGINES
from autotune.engines.finding import assumed
from autotune.kernels.problem import Dtype

SGLANG, VLLM = ENGINES["sglang"], ENGINES["vllm"]
HEAD = "E=8,N=14336,device_name=NVIDIA_H200"


@needs_shipped
@pytest.mark.parametrize(("engine", "count"), [("sglang", 80), ("vllm", 52)])
def test_every_shipped_name_is_reproduced_from_its_problem(engine: str, count: int) -> None:
    paths = sorted((SHIPPED / engine).rglob("*.json"))
    for path in paths:
        parts = ENGINES[engine].parse_name(path.name)
        assert parts is not None, path
        problem, device = assumed(parts)
        assert ENGINES[engine].file_name(problem, device, down=parts.down) == path.name
    assert len(paths) == count


@pytest.mark.parametrize(
    ("changes", "sglang", "vllm"),
    [
        ({"dtype": Dtype.BF16}, "", ""),
        ({"dtype": Dtype.FP16}, "", ""),
        ({"dtype": Dtype.FP32}, ",dtype=float32", ",dtype=float32"),
        ({"dtype": Dtype.FP8_W8A8}, ",dtype=fp8_w8a8", ",dtype=fp8_w8a8"),
        ({"dtype": Dtype.INT8_W8A8}, ",dtype=int8_w8a8", ""),
        ({"dtype": Dtype.INT8_W8A16}, ",dtype=int8_w8a16", ",dtype=int8_w8a16"),
        (
            {"dtype": Dtype.FP8_W8A8, "block_shape": (128, 64)},
            ",dtype=fp8_w8a8,block_shape=[128, 64]",
            ",dtype=fp8_w8a8,block_shape=[128,64]",
        ),
        (
            {"dtype": Dtype.FP8_W8A8, "per_channel_quant": True},
            ",dtype=fp8_w8a8,per_channel_quant=True",
            ",dtype=fp8_w8a8",
        ),
        (
            {"dtype": Dtype.INT8_W8A16, "block_shape": (0, 128)},
            ",dtype=int8_w8a16",
            ",dtype=int8_w8a16",
        ),
        (
            {"dtype": Dtype.FP8_W8A8, "block_shape": (128, None)},
            ",dtype=fp8_w8a8",
            ",dtype=fp8_w8a8",
        ),
    ],
    ids=str,
)
def test_parts(changes, sglang: str, vllm: str) -> None:
    problem = make_problem(**changes)
    assert SGLANG.file_name(problem, H200) == f"{HEAD}{sglang}.json"
    assert SGLANG.file_name(problem, H200, down=True) == f"{HEAD}{sglang}_down.json"
    assert VLLM.file_name(problem, H200) == f"{HEAD}{vllm}.json"


def test_int4_is_packed_for_sglang_alone() -> None:
    problem = make_problem(Dtype.INT4_W4A16, block_shape=(0, 128))
    assert SGLANG.file_name(problem, H200).startswith("E=8,N=7168,")
    assert VLLM.file_name(problem, H200).startswith("E=8,N=14336,")


def test_vllm_has_no_down_file() -> None:
    with pytest.raises(ValueError, match="one file serves both"):
        VLLM.file_name(make_problem(), H200, down=True)


@pytest.mark.parametrize(
    ("name", "sglang", "vllm"),
    [
        ("NVIDIA H200", "NVIDIA_H200", "NVIDIA_H200"),
        ("NVIDIA H200 NVL", "NVIDIA_H200_NVL", "NVIDIA_H200"),
        ("NVIDIA GH200 480GB", "NVIDIA_GH200_480GB", "NVIDIA_GH200_480GB"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA_H100_80GB_HBM3", "NVIDIA_H100_80GB_HBM3"),
        ("AMD Instinct MI300X", "AMD_Instinct_MI300X", "AMD_Instinct_MI300X"),
        ("NVIDIA A800-SXM4-80GB", "NVIDIA_A800-SXM4-80GB", "NVIDIA_A800-SXM4-80GB"),
    ],
)
def test_device_spellings(name: str, sglang: str, vllm: str) -> None:
    device = make_device(name)
    assert SGLANG.device_name(device) == sglang
    assert VLLM.device_name(device) == vllm


def test_vllm_replaces_slashes() -> None:
    device = make_device("AMD Radeon RX 7900 XT / XTX")
    assert VLLM.device_name(device) == "AMD_Radeon_RX_7900_XT_XTX"


def test_amd_devices_keep_their_name() -> None:
    assert SGLANG.device_name(MI300X) == VLLM.device_name(MI300X) == "AMD_Instinct_MI300X"
