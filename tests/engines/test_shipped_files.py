"""What is said of the files that the engines ship: fixtures of each kind, and of all in wheels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from check_shipped import converted, shipped_files  # type: ignore[import-not-found]

from autotune.engines import DEFAULT_TOKENS, ENGINES, Level, check_file
from autotune.engines.check import assumed
from autotune.engines.convert import convert_file
from autotune.errors import EngineFileError
from autotune.spec.problem import Dtype

ENTRY = {
    "BLOCK_SIZE_M": 16,
    "BLOCK_SIZE_N": 64,
    "BLOCK_SIZE_K": 64,
    "GROUP_SIZE_M": 1,
    "num_warps": 4,
    "num_stages": 3,
}
AMD = ENTRY | {"waves_per_eu": 0, "matrix_instr_nonkdim": 16, "kpack": 2}
FLYDSL = {"tile_m": 16, "tile_n": 64, "tile_k": 128, "tile_n2": 256, "tile_k2": 128}
B70, L40S = "Intel(R)_Arc(TM)_Pro_B70_Graphics", "NVIDIA_L40S"


def _place(folder: Path, rest: str, entry: dict[str, Any]) -> Path:
    path = folder / "configs" / "triton_3_6_0" / f"E=8,N=768,device_name={rest}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({str(tokens): entry for tokens in DEFAULT_TOKENS}))
    return path


def _said(path: Path, engine: str, level: Level = Level.ERROR) -> list[str]:
    found = check_file(path, ENGINES[engine]).findings
    return list(dict.fromkeys(f.message for f in found if f.level is level))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("device", "more"),
    [
        (L40S, {"num_ctas": 1}),
        ("NVIDIA_H200", {"num_ctas": 2}),
        (B70, {"grf_mode": "256"}),
        ("AMD_Radeon_8060S", {"waves_per_eu": 2}),
        ("NVIDIA_A100-SXM4-80GB", {"BLOCK_SIZE_M": 256}),
        ("NVIDIA_B200", {"BLOCK_SIZE_M": 256}),
    ],
)
def test_legal_on_the_files_own_device(
    tmp_path: Path, engine: str, device: str, more: dict[str, Any]
) -> None:
    path = _place(tmp_path, device, ENTRY | more)
    assert [_said(path, engine, level) for level in Level] == [[], []]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("device", "more", "words"),
    [
        (L40S, {"num_ctas": 2}, "num_ctas above 1 needs SM90"),
        (L40S, {"num_ctas": 3}, "a power of two is needed"),
        (L40S, {"num_ctas": "1"}, "an integer is needed"),
        ("NVIDIA_H200", {"grf_mode": "256"}, "grf_mode is a key for Intel"),
        (B70, {"grf_mode": 256}, "a text is needed"),
        (B70, {"waves_per_eu": 0}, "waves_per_eu is a key for AMD"),
        ("NVIDIA_H20-3e", {"BLOCK_SIZE_M": 256}, "can crash Triton's compiler on SM90"),
    ],
)
def test_illegal_on_the_files_own_device(
    tmp_path: Path, engine: str, device: str, more: dict[str, Any], words: str
) -> None:
    (message,) = _said(_place(tmp_path, device, ENTRY | more), engine)
    assert words in message


def test_sglang_takes_descriptors_on_intel(tmp_path: Path) -> None:
    with_tma = ENTRY | {"USE_TMA": True}
    assert _said(_place(tmp_path, B70, with_tma), "sglang") == []
    (message,) = _said(_place(tmp_path, L40S, with_tma), "sglang")
    assert "TMA needs SM90" in message


@pytest.mark.parametrize("engine", ENGINES)
def test_rules_of_an_unknown_architecture_are_not_guessed(tmp_path: Path, engine: str) -> None:
    path = _place(tmp_path, "NVIDIA_L20Y", AMD | {"grf_mode": "256", "num_ctas": 4})
    assert _said(path, engine) == []
    (message,) = _said(path, engine, Level.WARNING)
    assert "NVIDIA_L20Y is in no table" in message


def test_stages_left_to_triton_are_the_makers(tmp_path: Path) -> None:
    entry = {key: value for key, value in ENTRY.items() if key not in ("num_warps", "num_stages")}
    for device, stages in (("AMD_Instinct_MI300X", "2"), ("NVIDIA_H200", "3")):
        path = _place(tmp_path, device, entry)
        (message,) = _said(path, "sglang", Level.WARNING)
        assert f"(4 warps, {stages} stages)" in message
        done = convert_file(path, ENGINES["sglang"], ENGINES["vllm"], tmp_path / "out")
        assert json.loads(done.path.read_text())["1"]["num_stages"] == int(stages)


def test_flydsl_files_are_another_kernels(tmp_path: Path) -> None:
    path = _place(tmp_path, "AMD_Instinct_MI350X,dtype=int4_w4a16,backend=flydsl", FLYDSL)
    report = check_file(path, ENGINES["vllm"])
    (finding,) = report.findings
    assert (report.ok, report.env_folder) == (True, None)
    assert "FlyDSL kernel reads it" in finding.message
    with pytest.raises(EngineFileError, match="FlyDSL kernel, not for Triton's"):
        convert_file(path, ENGINES["vllm"], ENGINES["sglang"], tmp_path / "out")
    other = _place(tmp_path, "NVIDIA_H200,dtype=int4_w4a16,backend=other", ENTRY)
    assert "no engine file's name" in _said(other, "vllm")[0]


def test_a_file_without_a_device_is_found_where_the_driver_says_none(tmp_path: Path) -> None:
    path = _place(tmp_path, ",dtype=int4_w4a16", AMD)
    assert _said(path, "sglang") == []
    assert "it names no GPU" in _said(path, "sglang", Level.WARNING)[0]
    with pytest.raises(EngineFileError, match="add --device-name"):
        convert_file(path, ENGINES["sglang"], ENGINES["vllm"], tmp_path / "out")
    name = "AMD Instinct MI300X"
    engines = ENGINES["sglang"], ENGINES["vllm"]
    done = convert_file(path, *engines, tmp_path / "out", device_name=name)
    assert check_file(done.path, ENGINES["vllm"]).ok


def test_a_file_of_another_kernel_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "causal_conv1d_fwd_sm_90.json"
    path.write_text(json.dumps({"useful_configs": {"0": "helion"}, "hash_configs": {}}))
    (message,) = _said(path, "sglang")
    assert "no MoE config file" in message


def test_launch_options_are_converted_too(tmp_path: Path) -> None:
    engines = ENGINES["vllm"], ENGINES["sglang"]
    for number, (device, options, kept) in enumerate(
        [
            (B70, {"grf_mode": "256"}, {"grf_mode": "256"}),
            ("NVIDIA_H200", {"num_ctas": 2}, {"num_ctas": 2}),
            (L40S, {"num_ctas": 1}, {}),
        ]
    ):
        path = _place(tmp_path, device, ENTRY | options)
        done = convert_file(path, *engines, tmp_path / str(number), triton_version="3.6.0")
        assert json.loads(done.path.read_text())["1"] == ENTRY | kept
        assert any("num_ctas 1 is left out" in change for change in done.changes) == (not kept)
        assert check_file(done.path, ENGINES["sglang"]).ok
    path = _place(tmp_path, L40S, ENTRY | {"num_ctas": 2})
    with pytest.raises(EngineFileError, match="num_ctas above 1 needs SM90"):
        convert_file(path, *engines, tmp_path / "refused", triton_version="3.6.0")


def test_a_scale_block_without_dtype_is_int8_in_vllms_names(tmp_path: Path) -> None:
    path = _place(tmp_path, "NVIDIA_H20,block_shape=[128,128]", ENTRY)
    parts = ENGINES["vllm"].parse_name(path.name)
    assert parts is not None and assumed(parts)[0].dtype is Dtype.INT8_W8A8
    assert _said(path, "vllm") == []
    done = convert_file(
        path, ENGINES["vllm"], ENGINES["sglang"], tmp_path / "out", triton_version="3.6.0"
    )
    assert ",dtype=int8_w8a8,block_shape=[128, 128].json" in done.path.name
    assert "dtype=int8_w8a8" in done.changes


@pytest.mark.parametrize("engine", ENGINES)
def test_no_judgement_of_a_shipped_file_is_wrong(
    tmp_path: Path, engine_package: Callable[[str], Path], engine: str
) -> None:
    """Errors are said of names that the engine's code cannot make, and of K beyond a scale block,
    which SGLang does not clamp; whatever converts is legal for the other engine."""
    files = shipped_files(ENGINES[engine], engine_package(engine), tmp_path)
    assert files
    (target,) = (other for name, other in ENGINES.items() if name != engine)
    for number, path in enumerate(files):
        errors = {
            f.key for f in check_file(path, ENGINES[engine]).findings if f.level is Level.ERROR
        }
        assert errors == _expected_errors(path, engine), path
        converted(path, ENGINES[engine], target, tmp_path / str(number))


def _expected_errors(path: Path, engine: str) -> set[str]:
    """Read from the file's text what the engines' code fails on, without the code under test."""
    never_asked = (",dtype=bf16", ",dtype=float8", ",dtype=int8_w8a8", "MI325_OAM", "Radeon_8060S")
    is_unasked = engine == "vllm" and any(part in path.name for part in never_asked)
    if not path.name.startswith("E=") or is_unasked:
        return {"name"}
    if engine == "vllm" or "block_shape=[128, 128]" not in path.name:
        return set()
    body = json.loads(path.read_text())
    return {tokens for tokens, entry in body.items() if 128 % entry["BLOCK_SIZE_K"]}
