"""File names: the engines' own files, and each part in each spelling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine_cases import H200, MI300X, SHIPPED, make_device, make_problem, needs_shipped

from autotune.engines import ENGINES
from autotune.engines.check import assumed
from autotune.errors import EngineFileError
from autotune.spec.problem import Dtype

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
    assert SGLANG.device_name(device.name) == sglang
    assert VLLM.device_name(device.name) == vllm


def test_vllm_replaces_slashes() -> None:
    device = make_device("AMD Radeon RX 7900 XT / XTX")
    assert VLLM.device_name(device.name) == "AMD_Radeon_RX_7900_XT_XTX"


def test_amd_devices_keep_their_name() -> None:
    assert SGLANG.device_name(MI300X.name) == VLLM.device_name(MI300X.name) == "AMD_Instinct_MI300X"


BAD_NAMES = [
    "../../etc/passwd",
    "..",
    ".",
    "",
    "   ",
    "/root/.ssh/authorized_keys",
    "GPU/../../../x",
    "..\\..\\x",
    "H200\0.json",
    "H200\n/x",
    "H200\u2028x",
    "\u202eH200",
    "\ud800",
    "x" * 129,
    "€" * 100,
    "x" * 100_000,
]


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name[:20]))
def test_no_device_name_leads_out_of_the_output_folder(
    tmp_path: Path, engine: str, name: str
) -> None:
    """Names come from drivers and from other people's recordings."""
    for device in (make_device(name), replace(make_device("H200"), triton_version=f"3.6.0{name}")):
        for problem in (make_problem(), make_problem(Dtype.FP8_W8A8, block_shape=(128, 128))):
            try:
                path = ENGINES[engine].path(tmp_path, problem, device)
            except EngineFileError as error:
                assert len(str(error)) < 1000
                str(error).encode()
                continue
            assert path.resolve().is_relative_to(tmp_path / engine)
            assert ".." not in path.parts
            assert len(path.name.encode()) <= 255
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
