"""Every model of the catalogue against its published shape, written out by hand."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from autotune.errors import UsageError
from autotune.models.load import catalogue_shapes, load_shape
from autotune.models.problems import problem_of
from autotune.models.shape import ModelShape
from autotune.spec.problem import Dtype


class Published(NamedTuple):
    """Whole-model sizes, then one rank's: None where the size does not divide."""

    experts: int
    top_k: int
    hidden: int
    n_by_tp: tuple[int | None, int | None, int | None]
    """N at TP 1, 2, 8."""
    e_by_ep: tuple[int | None, int | None, int | None]
    """E at EP 2, 4, 8."""
    layers: int
    first_dense: int = 0


MIXTRAL_8X7B = Published(8, 2, 4096, (14336, 7168, 1792), (4, 2, 1), 32)
MIXTRAL_8X22B = Published(8, 2, 6144, (16384, 8192, 2048), (4, 2, 1), 56)
QWEN15_MOE = Published(60, 4, 2048, (1408, 704, 176), (30, 15, None), 24)
QWEN2_57B = Published(64, 8, 3584, (2560, 1280, 320), (32, 16, 8), 28)
QWEN3_30B = Published(128, 8, 2048, (768, 384, 96), (64, 32, 16), 48)
QWEN3_235B = Published(128, 8, 4096, (1536, 768, 192), (64, 32, 16), 94)
QWEN3_480B = Published(160, 8, 6144, (2560, 1280, 320), (80, 40, 20), 62)
QWEN3_NEXT = Published(512, 10, 2048, (512, 256, 64), (256, 128, 64), 48)
DEEPSEEK_V2 = Published(160, 6, 5120, (1536, 768, 192), (80, 40, 20), 60, 1)
DEEPSEEK_V2_LITE = Published(64, 6, 2048, (1408, 704, 176), (32, 16, 8), 27, 1)
DEEPSEEK_V3 = Published(256, 8, 7168, (2048, 1024, 256), (128, 64, 32), 61, 3)
KIMI_K2 = Published(384, 8, 7168, (2048, 1024, 256), (192, 96, 48), 61, 1)
KIMI_VL = Published(64, 6, 2048, (1408, 704, 176), (32, 16, 8), 27, 1)
KIMI_LINEAR = Published(256, 8, 2304, (1024, 512, 128), (128, 64, 32), 27, 1)
SCOUT = Published(16, 1, 5120, (8192, 4096, 1024), (8, 4, 2), 48)
MAVERICK = Published(128, 1, 5120, (8192, 4096, 1024), (64, 32, 16), 48, 1)
DBRX = Published(16, 4, 6144, (10752, 5376, 1344), (8, 4, 2), 40)
JAMBA_MINI = Published(16, 2, 4096, (14336, 7168, 1792), (8, 4, 2), 32, 1)
JAMBA_LARGE = Published(16, 2, 8192, (24576, 12288, 3072), (8, 4, 2), 72, 1)
GROK_1 = Published(8, 2, 6144, (32768, 16384, 4096), (4, 2, 1), 64)
GROK_2 = Published(8, 2, 8192, (16384, 8192, 2048), (4, 2, 1), 64)
GLM_45 = Published(160, 8, 5120, (1536, 768, 192), (80, 40, 20), 92, 3)
GLM_45_AIR = Published(128, 8, 4096, (1408, 704, 176), (64, 32, 16), 46, 1)
GLM_4_9B = Published(1, 1, 4096, (13696, 6848, 1712), (None, None, None), 40)
LING_LITE = Published(64, 6, 2048, (1408, 704, 176), (32, 16, 8), 28)
LING_PLUS = Published(64, 4, 5376, (3072, 1536, 384), (32, 16, 8), 88)
OLMOE = Published(64, 8, 2048, (1024, 512, 128), (32, 16, 8), 16)
GPT_OSS_20B = Published(32, 4, 2880, (2880, 1440, 360), (16, 8, 4), 24)
GPT_OSS_120B = Published(128, 4, 2880, (2880, 1440, 360), (64, 32, 16), 36)
MINIMAX_M2 = Published(256, 8, 3072, (1536, 768, 192), (128, 64, 32), 62)
PHI_35_MOE = Published(16, 2, 4096, (6400, 3200, 800), (8, 4, 2), 32)
NEMOTRON_3_NANO = Published(128, 6, 2688, (1856, 928, 232), (64, 32, 16), 52, 1)
NEMOTRON_3_ULTRA = Published(512, 22, 2048, (5120, 2560, 640), (256, 128, 64), 108, 1)
HUNYUAN_A13B = Published(64, 8, 4096, (3072, 1536, 384), (32, 16, 8), 32)
QWEN35_35B = Published(256, 8, 2048, (512, 256, 64), (128, 64, 32), 40)
QWEN35_122B = Published(256, 8, 3072, (1024, 512, 128), (128, 64, 32), 48)
QWEN35_397B = Published(512, 10, 4096, (1024, 512, 128), (256, 128, 64), 60)
GLM_47_FLASH = Published(64, 4, 2048, (1536, 768, 192), (32, 16, 8), 47, 1)
LFM2_8B = Published(32, 4, 2048, (1792, 896, 224), (16, 8, 4), 24, 2)
DEEPSEEK_V4_FLASH = Published(256, 6, 4096, (2048, 1024, 256), (128, 64, 32), 43)
DEEPSEEK_V4_PRO = Published(384, 6, 7168, (3072, 1536, 384), (192, 96, 48), 61)
KIMI_K3 = Published(896, 16, 3584, (3072, 1536, 384), (448, 224, 112), 93, 1)
GLM_5 = Published(256, 8, 6144, (2048, 1024, 256), (128, 64, 32), 78, 3)
GEMMA_4_26B = Published(128, 8, 2816, (704, 352, 88), (64, 32, 16), 30)

