"""Which problem each engine serves: fused shared experts, ranks, and scale blocks that TP cuts."""

from __future__ import annotations

from typing import Any

import pytest

from autotune.engines import ENGINES
from autotune.engines.fusion import RULES, fused_shared_experts
from autotune.errors import NotServedError, UsageError
from autotune.models.load import catalogue_shapes, load_shape
from autotune.models.parse import shape_of_config
from autotune.models.problems import Parallelism
from autotune.models.shape import ModelShape
from autotune.spec.problem import Problem

ONE_SHARED = {
    "hidden_size": 4096,
    "moe_intermediate_size": 1024,
    "n_routed_experts": 256,
    "num_experts": 256,
    "num_local_experts": 256,
    "num_experts_per_tok": 8,
}
MIXTRAL = "mistralai/Mixtral-8x7B-v0.1"
QWEN3_30B_FP8 = "Qwen/Qwen3-30B-A3B-FP8"
QWEN3_235B_FP8 = "Qwen/Qwen3-235B-A22B-FP8"


def shape_of(architecture: str, **fields: Any) -> ModelShape:
    sizes = {**ONE_SHARED, "n_shared_experts": 1, "intermediate_size": 1024, **fields}
    return shape_of_config("some", {"architectures": [architecture], **sizes})


def served(engine: str, shape: ModelShape | str, *ranks: int, **more: Any) -> Problem:
    shape = load_shape(shape) if isinstance(shape, str) else shape
    parallel = Parallelism(*ranks)
    return ENGINES[engine].serves(shape, None, parallel, tokens=4, routing="uniform", **more)


def test_deepseek_v3_has_one_more_expert_in_sglang_alone() -> None:
    found = served("sglang", "deepseek-ai/DeepSeek-V3", 8)
    assert (found.experts, found.top_k, found.intermediate) == (257, 9, 256)
    assert found.fused_shared_experts == 1
    for apart in (
        served("vllm", "deepseek-ai/DeepSeek-V3", 8),
        served("sglang", "deepseek-ai/DeepSeek-V3", 8, fuses=False),
    ):
        assert (apart.experts, apart.top_k, apart.fused_shared_experts) == (256, 8, 0)


def test_models_of_the_catalogue_that_sglang_fuses() -> None:
    fused = {shape.name for shape in catalogue_shapes() if fused_shared_experts(shape, 1)}
    assert fused >= {"deepseek-ai/DeepSeek-R1", "zai-org/GLM-4.5", "zai-org/GLM-4.5-Air"}
    assert "Qwen/Qwen3-Next-80B-A3B-Instruct" in fused
    assert not fused & {
        "deepseek-ai/DeepSeek-V2",
        "deepseek-ai/DeepSeek-V3.2-Exp",
        "moonshotai/Kimi-K2-Instruct",
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
        "inclusionAI/Ling-lite",
        "Qwen/Qwen1.5-MoE-A2.7B",
    }


@pytest.mark.parametrize("architecture", [*RULES, "DeepseekV32ForCausalLM"])
def test_every_rule_fuses_one_shared_expert_but_not_under_all_ep(architecture: str) -> None:
    shape = shape_of(architecture, shared_expert_intermediate_size=1024)
    known = architecture in RULES
    under_ep = architecture.startswith(("BailingMoeV3", "Qwen3Next"))
    assert fused_shared_experts(shape, 1) == known
    assert fused_shared_experts(shape, 2) == under_ep


@pytest.mark.parametrize(
    ("architecture", "fields", "fused"),
    [
        ("DeepseekV3ForCausalLM", {"n_routed_experts": 384}, 0),
        (
            "DeepseekV3ForCausalLM",
            {"n_routed_experts": 384, "quantization_config": {"quant_method": "quark"}},
            1,
        ),
        ("DeepseekV3ForCausalLM", {"n_routed_experts": 128}, 0),
        ("DeepseekV3ForCausalLM", {"n_shared_experts": 2}, 0),
        ("DeepseekV3ForCausalLM", {"quantization_config": {"quant_method": "w4afp8"}}, 0),
        ("DeepseekV3ForCausalLM", {"quantization_config": {"quant_method": "fp8"}}, 1),
        ("GlmMoeDsaForCausalLM", {"n_routed_experts": 128}, 0),
        ("Glm4MoeForCausalLM", {"n_routed_experts": 128}, 1),
        ("Glm4MoeForCausalLM", {"n_shared_experts": 2}, 2),
        ("Glm4MoeLiteForCausalLM", {"n_shared_experts": 2}, 0),
        ("Dots3NoteForCausalLM", {"n_routed_experts": 128}, 0),
        ("BailingMoeV3ForCausalLM", {"moe_shared_expert_intermediate_size": 512}, 0),
        ("Qwen3NextForCausalLM", {"shared_expert_intermediate_size": 512}, 0),
        ("Glm4vMoeForConditionalGeneration", {"n_shared_experts": None}, 0),
    ],
)
def test_conditions_of_fusion(architecture: str, fields: dict[str, Any], fused: int) -> None:
    assert fused_shared_experts(shape_of(architecture, **fields), 1) == fused


