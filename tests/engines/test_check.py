"""The check of engine files: on the shipped ones, and on each mistake."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from engine_cases import BLOCK_FP8, H200, LARGE, SHIPPED, SMALL, make_problem, needs_shipped

from autotune.engines import DEFAULT_TOKENS, ENGINES, CheckReport, Level, check_file
from autotune.errors import EngineFileError
from autotune.spec.config import Config
from autotune.spec.problem import Dtype

SGLANG, VLLM = ENGINES["sglang"], ENGINES["vllm"]
NAME = "E=8,N=14336,device_name=NVIDIA_H200.json"
FOLDER = "configs/triton_3_6_0"
FULL = {str(tokens): SMALL.as_keys() for tokens in DEFAULT_TOKENS}


def place(folder: Path, body: object, *, name: str = NAME, inside: str = FOLDER) -> Path:
    path = folder / inside / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body if isinstance(body, str) else json.dumps(body))
    return path


def messages(report: CheckReport, level: Level = Level.ERROR) -> list[tuple[str, str]]:
    return [(found.key, found.message) for found in report.findings if found.level is level]


def only(report: CheckReport, level: Level = Level.ERROR) -> tuple[str, str]:
    (message,) = messages(report, level)
    return message


@needs_shipped
@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (
            "sglang",
            {
                ("file", "no entry"): 17,
                ("pair", "only one"): 4,
                ("pair", "without E="): 2,
                ("M", "num_warps and"): 2,
            },
        ),
        # vLLM 0.33.0 ships six block-wise fp8 files with BLOCK_SIZE_K 256 for a block of 128
        ("vllm", {("M", "vLLM clamps"): 34}),
    ],
)
def test_shipped_files_have_no_errors_and_these_warnings(engine: str, expected) -> None:
    seen: Counter[tuple[str, str]] = Counter()
    for path in sorted((SHIPPED / engine).rglob("*.json")):
        report = check_file(path, ENGINES[engine])
        assert messages(report) == [], path
        for key, message in messages(report, Level.WARNING):
            seen["M" if key.isdigit() else key, " ".join(message.split(" ")[:2])[:10]] += 1
    assert seen == {(key, start[:10]): count for (key, start), count in expected.items()}


@needs_shipped
def test_vllms_files_with_block_size_k_256_would_be_errors_for_sglang(tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    for path in sorted((SHIPPED / "vllm").rglob("*block_shape*.json")):
        body = json.loads(path.read_text())
        body.pop("triton_version", None)
        name = path.name.replace("[128,128]", "[128, 128]")
        report = check_file(place(tmp_path, body, name=name), SGLANG)
        found[path.name.split(",device")[0]] += len(messages(report))
    assert {name: count for name, count in found.items() if count} == {
        "E=128,N=512": 6,
        "E=16,N=4096": 1,
        "E=256,N=512": 9,
        "E=32,N=2048": 2,
        "E=384,N=128": 7,
        "E=8,N=2048": 9,
    }


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_a_good_file(engine, tmp_path: Path) -> None:
    path = place(tmp_path, FULL)
    report = check_file(path, engine, triton_version="3.6.0")
    assert report.ok
    assert report.findings == ()
    assert report.env_variable == engine.env_variable
    assert report.env_folder == (tmp_path if engine is SGLANG else path.parent)
    assert report.reads == path


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize(
    ("folder", "word"),
    [("stand-in", "on our kernel"), ("estimated", "a model"), ("replayed", "a recording")],
)
def test_a_folder_that_tells_what_was_not_measured(
    engine, folder: str, word: str, tmp_path: Path
) -> None:
    path = place(tmp_path / folder / engine.name, FULL)
    if engine is VLLM:
        path = path.rename(tmp_path / folder / engine.name / path.name)
    report = check_file(path, engine)
    assert report.ok
    key, message = only(report, Level.WARNING)
    assert key == "folder"
    assert f"under {folder}/" in message
    assert word in message


def test_an_estimated_file_for_a_gpu_that_was_never_recorded(tmp_path: Path) -> None:
    """Its warning must not read as one on the H200's model does."""
    path = tmp_path / "estimated" / "vllm" / "E=8,N=64,device_name=AMD_Instinct_MI300X.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(FULL))
    assert any(
        "its error there is not known" in each.message for each in check_file(path, VLLM).findings
    )


