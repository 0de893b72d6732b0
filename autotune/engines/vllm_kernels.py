"""The kernels that vLLM (0.33.0) takes for experts by itself, on one rank or more, without LoRA and
without an all-to-all backend that batches tokens by expert (DeepEP's low-latency one, NIXL).

An oracle for each kind of weights goes through an ordered list and takes the first kernel that
supports the case (``is_supported_config``, model_executor/layers/fused_moe/modular_kernel.py:580).
With more data-parallel ranks than one, bf16 on SM120 goes to Triton (oracle/unquantized.py:86).
"""

from __future__ import annotations

from autotune.engines.kernel_choice import (
    AMD,
    CUDA,
    FP8,
    INT_WEIGHTS,
    NOTHING,
    SM80,
    SM89,
    SM90,
    SM100,
    SM120,
    TRITON,
    KernelChoice,
    KernelRule,
    Scheme,
    Source,
)

FLAG = "--moe-backend triton"
MOST_EXPERTS = 992
"""Above it Triton's kernel is refused (experts/triton_moe.py:89)."""
_MOE = "model_executor/layers/fused_moe"
_QUANTIZATION = "model_executor/layers/quantization"
_BF16 = f"{_MOE}/oracle/unquantized.py"
_FP8 = f"{_MOE}/oracle/fp8.py"
_ORDER = "_get_priority_backends"
_WNA16 = "--quantization moe_wna16"
_AITER = "VLLM_ROCM_USE_AITER=1"
_PLAIN = (Scheme.PLAIN,)
_BLOCK = (Scheme.FP8_BLOCK,)
_TENSOR = (Scheme.FP8_TENSOR,)
_STATIC = (Scheme.FP8_STATIC,)
_CHANNEL = (Scheme.FP8_CHANNEL,)
_GROUPED = ("compressed-tensors",)
_GPTQ = ("gptq",)  # with activation order Triton's kernel is refused (oracle/int_wna16.py:199)
_AWQ = ("awq",)
_BY_BLOCK = ("fp8", "", *_GROUPED)
_BY_TENSOR = ("fp8", "")


def _triton(file: str, line: int, name: str, unless: str = "") -> KernelChoice:
    return KernelChoice(TRITON, FLAG, unless=unless, source=Source(file, line, name))


def _other(
    backend: str, source: Source, package: str = "", otherwise: str = TRITON, flag: str = FLAG
) -> KernelChoice:
    return KernelChoice(backend, flag, package, otherwise if package else "", source=source)


_LIST = Source(_FP8, 88, _ORDER)
_NO_FP8 = Source(f"{_MOE}/experts/triton_moe.py", 159, "_supports_quant_scheme")
_NOT_SILU = (f"{_MOE}/experts/deep_gemm_moe.py", 191, "_supports_activation")
_NOT_GATED = (f"{_MOE}/experts/deep_gemm_moe.py", 174, "_supports_no_act_and_mul")
_NO_DEEP_GEMM = ("utils/deep_gemm.py", 43, "should_auto_disable_deep_gemm")
_CUTLASS = Source("_custom_ops.py", 864, "cutlass_group_gemm_supported")
_TENSOR_OF_GROUPS = Source(
    f"{_QUANTIZATION}/compressed_tensors/compressed_tensors_moe/compressed_tensors_moe_w8a8_fp8.py",
    97,
    "__init__",
)
_INTEGERS = Source(f"{_MOE}/oracle/int_wna16.py", 133, _ORDER)
_HUMMING = Source(f"{_QUANTIZATION}/utils/humming/priority.py", 35, "prioritize_humming")
_NO_MARLIN = (f"{_QUANTIZATION}/utils/marlin_utils.py", 369, "check_moe_marlin_supports_config")
_NO_METHOD = Source(f"{_QUANTIZATION}/__init__.py", 113, "get_quantization_config")
_GEMMA = frozenset({"Gemma4ForConditionalGeneration", "Gemma4ForCausalLM"})
_QWEN3_5 = frozenset({"Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"})
_ANY: frozenset[str] = frozenset()
_HOPPER_ON = (SM90, SM100, SM120)

