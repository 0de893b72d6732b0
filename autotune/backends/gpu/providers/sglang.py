"""SGLang's fused MoE, called as its own scripts call it.

Known from the source of 0.5.22 and 0.5.23: the kernel asks a published server configuration
(deterministic inference, fused reduction), and a call that is not in place asks for the tensor
parallel group, of which there is one with one rank. An override is one config for both GEMMs; a
config for each comes from two files alone, which its lookup reads once.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor

from autotune.backends.gpu.launches import Launch, config_of
from autotune.backends.gpu.providers.base import ProviderSite
from autotune.backends.gpu.providers.engine import (
    EngineInputs,
    EngineLayer,
    EngineProvider,
    Needs,
    Symbol,
)
from autotune.engines.sglang import SGLang, version_folder
from autotune.kernels.inputs import MoeInputs
from autotune.spec.binary import Scales, scales_of
from autotune.spec.config import AnyConfig, ConfigPair, pair_of
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
        "file_name": Symbol(
            f"{_TRITON_UTILS}.fused_moe_triton_config",
            "get_config_file_name",
            "E, N, dtype, block_shape, per_channel_quant, down_moe",
        ),
        "read_files": Symbol(
            f"{_TRITON_UTILS}.fused_moe_triton_config",
            "get_moe_configs",
            "E, N, dtype, block_n, block_k, per_channel_quant, down_moe",
        ),
        "forget_descriptors": Symbol(
            "sglang.kernels.ops.moe.fused_moe_triton_kernels", "clear_b_tma_desc_cache"
        ),
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
    takes_pairs = True

    def __init__(self, site: ProviderSite) -> None:
        super().__init__(site)
        with self.undo:  # the groups that there are, where another one fails
            folder = tempfile.TemporaryDirectory(prefix="autotune-sglang-")
            path = Path(self.undo.enter_context(folder))
            self._lookup = _Lookup(path, self._of["read_files"].cache_clear)
            self._start(path / "meeting")
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
        return _SGLangLayer(inputs, self._of, given, logits, keywords, self._lookup)

    def _start(self, meeting: Path) -> None:
        """One rank, met through a file: no port is opened."""
        self._of["set_server_args"](self._of["ServerArgs"](model_path="dummy"))
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


@dataclass(slots=True)
class _Lookup:
    """SGLang's lookup of config files, which finds a pair while that is launched."""

    folder: Path
    """A folder of ours, in place of the user's."""
    forget: Callable[[], None]
    """Has SGLang read files again."""
    _found: tuple[tuple[str, str], ConfigPair] | None = None
    """The pair in the files of these names, as long as SGLang has read them."""

    @contextmanager
    def finds(self, pair: ConfigPair, names: tuple[str, str]) -> Iterator[None]:
        """Have SGLang find the pair under ``names``, of the up and the down file, while open."""
        before = os.environ.get(SGLang.env_variable)
        os.environ[SGLang.env_variable] = str(self.folder)
        try:
            if self._found != (names, pair):
                self._write(pair, names)
                self.forget()
                self._found = names, pair
            yield
        finally:
            del os.environ[SGLang.env_variable]
            if before is not None:
                os.environ[SGLang.env_variable] = before

    def finds_own(self) -> None:
        """Have SGLang find the user's own files."""
        if self._found is not None:
            self.forget()
            self._found = None

    def _write(self, pair: ConfigPair, names: tuple[str, str]) -> None:
        folder = self.folder / "configs" / version_folder(triton.__version__)
        folder.mkdir(parents=True, exist_ok=True)
        for name, config in zip(names, (pair.up, pair.down), strict=True):
            (folder / name).write_text(json.dumps({"1": config.as_keys()}))


@dataclass(frozen=True, slots=True)
class _SGLangLayer(EngineLayer):
    of: dict[str, Any]
    given: EngineInputs
    logits: Tensor
    """Nobody reads them once experts are chosen."""
    keywords: dict[str, Any]
    lookup: _Lookup

    def launches(self, config: AnyConfig | None) -> list[Launch]:
        """See ``EngineLayer``. Raises ValueError where SGLang does not launch a pair as it is."""
        found = EngineLayer.launches(self, config)
        if isinstance(config, ConfigPair):
            launched = config_of(found)
            if launched is None or pair_of(launched) != _as_launched(config):
                raise ValueError(f"SGLang launches {launched} where its files say {config}")
        return found

    def run(self, config: AnyConfig | None) -> Tensor:
        inputs = self.inputs
        chosen = self.of["TopKOutput"](inputs.topk_weights, inputs.topk_ids, self.logits)
        with self._taken(config):
            out: Tensor = self.of["fused_experts"](
                hidden_states=self.given.x, topk_output=chosen, **self.keywords
            )
        self.of["forget_descriptors"]()  # which hold on to weights that others may replace
        return out

    @contextmanager
    def _taken(self, config: AnyConfig | None) -> Iterator[None]:
        """Have SGLang take ``config``. It keeps the override of a call that failed: no override is
        one, too."""
        override: dict[str, int] | None = None
        found: AbstractContextManager[None] = nullcontext()
        if isinstance(config, ConfigPair):
            found = self.lookup.finds(config, self._file_names())
        elif config is not None:
            override = config.as_keys()
        else:
            self.lookup.finds_own()
        with found, self.of["override_config"](override):
            yield

    def _file_names(self) -> tuple[str, str]:
        """Names of the up and the down file, as SGLang looks for them in this call."""
        experts, _, n = self.keywords["w2"].shape
        problem = self.inputs.problem
        up, down = (
            self.of["file_name"](
                experts,
                n,
                problem.dtype.value if problem.dtype.is_quantized else None,
                block_shape=self.given.block_shape,
                per_channel_quant=self.keywords["per_channel_quant"],
                down_moe=is_down,
            )
            for is_down in (False, True)
        )
        return up, down


def _as_launched(pair: ConfigPair) -> ConfigPair:
    """Return the pair as its launches tell it: without TMA nothing is said of it."""
    up, down = (replace(half, use_tma=half.use_tma or None) for half in (pair.up, pair.down))
    return ConfigPair(up, down)


def _dtype_flags(problem: Problem) -> dict[str, bool]:
    """Return the ``use_…`` flags."""
    names = (Dtype.FP8_W8A8, Dtype.INT8_W8A8, Dtype.INT8_W8A16, Dtype.INT4_W4A16)
    return {f"use_{dtype.value}": problem.dtype is dtype for dtype in names}