def test_a_missing_file_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(EngineFileError, match="not a file"):
        check_file(tmp_path / NAME, SGLANG)


@pytest.mark.parametrize(
    ("engine", "name", "word"),
    [
        ("sglang", "best.json", "no engine file's name"),
        ("sglang", "E=8,N=4,device_name=A,dtype=fp8_w8a8,block_shape=[128,128].json", "[128, 128]"),
        ("vllm", "E=8,N=4,device_name=A,dtype=fp8_w8a8,block_shape=[128, 128].json", "[128,128]"),
        ("sglang", "E=8,N=4,device_name=A,dtype=bf16.json", "device_name=A.json"),
        ("vllm", "E=8,N=4,device_name=A,dtype=int8_w8a8.json", "device_name=A.json"),
        (
            "vllm",
            "E=8,N=4,device_name=A,dtype=fp8_w8a8,per_channel_quant=True.json",
            "fp8_w8a8.json",
        ),
        ("sglang", "E=8,N=4,device_name=A,per_channel_quant=False.json", "device_name=A.json"),
        ("vllm", "E=8,N=4,device_name=NVIDIA_H200_NVL.json", "NVIDIA_H200.json"),
        ("sglang", "E=8,N=4,device_name=NVIDIA H200.json", "NVIDIA_H200.json"),
        ("vllm", "E=8,N=4,device_name=A_down.json", "one file serves both"),
        (
            "sglang",
            "E=8,N=5,device_name=A,dtype=int4_w4a16,block_shape=[0, 128].json",
            "int4_w4a16.json",
        ),
    ],
)
def test_names_that_are_never_looked_for(tmp_path: Path, engine: str, name: str, word: str) -> None:
    key, message = only(check_file(place(tmp_path, FULL, name=name), ENGINES[engine]))
    assert key == "name"
    assert word in message


def test_an_unknown_dtype(tmp_path: Path) -> None:
    path = place(tmp_path, FULL, name="E=8,N=4,device_name=A,dtype=fp8.json")
    assert "fp8_w8a8" in messages(check_file(path, SGLANG))[0][1]


@pytest.mark.parametrize("inside", [".", "triton_3_6_0", "configs", "configs/triton_3_4_0+git"])
def test_sglang_needs_its_folders_and_vllm_does_not(tmp_path: Path, inside: str) -> None:
    path = place(tmp_path, FULL, inside=inside)
    report = check_file(path, SGLANG)
    assert only(report)[0] == "folder"
    assert report.env_folder is None
    assert check_file(path, VLLM).ok


@pytest.mark.parametrize("text", ["{", "[]", "", "[" * 100_000, "\x00"])
def test_not_json(tmp_path: Path, text: str) -> None:
    assert only(check_file(place(tmp_path, text), SGLANG))[0] == "file"