PUBLISHED = {
    "Qwen/Qwen3.5-35B-A3B": QWEN35_35B,
    "Qwen/Qwen3.5-122B-A10B": QWEN35_122B,
    "Qwen/Qwen3.5-397B-A17B": QWEN35_397B,
    "zai-org/GLM-4.7-Flash": GLM_47_FLASH,
    "LiquidAI/LFM2-8B-A1B": LFM2_8B,
    "MiniMaxAI/MiniMax-M2.5": MINIMAX_M2,
    "sgl-project/DeepSeek-V4-Flash-FP8": DEEPSEEK_V4_FLASH,
    "sgl-project/DeepSeek-V4-Pro-FP8": DEEPSEEK_V4_PRO,
    "deepseek-ai/DeepSeek-V4-Pro": DEEPSEEK_V4_PRO,
    "moonshotai/Kimi-K3": KIMI_K3,
    "zai-org/GLM-5": GLM_5,
    "zai-org/GLM-5-FP8": GLM_5,
    "zai-org/GLM-5.1": GLM_5,
    "zai-org/GLM-5.2-FP8": GLM_5,
    "google/gemma-4-26B-A4B": GEMMA_4_26B,
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-FP8": NEMOTRON_3_ULTRA,
    "mistralai/Mixtral-8x7B-v0.1": MIXTRAL_8X7B,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": MIXTRAL_8X7B,
    "mistralai/Mixtral-8x22B-v0.1": MIXTRAL_8X22B,
    "mistralai/Mixtral-8x22B-Instruct-v0.1": MIXTRAL_8X22B,
    "Qwen/Qwen1.5-MoE-A2.7B": QWEN15_MOE,
    "Qwen/Qwen1.5-MoE-A2.7B-Chat": QWEN15_MOE,
    "Qwen/Qwen2-57B-A14B": QWEN2_57B,
    "Qwen/Qwen2-57B-A14B-Instruct": QWEN2_57B,
    "Qwen/Qwen3-30B-A3B": QWEN3_30B,
    "Qwen/Qwen3-30B-A3B-FP8": QWEN3_30B,
    "Qwen/Qwen3-30B-A3B-Instruct-2507": QWEN3_30B,
    "Qwen/Qwen3-30B-A3B-Instruct-2507-FP8": QWEN3_30B,
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": QWEN3_30B,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": QWEN3_30B,
    "Qwen/Qwen3-Omni-30B-A3B-Instruct": QWEN3_30B,
    "Qwen/Qwen3-235B-A22B": QWEN3_235B,
    "Qwen/Qwen3-235B-A22B-FP8": QWEN3_235B,
    "Qwen/Qwen3-235B-A22B-Instruct-2507": QWEN3_235B,
    "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8": QWEN3_235B,
    "Qwen/Qwen3-VL-235B-A22B-Instruct": QWEN3_235B,
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": QWEN3_480B,
    "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8": QWEN3_480B,
    "Qwen/Qwen3-Next-80B-A3B-Instruct": QWEN3_NEXT,
    "deepseek-ai/DeepSeek-V2": DEEPSEEK_V2,
    "deepseek-ai/DeepSeek-V2-Chat": DEEPSEEK_V2,
    "deepseek-ai/DeepSeek-V2-Lite": DEEPSEEK_V2_LITE,
    "deepseek-ai/DeepSeek-V2-Lite-Chat": DEEPSEEK_V2_LITE,
    "deepseek-ai/DeepSeek-V3": DEEPSEEK_V3,
    "deepseek-ai/DeepSeek-V3-0324": DEEPSEEK_V3,
    "deepseek-ai/DeepSeek-V3.1": DEEPSEEK_V3,
    "deepseek-ai/DeepSeek-V3.2-Exp": DEEPSEEK_V3,
    "deepseek-ai/DeepSeek-R1": DEEPSEEK_V3,
    "deepseek-ai/DeepSeek-R1-0528": DEEPSEEK_V3,
    "meituan/DeepSeek-R1-Channel-INT8": DEEPSEEK_V3,
    "meituan/DeepSeek-R1-Block-INT8": DEEPSEEK_V3,
    "moonshotai/Kimi-K2-Instruct": KIMI_K2,
    "moonshotai/Kimi-VL-A3B-Instruct": KIMI_VL,
    "moonshotai/Kimi-Linear-48B-A3B-Instruct": KIMI_LINEAR,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": SCOUT,
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": MAVERICK,
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8": MAVERICK,
    "databricks/dbrx-instruct": DBRX,
    "ai21labs/AI21-Jamba-1.5-Mini": JAMBA_MINI,
    "ai21labs/AI21-Jamba-1.5-Large": JAMBA_LARGE,
    "xai-org/grok-1": GROK_1,
    "lmzheng/grok-1": GROK_1,
    "xai-org/grok-2": GROK_2,
    "zai-org/GLM-4.5": GLM_45,
    "zai-org/GLM-4.5-FP8": GLM_45,
    "zai-org/GLM-4.5-Air": GLM_45_AIR,
    "THUDM/glm-4-9b-chat": GLM_4_9B,
    "inclusionAI/Ling-lite": LING_LITE,
    "inclusionAI/Ling-plus": LING_PLUS,
    "allenai/OLMoE-1B-7B-0924": OLMOE,
    "allenai/OLMoE-1B-7B-0924-Instruct": OLMOE,
    "openai/gpt-oss-20b": GPT_OSS_20B,
    "openai/gpt-oss-120b": GPT_OSS_120B,
    "MiniMaxAI/MiniMax-M2": MINIMAX_M2,
    "microsoft/Phi-3.5-MoE-instruct": PHI_35_MOE,
    "tencent/Hunyuan-A13B-Instruct": HUNYUAN_A13B,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": NEMOTRON_3_NANO,
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16": NEMOTRON_3_ULTRA,
}

