"""Shapes split over ranks: dtypes, scales, fusion, and what cannot work."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from autotune.errors import ModelError, UsageError
from autotune.models.load import load_shape
from autotune.models.parse import parse_shape, shape_of_config
from autotune.models.problems import _warn_once, problem_of
from autotune.models.shape import ModelShape, WeightQuantization
from autotune.spec.problem import Dtype, Problem

MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"


@pytest.fixture(autouse=True)
def _forget_warnings() -> None:
    _warn_once.cache_clear()


def problem(shape: ModelShape | str, *, dtype: Dtype | None = None, **more: Any) -> Problem:
    return problem_of(
        load_shape(shape) if isinstance(shape, str) else shape,
        dtype,
        **{"tokens": 16, "routing": "uniform", **more},
    )


def test_deepseek_v3_at_tp_8_is_the_problem_that_sglang_serves() -> None:
    assert problem(
        "deepseek-ai/DeepSeek-V3", tp_size=8, fused_shared_experts=1, tokens=64, routing="zipf:1"
    ) == Problem(
        experts=257,
        top_k=9,
        hidden=7168,
        intermediate=256,
        tokens=64,
        dtype=Dtype.FP8_W8A8,
        block_shape=(128, 128),
        fused_shared_experts=1,
        routing="zipf:1",
    )


def test_a_rank_of_an_expert_parallel_layer() -> None:
    ep = problem("zai-org/GLM-4.5", ep_size=8, ep_rank=3)
    assert (ep.experts, ep.top_k, ep.intermediate, ep.fused_shared_experts) == (20, 8, 1536, 0)
    assert (ep.ep_size, ep.ep_rank) == (8, 3)


# (model, dtype flag, per-channel flag) → (dtype, block shape, per channel)
DTYPES = [
    (MIXTRAL, None, False, (Dtype.BF16, None, False)),
    (MIXTRAL, Dtype.FP8_W8A8, False, (Dtype.FP8_W8A8, None, False)),
    (MIXTRAL, Dtype.FP8_W8A8, True, (Dtype.FP8_W8A8, None, True)),
    (MIXTRAL, Dtype.INT8_W8A8, True, (Dtype.INT8_W8A8, None, True)),
    (MIXTRAL, Dtype.INT8_W8A16, False, (Dtype.INT8_W8A16, None, False)),
    (MIXTRAL, Dtype.INT4_W4A16, False, (Dtype.INT4_W4A16, (0, 128), False)),
    (MIXTRAL, Dtype.FP16, False, (Dtype.FP16, None, False)),
    ("deepseek-ai/DeepSeek-R1", None, False, (Dtype.FP8_W8A8, (128, 128), False)),
    ("deepseek-ai/DeepSeek-R1", Dtype.FP8_W8A8, False, (Dtype.FP8_W8A8, (128, 128), False)),
    ("deepseek-ai/DeepSeek-R1", Dtype.BF16, False, (Dtype.BF16, None, False)),
    ("deepseek-ai/DeepSeek-R1", Dtype.INT8_W8A8, True, (Dtype.INT8_W8A8, None, True)),
    ("meituan/DeepSeek-R1-Channel-INT8", None, False, (Dtype.INT8_W8A8, None, True)),
    ("meituan/DeepSeek-R1-Channel-INT8", Dtype.INT8_W8A8, False, (Dtype.INT8_W8A8, None, True)),
    ("zai-org/GLM-4.5-FP8", None, True, (Dtype.FP8_W8A8, None, True)),
    ("openai/gpt-oss-20b", Dtype.BF16, False, (Dtype.BF16, None, False)),
]


@pytest.mark.parametrize(("model", "dtype", "per_channel", "expected"), DTYPES)
def test_dtype_and_scales(
    model: str, dtype: Dtype | None, per_channel: bool, expected: tuple[Any, ...]
) -> None:
    found = problem(model, dtype=dtype, per_channel_quant=per_channel)
    assert (found.dtype, found.block_shape, found.per_channel_quant) == expected


def test_auto_is_the_checkpoints_unquantised_dtype() -> None:
    half = replace(load_shape(MIXTRAL), dtype=Dtype.FP16)
    assert problem(half).dtype is Dtype.FP16


def test_per_channel_yields_to_the_checkpoints_blocks(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for tokens in (1, 2):
            found = problem("Qwen/Qwen3-235B-A22B-FP8", tokens=tokens, per_channel_quant=True)
    assert (found.block_shape, found.per_channel_quant) == ((128, 128), False)
    assert caplog.text.count("--per-channel-quant is left out") == 1


def test_a_refusal_advises_bf16_only_where_an_engine_serves_it_so() -> None:
    nvfp4 = replace(load_shape("gpt-oss-20b"), quantization=WeightQuantization("nvfp4", None))
    with pytest.raises(ModelError, match=r"nvfp4.*No engine is known to serve it") as raised:
        problem(nvfp4)
    assert "--dtype" not in str(raised.value)


def test_mxfp4_is_refused_only_for_auto() -> None:
    with pytest.raises(ModelError, match=r"gpt-oss-20b.*mxfp4.*allowed.*--dtype bf16"):
        problem("openai/gpt-oss-20b")


@pytest.mark.parametrize("dtype", [None, Dtype.INT4_W4A16, Dtype.INT8_W8A16])
def test_per_channel_needs_quantised_activations(dtype: Dtype | None) -> None:
    with pytest.raises(UsageError, match=r"--per-channel-quant.*only fp8_w8a8 and int8_w8a8"):
        problem(MIXTRAL, dtype=dtype, per_channel_quant=True)


def test_tensor_parallel_size_that_does_not_divide() -> None:
    with pytest.raises(UsageError) as error:
        problem("Qwen/Qwen3-30B-A3B", tp_size=7)
    message = str(error.value)
    assert "--tp-size 7" in message
    assert "intermediate size of Qwen/Qwen3-30B-A3B, 768" in message
    assert "allowed are 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128" in message
    assert "Try --tp-size 6" in message


def test_expert_parallel_size_that_does_not_divide() -> None:
    with pytest.raises(UsageError) as error:
        problem("Qwen/Qwen1.5-MoE-A2.7B", ep_size=8)
    message = str(error.value)
    assert "allowed are 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60" in message
    assert "Try --ep-size 6" in message


def test_more_ranks_than_experts() -> None:
    with pytest.raises(UsageError, match=r"--ep-size 16 does not divide.*Try --ep-size 8"):
        problem(MIXTRAL, ep_size=16)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"ep_size": 4, "ep_rank": 4}, r"rank is 4.*0 to 3"),
        ({"ep_rank": 1}, r"rank is 1.*0 to 0"),
    ],
)
def test_splits_that_cannot_be(flags: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        problem(MIXTRAL, **flags)


@pytest.mark.parametrize(
    "text",
    [
        "E=8,topk=2,hidden=4096,intermediate=14336",
        " e = 8, TopK = 2, intermediate=14336, HIDDEN=4096",
        "E=8,top_k=2,hidden=4096,intermediate=14336",
    ],
)
def test_parse_shape(text: str) -> None:
    shape = parse_shape(text)
    assert shape == ModelShape(
        name="E=8,topk=2,hidden=4096,intermediate=14336",
        architecture="",
        experts=8,
        top_k=2,
        hidden=4096,
        intermediate=14336,
    )
    assert problem(shape, tp_size=2).intermediate == 7168


@pytest.mark.parametrize("text", ["gated=false", " Gated = False "])
def test_parse_shape_without_a_gate(text: str) -> None:
    sizes = "E=8,topk=2,hidden=4096,intermediate=14336"
    shape = parse_shape(f"{text},{sizes}")
    assert shape.name == f"{sizes},gated=false"
    assert shape == replace(parse_shape(sizes), name=shape.name, gated=False)
    assert parse_shape(shape.name) == shape
    assert parse_shape(f"{sizes},gated=true") == parse_shape(sizes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("E=8,topk=2,hidden=4096", "intermediate missing"),
        ("", "cannot read ''"),
        ("E=8,topk=2,hidden=4096,width=3", "cannot read 'width=3'"),
        ("E=8,topk=2,hidden=4096,intermediate=0", "intermediate of --shape is 0"),
        ("E=8,topk=2,hidden=4096,intermediate=-4", "cannot read 'intermediate=-4'"),
        ("E=8,topk=two,hidden=4096,intermediate=4", "cannot read 'topk=two'"),
        ("E=8,E=8,topk=2,hidden=4096,intermediate=4", "E is given twice"),
        ("E=2,topk=3,hidden=4096,intermediate=4", "topk=3 is more than E=2"),
        ("E=8,topk=2,hidden=64,intermediate=4,gated=0", "cannot read 'gated=0'.*gated=false"),
        ("gated=false,E=8,topk=2,hidden=64,intermediate=4,gated=true", "gated is given twice"),
        ("gated=false,E=8,topk=2,hidden=64", "intermediate missing"),
    ],
)
def test_parse_shape_refuses(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_shape(text)


def test_int4_weights_without_groups_are_refused() -> None:
    config = {
        "architectures": ["MixtralForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": -1},
    }
    with pytest.raises(ModelError, match="without groups along K"):
        problem_of(shape_of_config("whole rows", config), None, tokens=1, routing="uniform")
