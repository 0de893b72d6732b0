"""One engine's file for another: legal, found, and nothing changed in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autotune.engines import ENGINES, check_file
from autotune.engines.convert import Conversion, convert_file
from autotune.errors import EngineFileError

ENTRY = {
    "BLOCK_SIZE_M": 16,
    "BLOCK_SIZE_N": 64,
    "BLOCK_SIZE_K": 64,
    "GROUP_SIZE_M": 1,
    "num_warps": 4,
    "num_stages": 3,
}
H200 = "E=8,N=768,device_name=NVIDIA_H200"


def _write(folder: Path, name: str, *entries: dict[str, Any], **header: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    body = {str(16 * (i + 1)): entry for i, entry in enumerate(entries)}
    path.write_text(json.dumps(header | body))
    return path


def _convert(path: Path, source: str, output: Path, **options: Any) -> Conversion:
    target = {"vllm": "sglang", "sglang": "vllm"}[source]
    done = convert_file(path, ENGINES[source], ENGINES[target], output, **options)
    assert check_file(done.path, ENGINES[target]).ok
    return done


@pytest.mark.parametrize("folder", ["estimated", "stand-in"])
def test_a_copy_stays_where_it_says_what_was_not_measured(tmp_path: Path, folder: str) -> None:
    path = _write(tmp_path / folder / "vllm", H200, ENTRY, triton_version="3.5.1")
    done = _convert(path, "vllm", tmp_path / "out")
    assert done.path.is_relative_to(tmp_path / "out" / folder / "sglang")
    assert any(f"comes from {folder}/" in change for change in done.changes)
    findings = check_file(done.path, ENGINES["sglang"]).findings
    assert any(f"under {folder}/" in finding.message for finding in findings)


def test_another_makers_gpu_was_not_tuned_for(tmp_path: Path) -> None:
    path = _write(tmp_path, H200, ENTRY, triton_version="3.5.1")
    done = _convert(path, "vllm", tmp_path / "out", device_name="AMD_Instinct_MI300X")
    assert any("nothing was tuned for AMD_Instinct_MI300X" in change for change in done.changes)
    same = _convert(path, "vllm", tmp_path / "same", device_name="NVIDIA_H200_NVL")
    assert not any("nothing was tuned" in change for change in same.changes)


def test_vllm_to_sglang(tmp_path: Path) -> None:
    """The K that vLLM clamps, the header, and the space in the name."""
    name = f"{H200},dtype=fp8_w8a8,block_shape=[128,128]"
    wide = ENTRY | {"BLOCK_SIZE_K": 256}
    path = _write(tmp_path, name, ENTRY, wide, triton_version="3.5.1")
    done = _convert(path, "vllm", tmp_path / "out")
    folder = tmp_path / "out/sglang/configs/triton_3_5_1"
    assert done.path == folder / f"{H200},dtype=fp8_w8a8,block_shape=[128, 128].json"
    assert json.loads(done.path.read_text()) == {
        "16": ENTRY,
        "32": ENTRY | {"BLOCK_SIZE_K": 128},
    }
    assert done.env_folder == tmp_path / "out/sglang"
    said = "\n".join(done.changes)
    assert "a space in block_shape=[128, 128]" in said
    assert "triton_version 3.5.1 is left out" in said
    assert "BLOCK_SIZE_K 256 is 128, as vLLM launches it" in said
    assert "(at 32)" in said
    assert "--device-name" in said


def test_int4_counts_bytes_and_needs_split_k_on_one_side_alone(tmp_path: Path) -> None:
    path = _write(tmp_path, f"{H200},dtype=int4_w4a16", ENTRY | {"SPLIT_K": 1})
    there = _convert(path, "vllm", tmp_path / "there", triton_version="3.6.0")
    assert there.path.name == "E=8,N=384,device_name=NVIDIA_H200,dtype=int4_w4a16.json"
    assert json.loads(there.path.read_text()) == {"16": ENTRY}
    assert "SPLIT_K 1 is left out: SGLang's kernel has no such key (at 16)" in there.changes
    assert "N=768 is N=384: SGLang counts bytes of two weights" in there.changes
    back = _convert(there.path, "sglang", tmp_path / "back")
    assert back.path.name == path.name
    assert json.loads(back.path.read_text()) == {
        "triton_version": "3.6.0",
        "16": ENTRY | {"SPLIT_K": 1},
    }


def test_sglang_to_vllm(tmp_path: Path) -> None:
    """TMA, the down file, the GPU's family, scales per channel, warps left to Triton."""
    name = "E=8,N=768,device_name=NVIDIA_H200_NVL,dtype=int8_w8a8,per_channel_quant=True"
    bare = {key: value for key, value in ENTRY.items() if not key.startswith("num")}
    folder = tmp_path / "configs/triton_3_2_0"
    path = _write(folder, name, ENTRY | {"USE_TMA": False}, bare)
    _write(folder, f"{name}_down", ENTRY, ENTRY)
    done = _convert(path, "sglang", tmp_path / "out")
    assert done.path == tmp_path / "out/vllm" / f"{H200}.json"
    assert json.loads(done.path.read_text()) == {
        "triton_version": "3.2.0",
        "16": ENTRY,
        "32": ENTRY | {"num_warps": 4, "num_stages": 3},
    }
    said = "\n".join(done.changes)
    for words in (
        "device_name NVIDIA_H200_NVL is NVIDIA_H200",
        "dtype=int8_w8a8 is left out of the name",
        "per_channel_quant=True is left out of the name",
        "triton_version 3.2.0 is added",
        "USE_TMA false is left out (at 16)",
        "num_warps 4 is written: what Triton takes where it is missing (at 32)",
        "_down.json is not read",
        "reads this name for bf16 too",
    ):
        assert words in said


