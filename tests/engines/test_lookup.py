"""Differences of the two engines in what they read and write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_cases import BLOCK_FP8, H200, LARGE, MI300X, SMALL, make_device, make_problem

from autotune.engines import ENGINES
from autotune.errors import EngineFileError
from autotune.spec.config import Config
from autotune.spec.problem import Dtype

SGLANG, VLLM = ENGINES["sglang"], ENGINES["vllm"]


def put(folder: Path, version: str, config: Config, *, down: bool = False) -> Path:
    name = SGLANG.file_name(make_problem(), H200, down=down)
    path = folder / "configs" / version / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"1": config.as_keys()}))
    return path


def test_sglang_reads_its_own_triton_version_first(tmp_path: Path) -> None:
    put(tmp_path, "triton_3_7_0", LARGE)
    own = put(tmp_path, "triton_3_6_0", SMALL)
    found = SGLANG.lookup(tmp_path, make_problem(), H200, 1)
    assert found is not None
    assert (found.path, found.is_fallback) == (own, False)


def test_sglang_falls_back_to_the_newest_version_by_number(tmp_path: Path) -> None:
    put(tmp_path, "triton_3_2_0", SMALL)
    newest = put(tmp_path, "triton_3_10_1", LARGE)
    put(tmp_path, "triton_3_9_0", SMALL)
    put(tmp_path, "triton_nightly", SMALL)
    (tmp_path / "configs" / "README.md").write_text("")
    found = SGLANG.lookup(tmp_path, make_problem(), H200, 1)
    assert found is not None
    assert (found.path, found.is_fallback) == (newest, True)


def test_sglang_searches_the_down_file_in_all_versions_before_it_takes_the_up_config(
    tmp_path: Path,
) -> None:
    up = put(tmp_path, "triton_3_6_0", SMALL)
    found = SGLANG.lookup(tmp_path, make_problem(), H200, 1, down=True)
    assert found is not None
    assert found.path == up
    older = put(tmp_path, "triton_3_2_0", LARGE, down=True)
    found = SGLANG.lookup(tmp_path, make_problem(), H200, 1, down=True)
    assert found is not None
    assert (found.path, found.config) == (older, LARGE)


def test_sglang_writes_no_folder_that_breaks_its_scan(tmp_path: Path) -> None:
    device = make_device(triton_version="3.4.0+git1a2b")
    path = SGLANG.path(tmp_path, make_problem(), device)
    assert path.parent == tmp_path / "sglang" / "configs" / "triton_3_4_0"
    put(tmp_path / "sglang", "triton_3_4_0", SMALL)
    found = SGLANG.lookup(tmp_path / "sglang", make_problem(), device, 1)
    assert found is not None
    assert not found.is_fallback


def test_sglang_finds_the_newer_layout_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moe = tmp_path / "sglang" / "srt" / "layers" / "moe"
    for layout in ("fused_moe_triton", "moe_runner/triton_utils"):
        (moe / layout / "configs").mkdir(parents=True)
    (tmp_path / "sglang" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert SGLANG.installed_config_folder() == moe / "moe_runner" / "triton_utils"


@pytest.mark.parametrize("problem", [make_problem(), make_problem(Dtype.FP16), BLOCK_FP8])
@pytest.mark.parametrize("use_tma", [True, False])
def test_sglang_writes_tma_where_it_can_be_used(problem, use_tma: bool) -> None:
    config = Config(64, 64, 64, 1, use_tma=use_tma)
    body = SGLANG.body({1: config}, problem, H200)
    assert body["1"]["USE_TMA"] is use_tma
    assert SGLANG.parse(body) == {1: config}


@pytest.mark.parametrize(
    ("problem", "device"),
    [
        (make_problem(Dtype.FP8_W8A8), H200),
        (make_problem(Dtype.INT8_W8A8), H200),
        (make_problem(), make_device("NVIDIA A100-SXM4-80GB", arch=80)),
        (make_problem(), MI300X),
    ],
)
def test_tma_elsewhere_is_illegal_and_its_absence_is_not_written(problem, device) -> None:
    with_tma, without = Config(64, 64, 64, 1, use_tma=True), Config(64, 64, 64, 1, use_tma=False)
    assert "TMA" in str(SGLANG.why_illegal(problem, device, with_tma))
    assert SGLANG.why_illegal(problem, device, without) is None
    assert "USE_TMA" not in SGLANG.body({1: without}, problem, device)["1"]


def test_vllm_has_no_tma() -> None:
    assert "USE_TMA" in str(
        VLLM.why_illegal(make_problem(), H200, Config(16, 64, 64, 1, use_tma=True))
    )
    body = VLLM.body({1: Config(16, 64, 64, 1, use_tma=False)}, make_problem(), H200)
    assert "USE_TMA" not in body["1"]


def test_each_engine_fails_on_the_keys_of_the_other() -> None:
    with pytest.raises(EngineFileError, match="triton_version"):
        SGLANG.parse({"triton_version": "3.6.0", "1": SMALL.as_keys()})
    with pytest.raises(EngineFileError, match="SPLIT_K"):
        SGLANG.parse({"1": {**SMALL.as_keys(), "SPLIT_K": 1}})
    with pytest.raises(EngineFileError, match="USE_TMA"):
        VLLM.parse({"1": {**SMALL.as_keys(), "USE_TMA": False}})


def test_vllm_puts_the_triton_version_first() -> None:
    body = VLLM.body({1: SMALL}, make_problem(), H200)
    assert next(iter(body.items())) == ("triton_version", "3.6.0")


@pytest.mark.parametrize(
    ("dtype", "block_shape", "has_split_k"),
    [
        (Dtype.INT4_W4A16, (0, 128), True),
        (Dtype.INT8_W8A16, (0, 128), True),
        (Dtype.INT8_W8A16, None, False),
        (Dtype.FP8_W8A8, (128, 128), False),
        (Dtype.BF16, None, False),
    ],
)
def test_vllm_writes_split_k_for_its_grouped_integer_kernel(
    dtype: Dtype, block_shape, has_split_k: bool
) -> None:
    problem = make_problem(dtype, block_shape=block_shape)
    body = VLLM.body({1: SMALL}, problem, H200)
    assert body["1"].get("SPLIT_K") == (1 if has_split_k else None)
    assert VLLM.parse(body) == {1: SMALL}


def test_vllm_clamps_block_size_k_to_the_scale_block(tmp_path: Path) -> None:
    config = Config(16, 64, 256, 1)
    path = tmp_path / VLLM.file_name(BLOCK_FP8, H200)
    path.write_text(json.dumps({"1": config.as_keys()}))
    found = VLLM.lookup(tmp_path, BLOCK_FP8, H200, 1)
    assert found is not None
    assert found.config == Config(16, 64, 128, 1)
    assert SGLANG.launched(BLOCK_FP8, config) == config
    assert VLLM.launched(make_problem(), config) == config
