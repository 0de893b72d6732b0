"""Every way in which checkpoints say how their experts are stored."""

from __future__ import annotations

from typing import Any

import pytest

from autotune.models.quantization import read_quantization
from autotune.spec.problem import Dtype


def stored(section: Any, **fields: Any) -> tuple[Dtype | None, tuple[int, int] | None, bool, bool]:
    found = read_quantization({"quantization_config": section, **fields})
    assert found is not None
    return found.dtype, found.block_shape, found.per_channel_quant, found.zero_points


def compressed(weights: dict[str, Any], activations: dict[str, Any] | None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


def weights(bits: int, kind: str, strategy: str, **more: Any) -> dict[str, Any]:
    return {"num_bits": bits, "type": kind, "strategy": strategy, "symmetric": True, **more}


TOKEN_FP8 = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
TOKEN_INT8 = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
TENSOR_FP8 = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
            (Dtype.FP8_W8A8, (128, 128), False),
        ),
        ({"quant_method": "fp8"}, (Dtype.FP8_W8A8, None, False)),
        ({"quant_method": "fp8", "weight_block_size": None}, (Dtype.FP8_W8A8, None, False)),
        ({"quant_method": "w8a8_fp8"}, (Dtype.FP8_W8A8, None, True)),
        ({"quant_method": "fbgemm_fp8"}, (Dtype.FP8_W8A8, None, True)),
        ({"quant_method": "w8a8_int8"}, (Dtype.INT8_W8A8, None, True)),
        (
            {"quant_method": "blockwise_int8", "weight_block_size": [128, 128]},
            (Dtype.INT8_W8A8, (128, 128), False),
        ),
        ({"quant_method": "experts_int8"}, (Dtype.INT8_W8A16, None, False)),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, (Dtype.FP8_W8A8, None, False)),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, (None, None, False)),
        ({"quant_method": "mxfp4"}, (None, None, False)),
        ({"quant_method": "bitsandbytes"}, (None, None, False)),
        ({"something": 1}, (None, None, False)),
    ],
)
def test_whole_weight_methods(section: Any, expected: tuple[Any, ...]) -> None:
    assert stored(section) == (*expected, False)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
            (Dtype.INT4_W4A16, (0, 128), False, True),
        ),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True},
            (Dtype.INT4_W4A16, (0, 64), False, False),
        ),
        (
            {"quant_method": "gptq", "bits": 8, "group_size": 128, "sym": False},
            (Dtype.INT8_W8A16, (0, 128), False, True),
        ),
        (
            {"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True},
            (Dtype.INT8_W8A16, None, False, False),
        ),
        ({"quant_method": "gptq", "bits": 3, "group_size": 64}, (None, (0, 64), False, False)),
        (
            {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True},
            (Dtype.INT4_W4A16, (0, 128), False, False),
        ),
    ],
)
def test_integer_groups(section: Any, expected: tuple[Any, ...]) -> None:
    assert stored(section) == expected


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            compressed(weights(8, "float", "channel", group_size=None), TOKEN_FP8),
            (Dtype.FP8_W8A8, None, True, False),
        ),
        (
            compressed(weights(8, "int", "channel", group_size=None), TOKEN_INT8),
            (Dtype.INT8_W8A8, None, True, False),
        ),
        (
            compressed(weights(8, "float", "tensor"), TENSOR_FP8),
            (Dtype.FP8_W8A8, None, False, False),
        ),
        (
            compressed(
                weights(8, "float", "block", block_structure=[128, 128]),
                {**TOKEN_FP8, "strategy": "group", "group_size": 128},
            ),
            (Dtype.FP8_W8A8, (128, 128), False, False),
        ),
        (
            compressed(weights(8, "float", "block", block_structure="128x128"), TOKEN_FP8),
            (Dtype.FP8_W8A8, (128, 128), False, False),
        ),
        (
            compressed(weights(4, "int", "group", group_size=32), None),
            (Dtype.INT4_W4A16, (0, 32), False, False),
        ),
        (
            compressed(weights(4, "int", "group", group_size=128, symmetric=False), None),
            (Dtype.INT4_W4A16, (0, 128), False, True),
        ),
        (
            compressed(weights(8, "int", "channel", group_size=None), None),
            (Dtype.INT8_W8A16, None, False, False),
        ),
        # nvfp4, and fp8 weights without quantised activations: not computed here
        (
            compressed(
                weights(4, "float", "tensor_group", group_size=16), {"num_bits": 4, "type": "float"}
            ),
            (None, (0, 16), False, False),
        ),
        (compressed(weights(8, "float", "channel"), None), (None, None, False, False)),
        ({"quant_method": "compressed-tensors"}, (None, None, False, False)),
    ],
)
def test_compressed_tensors(section: Any, expected: tuple[Any, ...]) -> None:
    assert stored(section) == expected


def test_compressed_tensors_without_a_method_name() -> None:
    section = compressed(weights(8, "float", "channel"), TOKEN_FP8)
    del section["quant_method"]
    assert stored(section)[0] is Dtype.FP8_W8A8


@pytest.mark.parametrize("section", [None, {}, "fp8"])
def test_an_unquantised_checkpoint(section: Any) -> None:
    assert read_quantization({"quantization_config": section}) is None
    assert read_quantization({}) is None


def test_the_section_may_sit_in_the_language_models_part() -> None:
    found = read_quantization({"text_config": {"quantization_config": {"quant_method": "fp8"}}})
    assert found is not None
    assert found.dtype is Dtype.FP8_W8A8


def test_fp4_experts_in_an_fp8_checkpoint_are_not_fp8() -> None:
    section = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    assert stored(section, expert_dtype="fp4")[0] is None