@pytest.mark.parametrize(
    ("engine", "key", "entry", "word"),
    [
        ("sglang", "triton_version", "3.6.0", "fails to load"),
        ("sglang", "default", SMALL.as_keys(), "fails to load"),
        ("vllm", "1.5", SMALL.as_keys(), "fails to load"),
        ("sglang", "1", {**SMALL.as_keys(), "SPLIT_K": 1}, "SPLIT_K is not a key"),
        ("vllm", "1", {**SMALL.as_keys(), "USE_TMA": False}, "USE_TMA is not a key"),
        ("sglang", "1", {**SMALL.as_keys(), "USE_TMA": 1}, "true or false"),
        ("vllm", "1", {**SMALL.as_keys(), "SPLIT_K": 4}, "only 1 is launched"),
        ("sglang", "1", {**SMALL.as_keys(), "waves_per_eu": 0}, "a key for AMD"),
        ("sglang", "1", {**SMALL.as_keys(), "BLOCK_SIZE_M": 48}, "power of two"),
        ("sglang", "1", {**SMALL.as_keys(), "BLOCK_SIZE_N": 64.0}, "an integer"),
        ("sglang", "1", {**SMALL.as_keys(), "num_stages": True}, "an integer"),
        ("sglang", "1", {**SMALL.as_keys(), "GROUP_SIZE_M": -1}, "positive"),
        ("sglang", "1", {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 64}, "is missing"),
        ("vllm", "1", [], "an object"),
    ],
)
def test_entries_that_break(tmp_path: Path, engine: str, key: str, entry, word: str) -> None:
    report = check_file(place(tmp_path, {**FULL, key: entry}), ENGINES[engine])
    assert not report.ok
    where, message = only(report)
    assert where == key
    assert word in message


def test_vllms_int4_needs_split_k(tmp_path: Path) -> None:
    name = VLLM.file_name(make_problem(Dtype.INT4_W4A16, block_shape=(0, 128)), H200)
    bad = {**FULL, "1": {**SMALL.as_keys(), "SPLIT_K": 1}}
    errors = messages(check_file(place(tmp_path, bad, name=name), VLLM))
    assert [key for key, _ in errors] == [key for key in FULL if key != "1"]
    assert "SPLIT_K: 1 is missing" in errors[0][1]
    good = {key: {**entry, "SPLIT_K": 1} for key, entry in FULL.items()}
    assert check_file(place(tmp_path, good, name=name), VLLM).findings == ()


def test_block_size_k_beyond_the_scale_block(tmp_path: Path) -> None:
    body = {**FULL, "8": Config(16, 64, 256, 1).as_keys()}
    sglang = check_file(place(tmp_path, body, name=SGLANG.file_name(BLOCK_FP8, H200)), SGLANG)
    assert "does not divide" in only(sglang)[1]
    vllm = check_file(place(tmp_path, body, name=VLLM.file_name(BLOCK_FP8, H200)), VLLM)
    assert vllm.ok
    assert "16x64x128" in only(vllm, Level.WARNING)[1]


def test_tma_where_it_cannot_be_used(tmp_path: Path) -> None:
    name = SGLANG.file_name(make_problem(Dtype.INT8_W8A8), H200)
    body = {**FULL, "8": {**SMALL.as_keys(), "USE_TMA": True}}
    assert "TMA is for" in only(check_file(place(tmp_path, body, name=name), SGLANG))[1]


MI300X = "E=8,N=14336,device_name=AMD_Instinct_MI300X.json"
AMD_ENTRY = SMALL.as_keys() | {"num_stages": 2, "waves_per_eu": 0}
"""SMALL's tiles, as an AMD file has them."""


@pytest.mark.parametrize(
    ("keys", "level", "word"),
    [
        ({"num_warps": 32}, Level.ERROR, "2048 threads"),
        (
            {f"BLOCK_SIZE_{side}": 256 for side in "MNK"} | {"num_stages": 5},
            Level.ERROR,
            "262144 bytes",
        ),
        ({"num_stages": 16}, Level.WARNING, "for 16 stages"),
        ({"waves_per_eu": 99}, Level.WARNING, "waves_per_eu is 99"),
        ({"matrix_instr_nonkdim": 7}, Level.WARNING, "only 0, 16, 32 mean something"),
        ({"kpack": 4}, Level.WARNING, "kpack is 4"),
    ],
)
def test_an_amd_gpu_has_limits_and_values_of_its_own(
    tmp_path: Path, keys: dict[str, int], level: Level, word: str
) -> None:
    body = {str(tokens): AMD_ENTRY for tokens in DEFAULT_TOKENS}
    assert not check_file(place(tmp_path, body, name=MI300X), VLLM).findings
    path = place(tmp_path, body | {"64": AMD_ENTRY | keys}, name=MI300X)
    key, message = only(check_file(path, VLLM), level)
    assert (key, word in message) == ("64", True)


