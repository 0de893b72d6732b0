"""The kernel that our rules name, beside the one that vLLM's own oracles take out of its wheel."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from autotune.engines import vllm_kernels
from autotune.engines.kernel_choice import (
    AMD,
    CUDA,
    NOTHING,
    SM90,
    SM100,
    SM120,
    Case,
    Scheme,
    chosen,
)
from autotune.engines.own_code.pieces import Source

MOE = "model_executor/layers/fused_moe"
KEYS = "model_executor/layers/quantization/utils/quant_utils.py"
NAMES = {
    "TRITON": "Triton",
    "FLASHINFER_TRTLLM": "FlashInfer TRT-LLM",
    "FLASHINFER_CUTLASS": "FlashInfer CUTLASS",
    "DEEPGEMM": "DeepGEMM",
    "VLLM_CUTLASS": "CUTLASS",
    "MARLIN": "Marlin",
    "HUMMING": "Humming",
}
OFF = (
    "AiterUnquantizedExperts",
    "AiterFp8BlockExperts",
    "AiterFp8ChannelExperts",
    "AiterFp8TensorExperts",
    "BatchedTritonExperts",
    "BatchedDeepGemmExperts",
    "CutlassBatchedExpertsFp8",
    "BatchedMarlinExperts",
    "BatchedHummingGroupedExperts",
    "HummingGroupedExperts",
    "XPUExperts",
    "XPUExpertsFp8",
    "XPUExpertsMxFp8",
    "XPUExpertsBlockFp8",
    "XPUExpertsWNA16",
    "CPUExpertsFp8",
    "CPUExpertsFp8W8A8",
    "HPCExperts",
    "Rdna3WNA16Experts",
    "Int4EmulationTritonExperts",
    "CPUExpertsInt8",
    "ZenCPUExpertsInt8",
    "ArmCPUExpertsInt8",
    "PowerCPUExpertsInt8",
)
"""Kernels of other devices, of AITER, which is off, and of another order of tokens."""


_TREES: dict[str, ast.Module] = {}
"""Files that were read for one GPU are not read again for another."""


class _Off:
    """A kernel that is not there."""

    @staticmethod
    def is_supported_config(*_: Any) -> tuple[bool, str]:
        return False, "off"


class _No:
    """Answers False to whatever is asked of a parallel config."""

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)

    def __getattr__(self, name: str) -> bool:
        return False


class GroupShape(NamedTuple):
    row: int
    col: int


class _Groups:
    PER_TENSOR, PER_TOKEN, PER_CHANNEL = GroupShape(-1, -1), GroupShape(1, -1), GroupShape(-1, 1)

    def __call__(self, row: int, col: int) -> GroupShape:
        return GroupShape(row, col)


@dataclass(frozen=True)
class ScaleDesc:
    dtype: Any
    static: bool
    group_shape: GroupShape


@dataclass(frozen=True)
class QuantKey:
    dtype: Any
    scale: ScaleDesc
    scale2: ScaleDesc | None = None
    symmetric: bool = True


class _Words:
    """A value for every name: the name."""

    def __getattr__(self, name: str) -> str:
        return name


class _Gated:
    @property
    def is_gated(self) -> bool:
        return not str(self.value).endswith("_no_mul")  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Platform:
    """What vLLM asks of the GPU."""

    gpu: str

    def __getattr__(self, name: str) -> Any:
        return lambda: False

    @property
    def number(self) -> int:
        return int(self.gpu.removeprefix("SM")) if self.is_cuda() else 0

    device_name = "a GPU"

    def is_cuda(self) -> bool:
        return self.gpu.startswith("SM")

    def is_rocm(self) -> bool:
        return not self.is_cuda()

    def is_cuda_alike(self) -> bool:
        return True

    def is_device_capability(self, number: int) -> bool:
        return self.number == number

    def is_device_capability_family(self, number: int) -> bool:
        return self.is_cuda() and self.number // 10 == number // 10

    def has_device_capability(self, least: int | tuple[int, int]) -> bool:
        number = least if isinstance(least, int) else least[0] * 10 + least[1]
        return self.is_cuda() and self.number >= number

    def supports_fp8(self) -> bool:
        return self.is_rocm() or self.number >= 89

    def support_deep_gemm(self) -> bool:
        return self.number in (90, 100, 120)

    def get_device_capability(self) -> Any:
        return SimpleNamespace(to_int=lambda: self.number) if self.is_cuda() else None


def _enum(source: Source, file: str, name: str, mixin: type = object) -> Any:
    """An enum of the engine's as a real one, with its members alone."""
    body = source.definition(file, name).body
    members = [s for s in body if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name)]
    values = {ast.unparse(s.targets[0]): ast.literal_eval(s.value) for s in members}
    return Enum(name, values, type=mixin) if mixin is not object else Enum(name, values)


