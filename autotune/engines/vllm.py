"""vLLM (0.33.0): one flat folder, the Triton version inside the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from autotune.engines import vllm_kernels
from autotune.engines.base import Engine, Found, Mode
from autotune.engines.entries import CONFIG_KEYS, LAUNCH_OPTIONS, SPLIT_K, USE_TMA
from autotune.engines.kernel_choice import KernelChoice, case_of, chosen
from autotune.engines.legality import scale_block, why_not_shared
from autotune.engines.names import VERSION_KEY, NameParts, checked_device, dtype_part
from autotune.engines.serving import (
    blocks_are_cut,
    check_method,
    check_spread_over_all,
    cut_block,
    ranks_of_expert,
    refined_block,
)
from autotune.errors import NotServedError
from autotune.models.problems import Parallelism
from autotune.models.shape import ModelShape
from autotune.spec.config import Config
from autotune.spec.device import Device, Target
from autotune.spec.problem import Dtype, Problem

_BY_ID = {
    "AMD_Instinct_MI325_OAM": "AMD_Instinct_MI325X",
    "Radeon_8060S_Graphics": "AMD_Radeon_8060S",
}
"""Names from drivers → what vLLM calls their ids, where a name belongs to one id alone (0x74a5,
0x1586 in its platforms/rocm.py). It ships files under the former that it opens no more."""
_NO_REFINING = (
    "It refines blocks of method fp8 alone, and to 32 at least; its --moe-backend triton pads N "
    "there, which is not tuned here"
)
_MISSING_EXPERT_DTYPE = (  # models/deepseek_v4/quant_config.py:47
    "its config says no expert_dtype, which vLLM takes for fp4, and its quantization_config says "
    """fp8. Put "expert_dtype": "fp8" into the config, and give vLLM --hf-overrides """
    """'{"expert_dtype": "fp8"}'; SGLang looks into the weights"""
)
_NO_METHODS = ("w8a8-fp8", "w8a8-int8", "blockwise-int8")
"""SGLang's own, not of vLLM's ``QuantizationMethods`` (layers/quantization/__init__.py)."""
_INTEGER_WEIGHTS = (Dtype.INT4_W4A16, Dtype.INT8_W8A16)
_ON = ("1", "true")
_TAKES = "serve with --moe-backend triton"


class VLLM(Engine):
    """vLLM's flat folder of files, each of which serves both GEMMs.

    On ROCm vLLM names the device by its id; that is the same as Device.name for those that torch
    calls "AMD Instinct MI300X" or "AMD Instinct MI325X". Where torch says something longer
    ("AMD Instinct MI300X VF", "… OAM"), give the device the short name: the id is not known here.
    """

    name = "vllm"
    title = "vLLM"
    version = "0.33.0"
    modes = (
        Mode(
            "VLLM_BATCH_INVARIANT",
            ("1",),
            "opens no tuned file, its own or ours: unset it where speed counts more",
            "model_executor/layers/fused_moe/fused_moe.py:1126",
        ),
        Mode(
            "VLLM_ROCM_USE_AITER",
            _ON,
            f"takes AITER's kernels on AMD where it can: {_TAKES}",
            "model_executor/layers/fused_moe/oracle/fp8.py:506",
        ),
        *(
            Mode(
                variable,
                ("1",),
                f"takes DeepGEMM for block fp8, also where Triton is its own choice: {_TAKES}",
                "model_executor/layers/fused_moe/oracle/fp8.py:484",
            )
            for variable in ("VLLM_USE_DEEP_GEMM", "VLLM_MOE_USE_DEEP_GEMM")
        ),
    )
    env_variable = "VLLM_TUNED_CONFIG_FOLDER"
    env_replaces = False
    has_down_file = False
    keys = (CONFIG_KEYS - {USE_TMA}) | {SPLIT_K} | LAUNCH_OPTIONS
    header = frozenset({VERSION_KEY})
    other_kernels: ClassVar[Mapping[str, str]] = {
        ",dtype=int4_w4a16,backend=flydsl.json": "FlyDSL",
    }
    uneven = (
        "gives the first ranks one expert more and so two files, but no redundant experts then "
        "(model_executor/layers/fused_moe/expert_map_manager.py:69, layer.py:276); only ranks "
        "with as many experts are tuned here"
    )
    shipped = ("model_executor/layers/fused_moe/configs",)

    def ranks_of_expert(self, parallel: Parallelism) -> int:
        """All or one (model_executor/layers/fused_moe/config.py:1198)."""
        check_spread_over_all(self.title, parallel)
        return ranks_of_expert(parallel)

    def loaded(self, shape: ModelShape, problem: Problem, ranks: int) -> Problem:
        """Blocks that are cut are refined where the checkpoint's method is fp8."""
        check_method(self.title, shape, problem, _NO_METHODS)
        stored = shape.quantization
        if stored and stored.is_assumed and problem.dtype is stored.dtype:
            raise NotServedError(f"{shape.name}: {_MISSING_EXPERT_DTYPE}")
        block = cut_block(problem, ranks)
        if block is None:
            return problem
        refined = refined_block(problem, block) if stored and stored.method == "fp8" else None
        if refined is None:
            raise blocks_are_cut(self.title, shape, problem, _NO_REFINING)
        return replace(problem, block_shape=refined)

    def kernel_choice(self, shape: ModelShape, problem: Problem, target: Target) -> KernelChoice:
        """Not known above the most experts that its Triton kernel takes."""
        case = case_of(shape, problem, target)
        many = problem.experts * problem.ep_size > vllm_kernels.MOST_EXPERTS
        return chosen(() if many else vllm_kernels.RULES, case, vllm_kernels.FLAG)

    def constants(self, problem: Problem) -> dict[str, int]:
        """The kernel for grouped integer weights takes SPLIT_K without a default."""
        grouped = problem.dtype is Dtype.INT4_W4A16 or problem.block_shape is not None
        return {SPLIT_K: 1} if problem.dtype in _INTEGER_WEIGHTS and grouped else {}

    def device_name(self, name: str) -> str:
        """Runs of spaces and slashes become ``_``; the whole H200 family shares one name."""
        spelled = checked_device(re.sub(r"[\s/]+", "_", name))
        return "NVIDIA_H200" if "H200" in spelled.split("_") else _BY_ID.get(spelled, spelled)

    def parse_name(self, name: str) -> NameParts | None:
        """A scale block without a dtype part is int8_w8a8's: vLLM's names omit that dtype."""
        parts = super().parse_name(name)
        if parts and parts.block_shape and not parts.dtype:
            return replace(parts, dtype=Dtype.INT8_W8A8.value)
        return parts

    def spell(self, parts: NameParts) -> str:
        """Nothing for int8_w8a8, which reads the bf16 file, nor for per-channel scales."""
        if parts.down:
            raise ValueError("vLLM has no file for the down GEMM: one file serves both")
        dtype = "" if parts.dtype == Dtype.INT8_W8A8.value else dtype_part(parts.dtype)
        device = self.device_name(parts.device_name)
        spelled = replace(parts, device_name=device, dtype=dtype, per_channel_quant=False)
        return spelled.text(block_separator=",")

    def folder_of(self, path: Path) -> Path | None:
        return path.absolute().parent

    def lookup(
        self, folder: Path, problem: Problem, device: Device, tokens: int, *, down: bool = False
    ) -> Found | None:
        path = folder / self.file_name(problem, device, down=down)
        found = self.find_in(path, tokens) if path.exists() else None
        return found and replace(found, config=self.launched(problem, found.config))

    def default_config(self, problem: Problem, device: Device) -> Config:
        block = scale_block(problem)
        if problem.dtype is Dtype.FP8_W8A8 and block:
            config = _default_of_blocks(problem.tokens, block)
        elif problem.dtype is Dtype.INT4_W4A16 or (
            problem.dtype is Dtype.INT8_W8A16 and problem.block_shape
        ):
            return _default_of_groups(problem.tokens)
        else:
            config = _default(problem)
        on_amd = device.target.backend == "hip"  # where vLLM keeps two stages
        return replace(config, num_stages=2) if on_amd else config

    def why_illegal(self, problem: Problem, device: Device, config: Config) -> str | None:
        if config.use_tma:
            return f"{USE_TMA} is not a key of vLLM's kernel"
        return why_not_shared(problem, device, config)

    def launched(self, problem: Problem, config: Config) -> Config:
        """``BLOCK_SIZE_K`` clamped to the scale block, as vLLM does."""
        block = scale_block(problem)
        if block is None or config.block_size_k <= min(block):
            return config
        return replace(config, block_size_k=min(block))

    def body(
        self, configs: Mapping[int, Config], problem: Problem, device: Device
    ) -> dict[str, Any]:
        return {VERSION_KEY: device.triton_version, **super().body(configs, problem, device)}


