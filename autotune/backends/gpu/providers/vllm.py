"""vLLM's fused MoE, called as its own scripts call it. Known from the source of 0.32 and 0.33."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from autotune.backends.gpu.providers.base import ProviderSite
from autotune.backends.gpu.providers.engine import (
    EngineInputs,
    EngineLayer,
    EngineProvider,
    Needs,
    Symbol,
)
from autotune.engines.entries import SPLIT_K
from autotune.errors import ProviderError
from autotune.kernels.inputs import MoeInputs, RoutingTensors
from autotune.spec.binary import Scales, scales_of
from autotune.spec.config import AnyConfig, ConfigPair
from autotune.spec.problem import Dtype, Problem

_MOE = "vllm.model_executor.layers.fused_moe"

NEEDS = Needs(
    package="vllm",
    title="vLLM",
    since="0.32",
    until="0.34",
    symbols={
        "fused_experts": Symbol(
            f"{_MOE}.fused_moe",
            "fused_experts",
            "hidden_states, w1, w2, topk_weights, topk_ids, activation, global_num_experts, "
            "expert_map, quant_config",
        ),
        "Activation": Symbol(f"{_MOE}.activation", "MoEActivation", "SILU, RELU2_NO_MUL"),
        "override_config": Symbol(_MOE, "override_config", "config"),
        "fp8_w8a8": Symbol(
            f"{_MOE}.config",
            "fp8_w8a8_moe_quant_config",
            "w1_scale, w2_scale, a1_scale, a2_scale, per_act_token_quant, per_out_ch_quant, "
            "block_shape",
        ),
        "int8_w8a8": Symbol(
            f"{_MOE}.config",
            "int8_w8a8_moe_quant_config",
            "w1_scale, w2_scale, a1_scale, a2_scale, per_act_token_quant",
        ),
        "int8_w8a16": Symbol(
            f"{_MOE}.config",
            "int8_w8a16_moe_quant_config",
            "w1_scale, w2_scale, w1_zp, w2_zp, block_shape",
        ),
        "int4_w4a16": Symbol(
            f"{_MOE}.config",
            "int4_w4a16_moe_quant_config",
            "w1_scale, w2_scale, w1_zp, w2_zp, block_shape",
        ),
        "Config": Symbol("vllm.config", "VllmConfig"),
        "set_config": Symbol("vllm.config", "set_current_vllm_config", "vllm_config"),
    },
)


class VllmMoe(EngineProvider):
    """vLLM's fused MoE, under a config of its defaults."""

    name = "vllm"
    does = "quantises the activations where the dtype does; then alignment to sum, as it serves"
    needs = NEEDS

    def __init__(self, site: ProviderSite) -> None:
        super().__init__(site)
        self.undo.enter_context(self._of["set_config"](self._of["Config"]()))

    def why_not(self, problem: Problem) -> str | None:
        if problem.dtype is Dtype.INT8_W8A8 and scales_of(problem) is Scales.BLOCK:
            return "vLLM's int8_w8a8 takes no block scales"
        return super().why_not(problem)

    def prepare(self, inputs: MoeInputs) -> _VllmLayer:
        problem, given = inputs.problem, EngineInputs.of(inputs)
        activation = self._of["Activation"]
        keywords = {
            "w1": given.up.values,
            "w2": given.down.values,
            "activation": activation.SILU if problem.gated else activation.RELU2_NO_MUL,
            "global_num_experts": problem.experts * problem.ep_size,
            "expert_map": _expert_map(problem, given.x.device),
            "quant_config": self._quant_config(problem, given),
        }
        ids = inputs.topk_ids.clone()
        layer = _VllmLayer(inputs, self._of, given, ids, keywords)
        layer.follow()
        return layer

    def _quant_config(self, problem: Problem, given: EngineInputs) -> Any:
        if not problem.dtype.is_quantized:
            return None
        keywords: dict[str, Any] = {"w1_scale": given.up.scale, "w2_scale": given.down.scale}
        if problem.dtype in (Dtype.FP8_W8A8, Dtype.INT8_W8A8):
            per_token = scales_of(problem) is Scales.CHANNEL
            keywords |= {"a1_scale": given.x_scale, "a2_scale": given.down_row_scale}
            keywords["per_act_token_quant"] = per_token
            if problem.dtype is Dtype.FP8_W8A8:
                keywords |= {"per_out_ch_quant": per_token, "block_shape": given.block_shape}
        else:
            keywords |= {"w1_zp": given.up.zero, "w2_zp": given.down.zero}
            keywords["block_shape"] = given.block_shape
        return self._of[problem.dtype.value](**keywords)


@dataclass(frozen=True, slots=True)
class _VllmLayer(EngineLayer):
    """``ids`` are experts of all ranks, as vLLM wants them: its map drops the others'."""

    of: dict[str, Any]
    given: EngineInputs
    ids: Tensor
    keywords: dict[str, Any]

    def route(self, routing: RoutingTensors) -> None:
        self.inputs.set_routing(routing)
        self.follow()

    def follow(self) -> None:
        """Takes over the routing that the inputs hold."""
        problem, ids = self.inputs.problem, self.inputs.topk_ids
        elsewhere = (problem.ep_rank + 1) % problem.ep_size * problem.experts
        own = ids + problem.ep_rank * problem.experts
        self.ids.copy_(torch.where(ids < 0, elsewhere, own))

    def run(self, config: AnyConfig | None) -> Tensor:
        with self._overridden(config):
            out: Tensor = self.of["fused_experts"](
                hidden_states=self.given.x,
                topk_weights=self.inputs.topk_weights,
                topk_ids=self.ids,
                **self.keywords,
            )
        return out

    def _overridden(self, config: AnyConfig | None) -> Any:
        """vLLM keeps the override of a call that failed: no override is one, too."""
        if config is None:
            return self.of["override_config"](None)
        if isinstance(config, ConfigPair):
            raise ProviderError("vLLM takes one config for both GEMMs, not a pair")
        keys = replace(config, use_tma=None).as_keys()
        is_grouped = scales_of(self.inputs.problem) is Scales.GROUP
        return self.of["override_config"](keys | ({SPLIT_K: 1} if is_grouped else {}))


def _expert_map(problem: Problem, device: torch.device) -> Tensor | None:
    """[all experts] int32: this rank's index, -1 for other ranks'; None without them."""
    if problem.ep_size == 1:
        return None
    of_all = torch.full((problem.experts * problem.ep_size,), -1, dtype=torch.int32)
    start = problem.ep_rank * problem.experts
    of_all[start : start + problem.experts] = torch.arange(problem.experts, dtype=torch.int32)
    return of_all.to(device)