def test_what_the_file_does_not_say(tmp_path: Path) -> None:
    path = _write(tmp_path, f"{H200},dtype=fp8_w8a8", ENTRY)
    with pytest.raises(EngineFileError, match="--triton-version"):
        _convert(path, "vllm", tmp_path)
    done = _convert(
        path,
        "vllm",
        tmp_path,
        triton_version="3.6.0",
        device_name="NVIDIA H200 NVL",
        per_channel_quant=True,
    )
    name = "E=8,N=768,device_name=NVIDIA_H200_NVL,dtype=fp8_w8a8,per_channel_quant=True.json"
    assert done.path.name == name


@pytest.mark.parametrize(
    ("source", "name", "entry", "said"),
    [
        ("sglang", f"{H200}_down", ENTRY, "no file for the down GEMM"),
        ("sglang", "triton", ENTRY, "not a name of SGLang's files"),
        ("vllm", H200, ENTRY | {"SPLIT_K": 4}, "16: SPLIT_K is 4"),
        ("vllm", H200, ENTRY | {"USE_TMA": True}, "16: USE_TMA is not a key"),
        ("vllm", H200, ENTRY | {"BLOCK_SIZE_M": 12}, "a power of two"),
        ("vllm", H200, ENTRY | {"BLOCK_SIZE_M": 256}, "256 rows with 4 warps"),
        (
            "sglang",
            f"{H200},dtype=fp8_w8a8,block_shape=[128, 128]",
            ENTRY | {"BLOCK_SIZE_K": 256},
            "does not divide the scale block",
        ),
    ],
)
def test_refusals(tmp_path: Path, source: str, name: str, entry: dict[str, Any], said: str) -> None:
    path = _write(tmp_path, name, entry, entry)
    with pytest.raises(EngineFileError, match=said):
        _convert(path, source, tmp_path / "out", triton_version="3.6.0")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = _write(tmp_path, H200, ENTRY)
    done = _convert(path, "vllm", tmp_path / "out", triton_version="3.6.0")
    before = done.path.read_text()
    with pytest.raises(EngineFileError, match="there already"):
        _convert(path, "vllm", tmp_path / "out", triton_version="3.6.0")
    assert done.path.read_text() == before


def test_a_file_may_be_named(tmp_path: Path) -> None:
    path = _write(tmp_path, H200, ENTRY)
    wanted = tmp_path / "configs/triton_3_6_0" / f"{H200}.json"
    assert _convert(path, "vllm", wanted, triton_version="3.6.0").path == wanted
    elsewhere = tmp_path / "other.json"
    with pytest.raises(EngineFileError, match="would never read"):
        _convert(path, "vllm", elsewhere, triton_version="3.6.0")
