"""Which model classes take no redundant experts, by file and line of vLLM 0.33.0 and SGLang 0.5.23.

A class that does not hand the count to its layer of experts is served as if there were none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from autotune.errors import NotServedError
from autotune.models.problems import Parallelism
from autotune.models.shape import ModelShape

logger = logging.getLogger(__name__)

LEFT_OUT: Mapping[str, Mapping[str, str]] = {
    "sglang": {
        "BailingMoeV3ForCausalLM": "bailing_moe_v3.py:568",
        "BailingMoeV3VLForConditionalGeneration": "bailing_moe_v3.py:568",
        "Ernie4_5_MoeForCausalLM": "ernie4.py:104",
        "Glm4MoeForCausalLM": "glm4_moe.py:436",
        "Glm4vMoeForConditionalGeneration": "glm4_moe.py:436",
        "GraniteMoeForCausalLM": "granitemoe.py:142",
        "Grok1ForCausalLM": "grok.py:160",
        "Grok1ModelForCausalLM": "grok.py:160",
        "HYV3ForCausalLM": "hunyuan_v3.py:145",
        "HunYuanMoEV1ForCausalLM": "hunyuan.py:156",
        "Lfm2MoeForCausalLM": "lfm2_moe.py:155",
        "Llama4ForConditionalGeneration": "llama4.py:120",
        "MixtralForCausalLM": "mixtral.py:100",
        "OlmoeForCausalLM": "olmoe.py:88",
        "PhiMoEForCausalLM": "phimoe.py:208",
    },
    "vllm": {
        "BailingMoeForCausalLM": "bailing_moe.py:296",
        "BailingMoeV2ForCausalLM": "bailing_moe.py:296",
        "BailingMoeV3ForCausalLM": "bailing_moe_v3.py:1199",
        "DbrxForCausalLM": "dbrx.py:165",
        "Gemma4ForConditionalGeneration": "gemma4.py:646",
        "GptOssForCausalLM": "gpt_oss.py:390",
        "GraniteMoeForCausalLM": "granitemoe.py:106",
        "MiniMaxM2ForCausalLM": "minimax_m2.py:96",
        "MiniMaxM3SparseForCausalLM": "minimax_m3/nvidia/model.py:251",
        "MiniMaxM3SparseForConditionalGeneration": "minimax_m3/nvidia/model.py:251",
        "OlmoeForCausalLM": "olmoe.py:95",
        "PhiMoEForCausalLM": "phimoe.py:274",
        "Qwen2MoeForCausalLM": "qwen2_moe.py:170",
    },
}
"""By engine: class → where its layer of experts is made, in the engine's folders of models."""

REFUSED: Mapping[str, Mapping[str, str]] = {
    "sglang": {
        "BailingMoeForCausalLM": "bailing_moe.py:220",
        "BailingMoeV2ForCausalLM": "bailing_moe.py:220",
    },
    "vllm": {},
}
"""By engine: class → where it asserts that there are none."""


def as_taken(engine: str, title: str, shape: ModelShape, parallel: Parallelism) -> Parallelism:
    """Return ``parallel`` with the redundant experts that the engine's class for the model takes;
    says where that is none. Raises NotServedError where it refuses them."""
    count, name = parallel.redundant_experts, shape.architecture
    if count and (source := REFUSED[engine].get(name)):
        raise NotServedError(
            f"{shape.name}: --ep-num-redundant-experts {count}: {title}'s {name} takes none "
            f"({source}). Leave the flag out"
        )
    if not count or name not in LEFT_OUT[engine]:
        return parallel
    _warn_once(
        f"--ep-num-redundant-experts {count} is left out: {title}'s {name} gives its experts no "
        f"such count ({LEFT_OUT[engine][name]})"
    )
    return replace(parallel, redundant_experts=0)


@cache
def _warn_once(text: str) -> None:
    """Warn once a process: a run makes a problem for each batch size."""
    logger.warning(text)