def _source(root: Path, gpu: str, missing: str) -> Source:
    """vLLM's package on a GPU of this family, without one package."""
    source = Source(root / "vllm", {})
    source._trees = _TREES
    platform = _Platform(gpu)
    formats = _enum(source, f"{MOE}/modular_kernel.py", "FusedMoEActivationFormat")
    capability = platform.number
    stand_ins: dict[str, Any] = {
        **dict.fromkeys(OFF, _Off()),
        "torch": torch,
        "Enum": Enum,
        "replace": replace,
        "current_platform": platform,
        "GroupShape": _Groups(),
        "ScaleDesc": ScaleDesc,
        "QuantKey": QuantKey,
        "FP8_DTYPE": torch.float8_e4m3fn,
        "scalar_types": _Words(),
        "logger": SimpleNamespace(
            **dict.fromkeys(("info_once", "debug_once", "warning_once"), lambda *_, **__: None)
        ),
        "envs": SimpleNamespace(
            is_set=lambda _: False, VLLM_BATCH_INVARIANT=False, VLLM_USE_DEEP_GEMM=True
        ),
        "rocm_aiter_ops": _Platform(""),
        "get_current_vllm_config": lambda: SimpleNamespace(model_config=None),
        "has_flashinfer_trtllm_fused_moe": lambda: missing != "flashinfer",
        "has_flashinfer_cutlass_fused_moe": lambda: missing != "flashinfer",
        "is_flashinfer_mxint4_moe_available": lambda: missing != "flashinfer",
        "has_deep_gemm": lambda: missing != "deep_gemm",
        "has_humming": lambda: missing != "humming",
        "cutlass_group_gemm_supported": lambda: 90 <= capability < 110,
        "get_humming_moe_gemm_type": lambda _: "indexed",
        "HummingGemmType": SimpleNamespace(INDEXED=SimpleNamespace(value="indexed")),
        "prefers_humming": lambda *_: capability == 90,
        "QuantizationArgs": SimpleNamespace,
        "QuantizationStrategy": _Words(),
        "FusedMoEActivationFormat": formats,
        "MoEActivation": _enum(source, f"{MOE}/activation.py", "MoEActivation", _Gated),
        "_APPLY_MOE_ACTIVATIONS": _Everything(),
        **{
            name: _enum(source, f"{MOE}/oracle/{file}.py", name)
            for file, name in (
                ("unquantized", "UnquantizedMoeBackend"),
                ("fp8", "Fp8MoeBackend"),
                ("int8", "Int8MoeBackend"),
                ("int_wna16", "WNA16MoEBackend"),
            )
        },
        **{
            name: type(name, (), {})
            for name in ("AutoAWQConfig", "AutoGPTQConfig", "MoeWNA16Config")
        },
    }
    source.stand_ins = stand_ins
    base = {
        name: source.get(f"{MOE}/modular_kernel.py", name)
        for name in ("FusedMoEExperts", "FusedMoEExpertsModular", "FusedMoEExpertsMonolithic")
    }
    stand_ins["mk"] = SimpleNamespace(**base, FusedMoEActivationFormat=formats)
    stand_ins |= {f"mk.{name}": value for name, value in base.items()}
    return source


class _Everything:
    def __contains__(self, _: object) -> bool:
        return True