RULES: tuple[KernelRule, ...] = (
    # bf16 and fp16
    KernelRule(_triton(_BF16, 92, _ORDER), CUDA, _PLAIN, models=frozenset({"GptOssForCausalLM"})),
    KernelRule(_triton(_BF16, 69, _ORDER), (SM80, SM89), _PLAIN),
    KernelRule(_triton(_BF16, 78, _ORDER), (SM90,), _PLAIN),
    KernelRule(_other("FlashInfer", Source(_BF16, 69, _ORDER), "flashinfer"), (SM100,), _PLAIN),
    KernelRule(
        _other("FlashInfer CUTLASS", Source(_BF16, 69, _ORDER), "flashinfer"), (SM120,), _PLAIN
    ),
    KernelRule(_triton(_BF16, 63, _ORDER, _AITER), AMD, _PLAIN),
    # fp8: no Triton below SM89
    KernelRule(
        _other("Marlin", _NO_FP8, flag=""), (SM80,), FP8, ("fp8", *_GROUPED, "modelopt FP8")
    ),
    KernelRule(_other(NOTHING, _NO_FP8, flag=""), (SM80,), (Scheme.FP8_OTHER_BLOCK,), ("fp8",)),
    KernelRule(
        _triton(f"{_MOE}/experts/triton_moe.py", 177, "_supports_quant_scheme"),
        (SM89, *_HOPPER_ON, *AMD),
        (Scheme.FP8_OTHER_BLOCK,),
        ("fp8",),
    ),
    *(
        KernelRule(
            _other("FlashInfer CUTLASS", Source(_FP8, 129, _ORDER), "flashinfer", otherwise),
            (SM90,),
            _BLOCK,
            _BY_BLOCK,
            ep=True,
            gated=gated,
        )
        for otherwise, gated in (("DeepGEMM", True), (TRITON, False))
    ),
    KernelRule(_triton(_FP8, 132, _ORDER), (SM90,), _BLOCK, _BY_BLOCK),
    KernelRule(_triton(*_NOT_SILU), (SM100, SM120), _BLOCK, _BY_BLOCK, models=_GEMMA),
    *(
        KernelRule(
            _other("FlashInfer TRT-LLM", _LIST, "flashinfer", otherwise),
            (SM100,),
            _BLOCK,
            _BY_BLOCK,
            models,
            gated=gated,
        )
        for otherwise, models, gated in (
            (TRITON, _QWEN3_5, None),
            ("DeepGEMM", _ANY, True),
            (TRITON, _ANY, False),
        )
    ),
    KernelRule(_triton(*_NOT_GATED), (SM120,), _BLOCK, _BY_BLOCK, gated=False),
    KernelRule(_triton(*_NO_DEEP_GEMM), (SM120,), _BLOCK, _BY_BLOCK, models=_QWEN3_5),
    KernelRule(_other("DeepGEMM", _LIST, "deep_gemm"), (SM120,), _BLOCK, _BY_BLOCK),
    KernelRule(_other("CUTLASS", _CUTLASS), (SM90,), _CHANNEL, ("", *_GROUPED), gated=True),
    KernelRule(
        _other("CUTLASS above 8 tokens", _CUTLASS), (SM100,), _CHANNEL, ("", *_GROUPED), gated=True
    ),
    KernelRule(
        _other("Humming", _TENSOR_OF_GROUPS, "humming", "Marlin", flag=""),
        (SM90,),
        _TENSOR,
        _GROUPED,
    ),
    KernelRule(_other("Marlin", _TENSOR_OF_GROUPS, flag=""), CUDA, _TENSOR, _GROUPED),
    *(
        KernelRule(_other(backend, _LIST, "flashinfer", otherwise), gpus, _STATIC, methods, gated=g)
        for otherwise, methods, g in (
            ("CUTLASS", _GROUPED, True),
            (TRITON, ("fp8", "modelopt FP8", *_GROUPED), None),
        )
        for backend, gpus in (("FlashInfer CUTLASS", (SM90,)), ("FlashInfer", (SM100,)))
    ),
    KernelRule(
        _other("FlashInfer CUTLASS", _LIST, "flashinfer"),
        (SM120,),
        _STATIC,
        ("fp8", "modelopt FP8", *_GROUPED),
    ),
    KernelRule(_triton(_FP8, 88, _ORDER), (SM89,), FP8, (*_BY_BLOCK, "modelopt FP8")),
    KernelRule(_triton(_FP8, 88, _ORDER), _HOPPER_ON, _CHANNEL, ("", *_GROUPED)),
    KernelRule(_triton(_FP8, 88, _ORDER), _HOPPER_ON, _TENSOR, _BY_TENSOR),
    KernelRule(_triton(_FP8, 88, _ORDER, _AITER), AMD, (*_BLOCK, *_CHANNEL), _BY_BLOCK),
    KernelRule(_triton(_FP8, 88, _ORDER, _AITER), AMD, (*_TENSOR, *_STATIC), _BY_TENSOR),
    # integers
    KernelRule(
        _other(NOTHING, _NO_METHOD, flag=""),
        (*CUDA, *AMD),
        (Scheme.INT8, Scheme.INT8_BLOCK, Scheme.FP8_CHANNEL),
        ("w8a8-int8", "blockwise-int8", "w8a8-fp8"),
    ),
    KernelRule(
        _triton(f"{_MOE}/oracle/int8.py", 41, _ORDER),
        (*CUDA, *AMD),
        (Scheme.INT8,),
        ("", *_GROUPED),
    ),
    KernelRule(_triton(*_NO_MARLIN), AMD, INT_WEIGHTS, (*_GROUPED, *_GPTQ, *_AWQ)),
    KernelRule(
        _other("FlashInfer TRT-LLM", _INTEGERS, "flashinfer", "Marlin"),
        (SM100,),
        (Scheme.INT4_BY_32,),
        _GROUPED,
        gated=True,
    ),
    *(
        KernelRule(
            _other("FlashInfer TRT-LLM or Marlin", _INTEGERS, flag=flag),
            (SM100,),
            (Scheme.INT4_BY_32,),
            methods,
            gated=True,
        )
        for methods, flag in ((_GPTQ, FLAG), (_AWQ, _WNA16))
    ),
    *(
        KernelRule(_other(backend, source, package, "Marlin", flag), gpus, INT_WEIGHTS, methods)
        for methods, flag in (((*_GROUPED, *_GPTQ), FLAG), (_AWQ, _WNA16))
        for backend, source, package, gpus in (
            ("Humming", _HUMMING, "humming", (SM90,)),
            ("Marlin", _INTEGERS, "", (SM80, SM89, SM100, SM120)),
        )
    ),
)