def _default_of_blocks(tokens: int, block: tuple[int, int]) -> Config:
    block_n, block_k = block
    block_m = 16 if tokens <= 64 else 64
    group = 1 if tokens <= 16 else 32
    if tokens <= 8 and block_n % 64 == 0:
        return Config(block_m, 64, block_k, group, 4, num_stages=4 if tokens <= 4 else 3)
    return Config(block_m, block_n, block_k, group, num_warps=4, num_stages=3)


def _default_of_groups(tokens: int) -> Config:
    """vLLM picks BLOCK_SIZE_M here, N and K at the launch, and leaves the rest to Triton."""
    block_m = 16 if tokens <= 20 else 32 if tokens <= 40 else 64
    return Config(block_m, 32, 64, 1) if tokens == 1 else Config(block_m, 64, 32, 1)


def _default(problem: Problem) -> Config:
    tokens, is_fp8 = problem.tokens, problem.dtype is Dtype.FP8_W8A8
    limits = ((32, 16), (96, 32), (512, 64))
    return Config(
        block_size_m=next((size for limit, size in limits if tokens <= limit), 128),
        block_size_n=64 if tokens <= 64 else 128,
        block_size_k=128 if is_fp8 or tokens <= 64 else 64,
        group_size_m=16 if tokens // problem.experts > 128 else 1,
        num_warps=4 if tokens <= 128 else 8,
        num_stages=4 if tokens <= 32 else 3,
    )
