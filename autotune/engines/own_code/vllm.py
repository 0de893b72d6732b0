"""vLLM's own code: the file name that it makes of a checkpoint."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from autotune.engines.known import is_of_transformers
from autotune.engines.own_code.pieces import NotFoundError, Package, Source
from autotune.engines.own_code.question import (
    TORCH,
    ConfigView,
    Question,
    RefusalError,
    Stored,
    UnknownModelError,
    asked,
    layer_of,
)


class VLLMCode:
    """vLLM's own code, read from its package folder."""

    FUSED = "model_executor/layers/fused_moe"
    MODELS = "model_executor/models"
    BLOCKS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "MixtralForCausalLM": (f"{MODELS}/mixtral.py", "MixtralDecoderLayer"),
        "MiniMaxM2ForCausalLM": (f"{MODELS}/minimax_m2.py", "MiniMaxM2MoE"),
        "MiniMaxM3SparseForCausalLM": ("models/minimax_m3/nvidia/model.py", "MiniMaxM3MoE"),
        "MiniMaxM3SparseForConditionalGeneration": (
            "models/minimax_m3/nvidia/model.py",
            "MiniMaxM3MoE",
        ),
        "Qwen2MoeForCausalLM": (f"{MODELS}/qwen2_moe.py", "Qwen2MoeSparseMoeBlock"),
        "Qwen3MoeForCausalLM": (f"{MODELS}/qwen3_moe.py", "Qwen3MoeSparseMoeBlock"),
        "Qwen3VLMoeForConditionalGeneration": (f"{MODELS}/qwen3_moe.py", "Qwen3MoeSparseMoeBlock"),
        "Qwen3OmniMoeForConditionalGeneration": (
            f"{MODELS}/qwen3_moe.py",
            "Qwen3MoeSparseMoeBlock",
        ),
        "Qwen3NextForCausalLM": (f"{MODELS}/qwen3_next.py", "Qwen3NextSparseMoeBlock"),
        "Qwen3_5MoeForCausalLM": (f"{MODELS}/qwen3_next.py", "Qwen3NextSparseMoeBlock"),
        "Qwen3_5MoeForConditionalGeneration": (
            f"{MODELS}/qwen3_next.py",
            "Qwen3NextSparseMoeBlock",
        ),
        "DeepseekV2ForCausalLM": (f"{MODELS}/deepseek_v2.py", "DeepseekV2MoE"),
        "DeepseekV3ForCausalLM": (f"{MODELS}/deepseek_v2.py", "DeepseekV2MoE"),
        "DeepseekV32ForCausalLM": (f"{MODELS}/deepseek_v2.py", "DeepseekV2MoE"),
        "GlmMoeDsaForCausalLM": (f"{MODELS}/deepseek_v2.py", "DeepseekV2MoE"),
        "KimiK25ForConditionalGeneration": (f"{MODELS}/deepseek_v2.py", "DeepseekV2MoE"),
        "MistralLarge3ForCausalLM": (f"{MODELS}/deepseek_v2.py", "DeepseekV2MoE"),
        "DeepseekV4ForCausalLM": ("models/deepseek_v4/nvidia/model.py", "DeepseekV4MoE"),
        "Glm4MoeForCausalLM": (f"{MODELS}/glm4_moe.py", "Glm4MoE"),
        "Glm4vMoeForConditionalGeneration": (f"{MODELS}/glm4_moe.py", "Glm4MoE"),
        "Gemma4ForConditionalGeneration": (f"{MODELS}/gemma4.py", "Gemma4DecoderLayer"),
        "Llama4ForConditionalGeneration": (f"{MODELS}/llama4.py", "Llama4MoE"),
        "NemotronHForCausalLM": (f"{MODELS}/nemotron_h.py", "NemotronHMoE"),
        "OlmoeForCausalLM": (f"{MODELS}/olmoe.py", "OlmoeDecoderLayer"),
        "PhiMoEForCausalLM": (f"{MODELS}/phimoe.py", "PhiMoEDecoderLayer"),
        "DbrxForCausalLM": (f"{MODELS}/dbrx.py", "DbrxMoE"),
        "Lfm2MoeForCausalLM": (f"{MODELS}/lfm2_moe.py", "Lfm2MoeSparseMoeBlock"),
        "GptOssForCausalLM": (f"{MODELS}/gpt_oss.py", "MLPBlock"),
        "Glm4MoeLiteForCausalLM": (f"{MODELS}/glm4_moe.py", "Glm4MoE"),
        "KimiVLForConditionalGeneration": (f"{MODELS}/deepseek_v2.py", "DeepseekV2MoE"),
        "HYV3ForCausalLM": (f"{MODELS}/hy_v3.py", "HYV3MoEFused"),
        "BailingMoeForCausalLM": (f"{MODELS}/bailing_moe.py", "BailingMoE"),
        "BailingMoeV2ForCausalLM": (f"{MODELS}/bailing_moe.py", "BailingMoE"),
        "BailingMoeV3ForCausalLM": (f"{MODELS}/bailing_moe_v3.py", "BailingMoeV3MoE"),
    }

    def __init__(self, root: Package) -> None:
        self.source = Source(root, {})

    def file_name(self, question: Question) -> str:
        """Return the name of the file that the engine looks for.

        Raises RefusalError where it has none, NotFoundError where that cannot be told.
        """
        source, tp_size, ep_size = self.source, question.tp_size, question.ep_size
        if ep_size not in (1, tp_size):
            raise RefusalError(f"expert parallelism is over all {tp_size} ranks or none")
        parallel = SimpleNamespace(
            enable_expert_parallel=ep_size > 1,
            all2all_backend="allgather_reducescatter",
            enable_eplb=question.redundant_experts > 0,
            use_sequence_parallel_moe=False,
            eplb_config=SimpleNamespace(num_redundant_experts=question.redundant_experts),
        )
        classes = _Parallel(source, f"{self.FUSED}/config.py")
        source.stand_ins = self._stand_ins(question, classes)
        self._check_known(question)
        layer = self._layer(question, parallel)
        moe = self._split(layer, classes.make(tp_size, 1, 1, 1, parallel))
        local = self._local_experts(layer["num_experts"], question, moe.ep_size)
        block = self._block(question.stored, moe)
        dtype = source.get(f"{self.FUSED}/config.py", "_get_config_dtype_str")(
            **question.stored.flags("use_int8_w8a8")
        )
        name = source.get(f"{self.FUSED}/fused_moe.py", "get_config_file_name")
        return str(name(local, moe.intermediate_size_per_partition, dtype, block))

    def _stand_ins(self, question: Question, classes: _Parallel) -> dict[str, Any]:
        return {
            "torch": SimpleNamespace(**vars(TORCH), full=np.full, arange=np.arange, int32="int32"),
            "math": math,
            "re": re,
            "get_tensor_model_parallel_rank": lambda: 0,
            "get_tensor_model_parallel_world_size": lambda: question.tp_size,
            "current_platform": SimpleNamespace(get_device_name=lambda _=0: question.device_name),
            "FusedMoEParallelConfig": classes,
            "logger": SimpleNamespace(info_once=lambda *_: None),
        }

    def _check_known(self, question: Question) -> None:
        architecture = question.architecture
        tables = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS")
        registry = f"{self.MODELS}/registry.py"
        if not any(architecture in self.source.get(registry, table) for table in tables):
            if is_of_transformers(architecture):
                raise NotFoundError(f"it serves {architecture} by transformers' class")
            raise UnknownModelError(f"registry.py has no {architecture}: no file is asked for")
        stored = question.stored
        if (
            architecture == "DeepseekV4ForCausalLM"
            and stored.flag
            and "expert_dtype" not in question.text
        ):
            raise RefusalError("fp4 experts: quant_config.py takes a missing expert_dtype for it")
        if architecture not in self.BLOCKS:
            raise NotFoundError(f"it is not known here which block of {architecture} has experts")

    def _layer(self, question: Question, parallel: SimpleNamespace) -> dict[str, Any]:
        config = ConfigView(question.text)
        names = {
            "config": config,
            "self": SimpleNamespace(config=config),
            "vllm_config": SimpleNamespace(parallel_config=parallel),
            "parallel_config": parallel,
        }
        return layer_of(self.source, self.BLOCKS[question.architecture], names)

    def _local_experts(self, experts: int, question: Question, ep_size: int) -> int:
        counts = self.source.get(f"{self.FUSED}/layer.py", "determine_expert_counts")
        redundant = question.redundant_experts if self._takes_redundant(question) else 0
        everywhere, _, fused = counts(experts, redundant, None, False)
        if redundant and everywhere % ep_size:
            raise RefusalError(f"layer.py: {everywhere} experts are not even on {ep_size} ranks")
        mapped = self.source.get(f"{self.FUSED}/expert_map_manager.py", "determine_expert_map")
        return int(mapped(ep_size, 0, everywhere, num_fused_shared_experts=fused)[0])

    def _takes_redundant(self, question: Question) -> bool:
        """True where the model's file makes a layer of experts with redundant ones."""
        file, _ = self.BLOCKS[question.architecture]
        calls = (node for node in ast.walk(self.source.tree(file)) if isinstance(node, ast.Call))
        given = ({keyword.arg for keyword in call.keywords} for call in calls)
        return any({"num_redundant_experts", "intermediate_size"} <= names for names in given)

    def _split(self, layer: Mapping[str, Any], split: Any) -> SimpleNamespace:
        moe = SimpleNamespace(
            moe_parallel_config=split,
            intermediate_size=layer["intermediate_size"],
            hidden_dim=layer["hidden_size"],
            tp_size=split.tp_size,
            ep_size=split.ep_size,
            moe_backend="auto",
        )
        wanted, given = {"self.intermediate_size_per_partition"}, {"self": moe}
        file = f"{self.FUSED}/config.py"
        made = self.source.function(file, "FusedMoEConfig.__post_init__")
        asked("split", self.source.part_of, file, made, wanted, given)
        return moe

    def _block(self, stored: Stored, moe: SimpleNamespace) -> list[int] | None:
        block = stored.block
        if stored.flag != "use_fp8_w8a8" or not block:
            return block
        rule = self.source.get(f"{self.FUSED}/oracle/fp8.py", "resolve_fp8_moe_weight_block_shape")
        refined: list[int] = asked("blocks", rule, moe, block, None, True)[0]
        n = moe.intermediate_size_per_partition
        if n % refined[0] or (moe.tp_size > 1 and n % refined[1]):
            raise RefusalError(f"blocks {refined} do not divide N={n}")
        return refined


class _Parallel:
    """vLLM's FusedMoEParallelConfig: made from fields, with its own static methods."""

    def __init__(self, source: Source, file: str) -> None:
        self.source, self.file = source, file

    def __call__(self, **fields: Any) -> SimpleNamespace:
        return SimpleNamespace(**fields)

    def __getattr__(self, name: str) -> Any:
        return self.source.method(self.file, "FusedMoEParallelConfig", name)