def _taken(source: Source, case: Case) -> str:
    """Return what vLLM's own oracle takes, in our words."""
    activation = source.stand_ins["MoEActivation"]
    config = SimpleNamespace(
        activation=activation.SILU if case.gated else activation.RELU2_NO_MUL,
        is_act_and_mul=case.gated,
        moe_parallel_config=_No(ep_size=8 if case.ep else 1, dp_size=1),
        has_hash_routing=False,
        require_decomposed_backend=False,
        routing_method=source.get(f"{MOE}/config.py", "RoutingMethodType").Renormalize,
        router_logits_dtype=torch.bfloat16,
        hidden_dim=4096,
        num_experts=128,
        is_lora_enabled=False,
        moe_backend="auto",
        swiglu_limit=None,
        swiglu_alpha=None,
        swiglu_beta=None,
        intermediate_size_per_partition_unpadded=1024,
    )
    try:
        backend, _ = _asked(source, case, config)
    except NotImplementedError:
        return NOTHING
    return NAMES.get(backend.name, backend.name)


def _asked(source: Source, case: Case, config: Any) -> Any:
    def key(name: str) -> Any:
        return source.get(KEYS, name)

    def oracle(file: str, name: str) -> Any:
        return source.get(f"{MOE}/oracle/{file}.py", f"select_{name}_moe_backend")

    grouped = case.method == "compressed-tensors"
    if case.scheme is Scheme.PLAIN:
        return oracle("unquantized", "unquantized")(config)
    if case.scheme is Scheme.INT8:
        scales = key("kInt8StaticChannelSym"), key("kInt8DynamicTokenSym")
        return oracle("int8", "int8")(config, *scales)
    integers = {
        Scheme.INT4_BY_32: ("kInt4Static32", 32),
        Scheme.INT4_BY_128: ("kInt4Static", 128),
        Scheme.INT8_WEIGHTS: ("kInt8Static", 128),
    }
    if case.scheme in integers:
        name, size = integers[case.scheme]
        args = SimpleNamespace(group_size=size, actorder=None, strategy="GROUP")
        return oracle("int_wna16", "wna16")(config, key(name), args, False, False, True)
    if case.scheme is Scheme.FP8_OTHER_BLOCK:
        scale = ScaleDesc(torch.float32, True, GroupShape(64, 64))
        weights, activations = QuantKey(torch.float8_e4m3fn, scale), "kFp8Dynamic128Sym"
    else:
        dynamic = "kFp8Dynamic128Sym" if grouped else "kFp8DynamicTensorSym"
        name, activations = {
            Scheme.FP8_BLOCK: ("kFp8Static128BlockSym", "kFp8Dynamic128Sym"),
            Scheme.FP8_CHANNEL: ("kFp8StaticChannelSym", "kFp8DynamicTokenSym"),
            Scheme.FP8_TENSOR: ("kFp8StaticTensorSym", dynamic),
            Scheme.FP8_STATIC: ("kFp8StaticTensorSym", "kFp8StaticTensorSym"),
        }[case.scheme or Scheme.PLAIN]
        weights = key(name)
    cutlass = grouped or (case.scheme is Scheme.FP8_CHANNEL and not case.method)
    return oracle("fp8", "fp8")(config, weights, key(activations), cutlass)


def _cases(gpu: str) -> Iterator[Case]:
    for scheme in Scheme:
        for method in ("", "fp8", "compressed-tensors"):
            for ep in (False, True):
                for gated in (False, True):
                    yield Case(gpu, scheme, method, "SomeModel", ep, gated)


@pytest.mark.parametrize(
    ("gpu", "missing"),
    [
        *((gpu, "") for gpu in (*CUDA, *AMD)),
        *((gpu, "flashinfer") for gpu in (SM90, SM100, SM120)),
        (SM120, "deep_gemm"),
        (SM90, "humming"),
    ],
)
def test_rules_say_what_its_own_code_takes(
    engine_package: Callable[[str], Path], gpu: str, missing: str
) -> None:
    source = _source(engine_package("vllm"), gpu, missing)
    compared, wrong = 0, []
    for case in _cases(gpu):
        choice = chosen(vllm_kernels.RULES, case, "")
        ours = choice.otherwise if choice.package == missing and missing else choice.backend
        if not ours or case.scheme is Scheme.INT4:
            continue
        theirs = _taken(source, case)
        compared += 1
        if not (theirs.startswith(ours) or ours.startswith(theirs)):
            wrong.append((case, ours, theirs))
    assert compared > 20
    assert not wrong, "\n".join(map(str, wrong))