def test_a_shared_expert_under_ep_is_on_every_rank() -> None:
    found = served("sglang", shape_of("BailingMoeV3ForCausalLM"), 4, 4, 1)
    assert (found.experts, found.top_k, found.fused_shared_experts) == (65, 9, 1)


@pytest.mark.parametrize(
    ("model", "tp_size", "n", "block"),
    [
        (QWEN3_235B_FP8, 4, 384, 128),
        (QWEN3_235B_FP8, 8, 192, 64),
        ("MiniMaxAI/MiniMax-M2", 8, 192, 64),
        (QWEN3_30B_FP8, 4, 192, 64),
        (QWEN3_30B_FP8, 8, 96, 32),
    ],
)
def test_vllm_refines_blocks_that_tp_cuts(model: str, tp_size: int, n: int, block: int) -> None:
    found = served("vllm", model, tp_size)
    assert (found.intermediate, found.block_shape) == (n, (block, block))


def test_sglang_refuses_blocks_that_tp_cuts() -> None:
    allowed = r"N=192 is no multiple of the scale block 128, and SGLang .* 1, 2, 3, 4, 6, 12 ranks"
    with pytest.raises(NotServedError, match=allowed):
        served("sglang", QWEN3_235B_FP8, 8)
    assert served("sglang", QWEN3_235B_FP8, 8, 2).block_shape == (128, 128)


def test_vllm_refuses_what_it_does_not_refine() -> None:
    with pytest.raises(NotServedError, match="to 32 at least"):
        served("vllm", QWEN3_30B_FP8, 16)
    number = {"num_bits": 8, "type": "float"}
    weights = {**number, "strategy": "block", "block_structure": [128, 128]}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": number}
    section = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
    shape = shape_of("Qwen3MoeForCausalLM", quantization_config=section)
    assert served("vllm", shape, 4).block_shape == (128, 128)
    with pytest.raises(NotServedError, match="of method fp8 alone"):
        served("vllm", shape, 16)


def test_sglang_counts_all_ranks_as_tp() -> None:
    found = served("sglang", QWEN3_235B_FP8, 8, 2, 1)
    assert (found.experts, found.intermediate) == (64, 384)
    assert (found.ep_size, found.ep_rank) == (2, 1)
    assert served("sglang", MIXTRAL, 8, 8) == served("sglang", MIXTRAL, 1, 8)
    with pytest.raises(UsageError, match=r"--tp-size 8 with --ep-size 3.*allowed are 1, 2, 4, 8"):
        served("sglang", MIXTRAL, 8, 3)


def test_vllm_spreads_experts_over_all_ranks_or_none() -> None:
    spread = served("vllm", MIXTRAL, 8, 8, 7)
    assert (spread.experts, spread.intermediate, spread.ep_rank) == (1, 14336, 7)
    with pytest.raises(NotServedError, match="allowed are --ep-size 1 and 8"):
        served("vllm", MIXTRAL, 8, 2)


def test_redundant_experts_are_shared_out_too() -> None:
    found = served("sglang", "deepseek-ai/DeepSeek-V3", 16, 16, 0, 32)
    assert (found.experts, found.intermediate, found.fused_shared_experts) == (18, 2048, 0)
    with pytest.raises(UsageError, match="--ep-num-redundant-experts 32 with --ep-size 1"):
        served("sglang", "deepseek-ai/DeepSeek-V3", 1, 1, 0, 32)
    with pytest.raises(UsageError, match=r"--ep-size 8 does not divide the experts of .*, 257"):
        served("vllm", "deepseek-ai/DeepSeek-V3", 8, 8, 0, 1)