# Checkpoints that are not stored in plain bf16: (dtype, block shape, per channel).
STORED = {
    "MiniMaxAI/MiniMax-M2.5": (Dtype.FP8_W8A8, (128, 128), False),
    "sgl-project/DeepSeek-V4-Flash-FP8": (Dtype.FP8_W8A8, (128, 128), False),
    "sgl-project/DeepSeek-V4-Pro-FP8": (Dtype.FP8_W8A8, (128, 128), False),
    "deepseek-ai/DeepSeek-V4-Pro": (None, None, False),
    "moonshotai/Kimi-K3": (None, (0, 32), False),
    "zai-org/GLM-5-FP8": (Dtype.FP8_W8A8, (128, 128), False),
    "zai-org/GLM-5.2-FP8": (Dtype.FP8_W8A8, (128, 128), False),
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-FP8": (Dtype.FP8_W8A8, None, False),
    "Qwen/Qwen3-30B-A3B-FP8": (Dtype.FP8_W8A8, (128, 128), False),
    "Qwen/Qwen3-30B-A3B-Instruct-2507-FP8": (Dtype.FP8_W8A8, (128, 128), False),
    "Qwen/Qwen3-235B-A22B-FP8": (Dtype.FP8_W8A8, (128, 128), False),
    "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8": (Dtype.FP8_W8A8, (128, 128), False),
    "Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8": (Dtype.FP8_W8A8, (128, 128), False),
    "deepseek-ai/DeepSeek-V3": (Dtype.FP8_W8A8, (128, 128), False),
    "deepseek-ai/DeepSeek-V3-0324": (Dtype.FP8_W8A8, (128, 128), False),
    "deepseek-ai/DeepSeek-V3.1": (Dtype.FP8_W8A8, (128, 128), False),
    "deepseek-ai/DeepSeek-V3.2-Exp": (Dtype.FP8_W8A8, (128, 128), False),
    "deepseek-ai/DeepSeek-R1": (Dtype.FP8_W8A8, (128, 128), False),
    "deepseek-ai/DeepSeek-R1-0528": (Dtype.FP8_W8A8, (128, 128), False),
    "meituan/DeepSeek-R1-Channel-INT8": (Dtype.INT8_W8A8, None, True),
    "meituan/DeepSeek-R1-Block-INT8": (Dtype.INT8_W8A8, (128, 128), False),
    "moonshotai/Kimi-K2-Instruct": (Dtype.FP8_W8A8, (128, 128), False),
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8": (Dtype.FP8_W8A8, None, True),
    "zai-org/GLM-4.5-FP8": (Dtype.FP8_W8A8, None, True),
    "openai/gpt-oss-20b": (None, None, False),
    "openai/gpt-oss-120b": (None, None, False),
    "MiniMaxAI/MiniMax-M2": (Dtype.FP8_W8A8, (128, 128), False),
}