def test_missing_token_counts(tmp_path: Path) -> None:
    body = {key: entry for key, entry in FULL.items() if key not in ("24", "4096")}
    key, message = only(check_file(place(tmp_path, body), SGLANG), Level.WARNING)
    assert key == "file"
    assert "no entry for 24, 4096 tokens" in message


def test_another_triton_version(tmp_path: Path) -> None:
    older = place(tmp_path, FULL)
    report = check_file(older, SGLANG, triton_version="3.7.0")
    assert "falls back" in only(report, Level.WARNING)[1]
    newer = place(tmp_path, FULL, inside="configs/triton_3_7_0")
    report = check_file(older, SGLANG, triton_version="3.7.0")
    assert report.reads == newer
    assert "instead" in only(report, Level.WARNING)[1]

    vllm = place(tmp_path, {"triton_version": "3.6.0", **FULL}, inside="flat")
    report = check_file(vllm, VLLM, triton_version="3.7.0")
    assert only(report, Level.WARNING) == ("triton_version", "tuned with 3.6.0, not 3.7.0")


class TestPairs:
    DOWN = NAME.replace(".json", "_down.json")

    def test_equal_keys_and_block_size_m(self, tmp_path: Path) -> None:
        up, down = place(tmp_path, FULL), place(tmp_path, FULL, name=self.DOWN)
        assert check_file(up, SGLANG).findings == check_file(down, SGLANG).findings == ()

    def test_down_without_up(self, tmp_path: Path) -> None:
        key, message = only(check_file(place(tmp_path, FULL, name=self.DOWN), SGLANG))
        assert (key, NAME in message) == ("pair", True)

    def test_up_whose_down_file_lies_in_another_version(self, tmp_path: Path) -> None:
        up = place(tmp_path, FULL)
        place(tmp_path, FULL, name=self.DOWN, inside="configs/triton_3_2_0")
        assert "triton_3_2_0" in only(check_file(up, SGLANG), Level.WARNING)[1]

    def test_different_keys(self, tmp_path: Path) -> None:
        up = place(tmp_path, FULL)
        place(tmp_path, {**FULL, "8192": SMALL.as_keys()}, name=self.DOWN)
        assert "8192" in only(check_file(up, SGLANG), Level.WARNING)[1]

    def test_different_block_size_m_between_keys(self, tmp_path: Path) -> None:
        """Up switches to 128 rows between 8 and 16 tokens, down between 4 and 16."""
        small, large = SMALL.as_keys(), LARGE.as_keys()
        up = place(tmp_path, {"4": small, "8": small, "16": large})
        down = place(tmp_path, {"4": small, "16": large}, name=self.DOWN)
        for path in (up, down):
            report = check_file(path, SGLANG)
            assert report.ok  # SGLang warns of it and goes on
            messages = [f.message for f in report.findings if f.key == "pair"]
            words = "at 11 tokens up has BLOCK_SIZE_M 16 and down 128"
            assert [m.startswith(words) for m in messages].count(True) == 1

    def test_a_broken_sibling(self, tmp_path: Path) -> None:
        up = place(tmp_path, FULL)
        place(tmp_path, "{", name=self.DOWN)
        assert only(check_file(up, SGLANG))[0] == "pair"


def test_a_file_whose_name_is_never_looked_for_is_found_with_nothing(tmp_path: Path) -> None:
    name = "E=8,N=1024,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128, 128].json"
    report = check_file(place(tmp_path, FULL, name=name), ENGINES["vllm"])
    [said] = [text for _, text in messages(report) if "never looks for this name" in text]
    assert "by spelling alone it would be E=8,N=1024,device_name=NVIDIA_H200,dtype=fp8_w8a8" in said
    assert said.endswith("for a model, 'autotune doctor --model' says the name")
    assert report.env_folder is None
