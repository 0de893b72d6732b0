"""The engines' defaults, by hand: (dtype, block shape, E, M) → M/N/K, G, warps, stages."""

from __future__ import annotations

import pytest
from engine_cases import H200, MI300X, make_device, make_problem

from autotune.engines import ENGINES
from autotune.spec.config import Config
from autotune.spec.problem import Dtype

ADA = make_device("NVIDIA L40S", arch=89, shared_bytes=101376)
BLOCKS = (128, 128)

SGLANG = [
    (Dtype.BF16, None, 8, 8, (16, 32, 64, 1, 4, 3)),
    (Dtype.BF16, None, 8, 9, (64, 64, 32, 8, 4, 3)),
    (Dtype.FP16, None, 64, 64, (16, 32, 64, 1, 4, 3)),
    (Dtype.FP32, None, 8, 4096, (64, 64, 32, 8, 4, 3)),
    (Dtype.INT8_W8A8, None, 8, 1, (16, 32, 64, 1, 4, 3)),
    (Dtype.INT8_W8A16, None, 8, 16, (64, 64, 32, 8, 4, 3)),
    (Dtype.INT4_W4A16, (0, 128), 8, 8, (16, 32, 64, 1, 4, 3)),
    (Dtype.FP8_W8A8, None, 8, 8, (64, 128, 128, 1, 4, 4)),
    (Dtype.FP8_W8A8, None, 8, 9, (128, 256, 128, 32, 8, 4)),
    (Dtype.FP8_W8A8, BLOCKS, 256, 1, (64, 128, 128, 32, 4, 3)),
    (Dtype.FP8_W8A8, BLOCKS, 256, 4096, (64, 128, 128, 32, 4, 3)),
    (Dtype.FP8_W8A8, (64, 32), 256, 1, (64, 64, 32, 32, 4, 3)),
]

VLLM = [
    (Dtype.BF16, None, 8, 1, (16, 64, 128, 1, 4, 4)),
    (Dtype.BF16, None, 8, 32, (16, 64, 128, 1, 4, 4)),
    (Dtype.BF16, None, 8, 33, (32, 64, 128, 1, 4, 3)),
    (Dtype.BF16, None, 8, 64, (32, 64, 128, 1, 4, 3)),
    (Dtype.BF16, None, 8, 96, (32, 128, 64, 1, 4, 3)),
    (Dtype.BF16, None, 8, 97, (64, 128, 64, 1, 4, 3)),
    (Dtype.FP16, None, 8, 128, (64, 128, 64, 1, 4, 3)),
    (Dtype.BF16, None, 8, 129, (64, 128, 64, 1, 8, 3)),
    (Dtype.BF16, None, 8, 512, (64, 128, 64, 1, 8, 3)),
    (Dtype.BF16, None, 8, 1024, (128, 128, 64, 1, 8, 3)),
    (Dtype.BF16, None, 8, 1032, (128, 128, 64, 16, 8, 3)),
    (Dtype.BF16, None, 128, 4096, (128, 128, 64, 1, 8, 3)),
    (Dtype.INT8_W8A8, None, 8, 16, (16, 64, 128, 1, 4, 4)),
    (Dtype.INT8_W8A16, None, 8, 96, (32, 128, 64, 1, 4, 3)),
    (Dtype.FP8_W8A8, None, 8, 96, (32, 128, 128, 1, 4, 3)),
    (Dtype.FP8_W8A8, None, 8, 4096, (128, 128, 128, 16, 8, 3)),
    (Dtype.FP8_W8A8, BLOCKS, 256, 4, (16, 64, 128, 1, 4, 4)),
    (Dtype.FP8_W8A8, BLOCKS, 256, 8, (16, 64, 128, 1, 4, 3)),
    (Dtype.FP8_W8A8, BLOCKS, 256, 16, (16, 128, 128, 1, 4, 3)),
    (Dtype.FP8_W8A8, BLOCKS, 256, 64, (16, 128, 128, 32, 4, 3)),
    (Dtype.FP8_W8A8, BLOCKS, 256, 65, (64, 128, 128, 32, 4, 3)),
    (Dtype.FP8_W8A8, (32, 128), 256, 4, (16, 32, 128, 1, 4, 3)),
    (Dtype.INT4_W4A16, (0, 128), 8, 1, (16, 32, 64, 1, 4, 3)),
    (Dtype.INT4_W4A16, (0, 128), 8, 20, (16, 64, 32, 1, 4, 3)),
    (Dtype.INT4_W4A16, (0, 128), 8, 40, (32, 64, 32, 1, 4, 3)),
    (Dtype.INT8_W8A16, (0, 128), 8, 41, (64, 64, 32, 1, 4, 3)),
]


@pytest.mark.parametrize(
    ("engine", "row"),
    [("sglang", row) for row in SGLANG] + [("vllm", row) for row in VLLM],
    ids=lambda value: value if isinstance(value, str) else f"{value[0].value}-M{value[3]}",
)
def test_default_table(engine: str, row) -> None:
    dtype, block_shape, experts, tokens, expected = row
    problem = make_problem(dtype, block_shape=block_shape, experts=experts, tokens=tokens)
    assert ENGINES[engine].default_config(problem, H200) == Config(*expected)


@pytest.mark.parametrize(
    ("tokens", "expected"), [(8, (32, 64, 256, 1, 4, 4)), (9, (64, 128, 256, 64, 4, 2))]
)
def test_sglang_fits_fp8_into_little_shared_memory(tokens: int, expected) -> None:
    problem = make_problem(Dtype.FP8_W8A8, tokens=tokens)
    assert ENGINES["sglang"].default_config(problem, ADA) == Config(*expected)


def test_two_stages_on_amd() -> None:
    for engine, dtype, block_shape in [
        ("sglang", Dtype.FP8_W8A8, None),
        ("sglang", Dtype.FP8_W8A8, BLOCKS),
        ("vllm", Dtype.BF16, None),
        ("vllm", Dtype.FP8_W8A8, BLOCKS),
    ]:
        problem = make_problem(dtype, block_shape=block_shape)
        assert ENGINES[engine].default_config(problem, MI300X).num_stages == 2
