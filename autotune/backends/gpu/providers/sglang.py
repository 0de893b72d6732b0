"""SGLang's fused MoE, called as its own scripts call it.

Known from the source of 0.5.22 and 0.5.23: the kernel asks a published server configuration
(deterministic inference, fused reduction), and a call that is not in place asks for the tensor
parallel group, of which there is one with one rank.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
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
from autotune.errors import ProviderError
from autotune.kernels.inputs import MoeInputs
from autotune.spec.binary import Scales, scales_of
from autotune.spec.config import AnyConfig, ConfigPair
from autotune.spec.problem import Dtype, Problem

_TRITON_UTILS = "sglang.srt.layers.moe.moe_runner.triton_utils"
_PARALLEL = "sglang.srt.distributed.parallel_state"
_ARGS = "sglang.srt.server_args"

NEEDS = Needs(
    package="sglang",
    title="SGLang",
    since="0.5.22",
    until="0.6",
    symbols={
        "fused_experts": Symbol(
            f"{_TRITON_UTILS}.fused_moe",
            "fused_experts",
            "hidden_states, w1, w2, topk_output, moe_runner_config, use_fp8_w8a8, use_int8_w8a8, "
            "use_int8_w8a16, use_int4_w4a16, per_channel_quant, w1_scale, w2_scale, w1_zp, w2_zp, "
            "a1_scale, a2_scale, block_shape",
        ),
        "override_config": Symbol(_TRITON_UTILS, "override_config", "config"),
        "TopKOutput": Symbol(
            "sglang.srt.layers.moe.topk",
            "StandardTopKOutput",
            "topk_weights, topk_ids, router_logits",
        ),
        "RunnerConfig": Symbol(
            "sglang.srt.layers.moe.moe_runner.base",
            "MoeRunnerConfig",
            "num_experts, num_local_experts, inplace, activation, is_gated",
        ),
        "ServerArgs": Symbol(_ARGS, "ServerArgs"),  # its fields are put together at import
        "set_server_args": Symbol(_ARGS, "set_global_server_args_for_scheduler", "server_args"),
        "init_distributed": Symbol(
            _PARALLEL,
            "init_distributed_environment",
            "world_size, rank, distributed_init_method, local_rank, backend",
        ),
        "init_parallel": Symbol(_PARALLEL, "initialize_model_parallel"),
        "destroy_parallel": Symbol(_PARALLEL, "destroy_model_parallel"),
        "destroy_distributed": Symbol(_PARALLEL, "destroy_distributed_environment"),
    },
)


class SGLangMoe(EngineProvider):
    """SGLang's fused MoE, from a process group of one rank."""

    name = "sglang"
    does = "quantises the activations where the dtype does; then alignment to sum, as it serves"
    needs = NEEDS

    def __init__(self, site: ProviderSite) -> None:
        super().__init__(site)
        with self.undo:  # the groups that there are, where another one fails
            self._start()
            self.undo = self.undo.pop_all()

    def why_not(self, problem: Problem) -> str | None:
        if problem.dtype is Dtype.FP32:
            return "SGLang's kernel stores float32 results as float16"
        if problem.dtype is Dtype.INT8_W8A8 and scales_of(problem) is Scales.TENSOR:
            return "SGLang's int8_w8a8 has scales per channel alone; try --per-channel-quant"
        return super().why_not(problem)

    def prepare(self, inputs: MoeInputs) -> _SGLangLayer:
        problem, given = inputs.problem, EngineInputs.of(inputs)
        runner = self._of["RunnerConfig"](
            num_experts=problem.experts * problem.ep_size,
            num_local_experts=problem.experts,
            inplace=False,
            activation="silu" if problem.gated else "relu2",
            is_gated=problem.gated,
        )
        logits = torch.zeros((problem.tokens, problem.experts), device=given.x.device)
        keywords = {
            "w1": given.up.values,
            "w2": given.down.values,
            "moe_runner_config": runner,
            **_dtype_flags(problem),
            "per_channel_quant": scales_of(problem) is Scales.CHANNEL
            and inputs.elements.quantizes_activations,
            "w1_scale": given.up.scale,
            "w2_scale": given.down.scale,
            "w1_zp": given.up.zero,
            "w2_zp": given.down.zero,
            "a1_scale": given.x_scale,
            "a2_scale": given.down_row_scale,
            "block_shape": given.block_shape,
        }
        return _SGLangLayer(inputs, self._of, given, logits, keywords)

    def _start(self) -> None:
        """One rank, met through a file: no port is opened."""
        self._of["set_server_args"](self._of["ServerArgs"](model_path="dummy"))
        folder = self.undo.enter_context(tempfile.TemporaryDirectory(prefix="autotune-sglang-"))
        meeting = Path(folder) / "meeting"
        self._of["init_distributed"](
            world_size=1,
            rank=0,
            distributed_init_method=f"file://{meeting}",
            local_rank=0,
            backend="nccl" if self.site.is_gpu else "gloo",
        )
        self.undo.callback(self._of["destroy_distributed"])
        self._of["init_parallel"]()
        self.undo.callback(self._of["destroy_parallel"])


@dataclass(frozen=True, slots=True)
class _SGLangLayer(EngineLayer):
    of: dict[str, Any]
    given: EngineInputs
    logits: Tensor
    """Nobody reads them once experts are chosen."""
    keywords: dict[str, Any]

    def run(self, config: AnyConfig | None) -> Tensor:
        inputs = self.inputs
        chosen = self.of["TopKOutput"](inputs.topk_weights, inputs.topk_ids, self.logits)
        with self._overridden(config):
            out: Tensor = self.of["fused_experts"](
                hidden_states=self.given.x, topk_output=chosen, **self.keywords
            )
        return out

    def _overridden(self, config: AnyConfig | None) -> Any:
        if isinstance(config, ConfigPair):
            raise ProviderError("SGLang can be handed one config for both GEMMs, not a pair")
        return self.of["override_config"](config.as_keys()) if config else nullcontext()


def _dtype_flags(problem: Problem) -> dict[str, bool]:
    """Return the ``use_…`` flags."""
    names = (Dtype.FP8_W8A8, Dtype.INT8_W8A8, Dtype.INT8_W8A16, Dtype.INT4_W4A16)
    return {f"use_{dtype.value}": problem.dtype is dtype for dtype in names}