def rank_sizes(shape: ModelShape, **ranks: int) -> tuple[int, int, int, int]:
    problem = problem_of(
        shape,
        Dtype.BF16,
        **ranks,
        tokens=16,
        routing="uniform",
    )
    return problem.experts, problem.top_k, problem.hidden, problem.intermediate


def test_the_table_covers_the_catalogue() -> None:
    assert {shape.name for shape in catalogue_shapes()} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_nemotron_3_alone_has_no_gate(name: str) -> None:
    shape = load_shape(name)
    assert shape.gated == ("Nemotron-3" not in name)
    problem = problem_of(shape, Dtype.BF16, tokens=16, routing="uniform")
    assert problem.gated == shape.gated


@pytest.mark.parametrize("name", PUBLISHED)
def test_layers(name: str) -> None:
    shape = load_shape(name)
    assert (shape.layers, shape.first_dense_layers) == (
        PUBLISHED[name].layers,
        PUBLISHED[name].first_dense,
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_tensor_parallel(name: str) -> None:
    published = PUBLISHED[name]
    shape = load_shape(name)
    for tp_size, n in zip((1, 2, 8), published.n_by_tp, strict=True):
        sizes = rank_sizes(shape, tp_size=tp_size)
        assert sizes == (published.experts, published.top_k, published.hidden, n)


@pytest.mark.parametrize("name", PUBLISHED)
def test_expert_parallel(name: str) -> None:
    published = PUBLISHED[name]
    shape = load_shape(name)
    for ep_size, experts in zip((2, 4, 8), published.e_by_ep, strict=True):
        ranks = {"ep_size": ep_size, "ep_rank": ep_size - 1}
        if experts is None:
            with pytest.raises(UsageError, match=f"--ep-size {ep_size} does not divide"):
                rank_sizes(shape, **ranks)
            continue
        sizes = rank_sizes(shape, **ranks)
        assert sizes == (experts, published.top_k, published.hidden, published.n_by_tp[0])


@pytest.mark.parametrize("name", PUBLISHED)
def test_quantization(name: str) -> None:
    quantization = load_shape(name).quantization
    if name not in STORED:
        assert quantization is None
        return
    assert quantization is not None
    stored = (quantization.dtype, quantization.block_shape, quantization.per_channel_quant)
    assert stored == STORED[name]
