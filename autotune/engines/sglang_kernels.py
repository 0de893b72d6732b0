"""The kernels that SGLang (0.5.23) takes for experts by itself, without an all-to-all backend and
without LoRA.

A model's class may set the runner while the server's flags are resolved (srt/arg_groups); what it
leaves at ``auto``, the checkpoint's method decides.
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

FLAG = "--moe-runner-backend triton"
_BY_MODEL = "srt/arg_groups/model_overrides"
_QUANTIZATION = "srt/layers/quantization"
_GROUPED = f"{_QUANTIZATION}/compressed_tensors"
_RUNNER = "create_moe_runner"
_AITER = "SGLANG_USE_AITER=1"
"""AITER is taken where the runner is ``auto``, so FLAG keeps Triton
(srt/layers/quantization/unquant.py:1199, fp8.py:2962)."""
_IMAGES = "SGLang's own image for ROCm (docker/rocm.Dockerfile)"
_WNA16 = "--quantization moe_wna16"
_ALL = (*CUDA, *AMD)
_FP8_GPUS = (SM89, SM90, SM100, SM120)
_ANY_FP8 = (*FP8, Scheme.FP8_OTHER_BLOCK)
_PLAIN = (Scheme.PLAIN,)
_STATIC = (Scheme.FP8_STATIC,)
_MODELOPT = ("modelopt FP8",)
_CT = ("compressed-tensors",)

_DEEPSEEK = frozenset(
    {
        "DeepseekV3ForCausalLM",
        "DeepseekV32ForCausalLM",
        "KimiK25ForConditionalGeneration",
        "MistralLarge3ForCausalLM",
        "PixtralForConditionalGeneration",
        "GlmMoeDsaForCausalLM",
        "Glm5NextForConditionalGeneration",
        "HYV4ForCausalLM",
        "HYV4ForCausalLMNextN",
        "Dots3NoteForCausalLM",
    }
)
"""``_DEEPSEEK_FAMILY_ARCHS`` (srt/arg_groups/overrides.py:745), less LongCat."""
_QWEN = frozenset(
    {
        "Qwen3MoeForCausalLM",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3NextForCausalLM",
        "Qwen3_5MoeForConditionalGeneration",
        "InternS2PreviewForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Qwen4ExpForConditionalGeneration",
    }
)
_NEMOTRON = frozenset(
    {"NemotronHForCausalLM", "NemotronHPuzzleForCausalLM", "NemotronH_Omni_Reasoning_V3"}
)
_GPT_OSS = frozenset({"GptOssForCausalLM"})
_INTERNS2 = frozenset({"InternS2MobiusForConditionalGeneration"})
_LLAMA4 = frozenset({"Llama4ForConditionalGeneration", "Llama4ForCausalLM"})
_MIMO = frozenset({"MiMoV2ForCausalLM", "MiMoV2FlashForCausalLM"})
_MINIMAX_M3 = frozenset({"MiniMaxM3SparseForCausalLM", "MiniMaxM3SparseForConditionalGeneration"})
_COHERE = frozenset({"Cohere2VisionForConditionalGeneration", "Cohere2MoeForCausalLM"})
_FROM_SHAPE = frozenset({""})


def _triton(file: str, line: int, name: str = _RUNNER, unless: str = "") -> KernelChoice:
    source, set_by = Source(file, line, name), _IMAGES if unless else ""
    return KernelChoice(TRITON, FLAG, unless=unless, set_by=set_by, source=source)


def _trtllm(file: str, line: int, name: str) -> KernelChoice:
    return KernelChoice("FlashInfer TRT-LLM", FLAG, source=Source(file, line, name))


def _of_model(backend: str, file: str, line: int, name: str, package: str = "") -> KernelChoice:
    source = Source(f"{_BY_MODEL}/{file}.py", line, name)
    return KernelChoice(backend, FLAG, package, TRITON if package else "", source=source)


_NEMOTRON_S = ("nemotron_h", "_nemotron_h_overrides")
_DEEPSEEK_S = _trtllm("srt/arg_groups/overrides.py", 823, "_deepseek_moe_quant_resolution")
_QWEN_S = _trtllm(f"{_BY_MODEL}/qwen3_moe.py", 86, "_qwen3_moe_family_overrides")
_KERNELS = _of_model("triton_kernels", "gpt_oss", 117, "_gpt_oss_overrides", "triton_kernels")
_UNKNOWN = KernelChoice(flag=FLAG)

_OF_MODELS: tuple[KernelRule, ...] = (
    *(
        KernelRule(choice, gpus, schemes, methods, _NEMOTRON)
        for schemes, methods in ((_PLAIN, ("",)), (_STATIC, _MODELOPT))
        for choice, gpus in (
            (_of_model("FlashInfer TRT-LLM", _NEMOTRON_S[0], 103, _NEMOTRON_S[1]), (SM100,)),
            (
                _of_model("FlashInfer CUTLASS", _NEMOTRON_S[0], 121, _NEMOTRON_S[1]),
                (SM80, SM89, SM90, SM120),
            ),
            (_UNKNOWN, AMD),
        )
    ),
    KernelRule(_KERNELS, _ALL, _PLAIN, models=_GPT_OSS, ep=False),
    KernelRule(
        _of_model("FlashInfer MXFP4", "gpt_oss", 66, "_gpt_oss_overrides"),
        (SM100, SM120),
        _PLAIN,
        ("mxfp4",),
        _GPT_OSS,
    ),
    KernelRule(_KERNELS, (SM80, SM89, SM90), _PLAIN, ("mxfp4",), _GPT_OSS, ep=False),
    KernelRule(
        _triton(f"{_QUANTIZATION}/mxfp4.py", 1450),
        (SM80, SM89, SM90),
        _PLAIN,
        ("mxfp4",),
        _GPT_OSS,
    ),
    KernelRule(
        _triton(f"{_BY_MODEL}/minimax_m3.py", 235, "_minimax_m3_overrides"),
        _ALL,
        _PLAIN,
        models=_MINIMAX_M3,
    ),
    KernelRule(
        _of_model("triton_kernels", "interns2_mobius", 16, "_interns2_mobius_baseline_overrides"),
        _ALL,
        _PLAIN,
        models=_INTERNS2,
    ),
    # They ask for triton_kernels, which the methods for fp8 have not.
    KernelRule(
        _UNKNOWN, _ALL, _ANY_FP8, ("fp8", "", *_MODELOPT, *_CT), models=_GPT_OSS | _INTERNS2
    ),
    KernelRule(_DEEPSEEK_S, (SM100,), _PLAIN, models=_DEEPSEEK),
    KernelRule(_DEEPSEEK_S, (SM100,), _ANY_FP8, ("fp8", "", *_MODELOPT), _DEEPSEEK),
    KernelRule(_DEEPSEEK_S, (SM100,), (Scheme.INT4_BY_32,), _CT, _DEEPSEEK),
    KernelRule(_QWEN_S, (SM100,), (*_PLAIN, *_ANY_FP8), ("fp8", ""), _QWEN),
    KernelRule(
        _trtllm(f"{_BY_MODEL}/glm4_moe.py", 39, "_glm4_moe_overrides"),
        (SM100,),
        _PLAIN,
        models=frozenset({"Glm4MoeForCausalLM"}),
    ),
    KernelRule(
        _trtllm(f"{_BY_MODEL}/cohere2_moe.py", 45, "_cohere2_moe_runner_overrides"),
        (SM100,),
        _PLAIN,
        models=_COHERE,
    ),
    KernelRule(
        _trtllm(f"{_BY_MODEL}/mimo_v2.py", 44, "_mimo_v2_overrides"),
        (SM100,),
        _ANY_FP8,
        ("fp8",),
        _MIMO,
    ),
    KernelRule(
        _trtllm(f"{_BY_MODEL}/llama4.py", 40, "_llama4_overrides"),
        (SM100,),
        _ANY_FP8,
        models=_LLAMA4,
    ),
    # Whether the rule of Llama 4 sees the checkpoint's own method was not found out.
    KernelRule(_UNKNOWN, (SM100,), _ANY_FP8, ("fp8", *_MODELOPT), _LLAMA4),
    KernelRule(_UNKNOWN, (SM100,), (*_PLAIN, *_ANY_FP8), models=_FROM_SHAPE),
)

_OF_METHODS: tuple[KernelRule, ...] = (
    KernelRule(_triton(f"{_QUANTIZATION}/unquant.py", 1193), CUDA, _PLAIN),
    KernelRule(_triton(f"{_QUANTIZATION}/unquant.py", 1193, unless=_AITER), AMD, _PLAIN),
    KernelRule(_triton(f"{_QUANTIZATION}/fp8.py", 2972), _FP8_GPUS, _ANY_FP8, ("fp8", "")),
    KernelRule(_triton(f"{_QUANTIZATION}/fp8.py", 2972, unless=_AITER), AMD, _ANY_FP8, ("fp8", "")),
    KernelRule(
        _triton(f"{_QUANTIZATION}/w8a8_fp8.py", 286),
        (*_FP8_GPUS, *AMD),
        (Scheme.FP8_CHANNEL,),
        ("w8a8-fp8",),
    ),
    *(
        KernelRule(
            _triton(f"{_GROUPED}/schemes/compressed_tensors_w8a8_fp8_moe.py", 354, unless=unless),
            gpus,
            schemes,
            _CT,
        )
        for gpus, schemes, unless in (
            (_FP8_GPUS, FP8, ""),
            (AMD, (Scheme.FP8_CHANNEL,), _AITER),
            (AMD, FP8, ""),
        )
    ),
    KernelRule(
        _triton(f"{_QUANTIZATION}/modelopt_quant.py", 1355), (*_FP8_GPUS, *AMD), _STATIC, _MODELOPT
    ),
    KernelRule(
        _triton(f"{_QUANTIZATION}/w8a8_int8.py", 329), _ALL, (Scheme.INT8,), ("w8a8-int8", "")
    ),
    KernelRule(
        _triton(f"{_QUANTIZATION}/blockwise_int8.py", 365),
        _ALL,
        (Scheme.INT8_BLOCK,),
        ("blockwise-int8",),
    ),
    KernelRule(
        KernelChoice(
            NOTHING,
            "--quantization w8a8_int8",
            source=Source(f"{_GROUPED}/compressed_tensors.py", 985, "get_moe_scheme"),
        ),
        _ALL,
        (Scheme.INT8,),
        _CT,
    ),
    KernelRule(
        _triton(f"{_GROUPED}/compressed_tensors.py", 928, "get_moe_scheme"),
        (SM100,),
        (Scheme.INT4_BY_32, Scheme.INT4_BY_128),
        _CT,
    ),
    KernelRule(
        _triton(f"{_GROUPED}/compressed_tensors.py", 919, "get_moe_scheme"),
        AMD,
        (Scheme.INT4_BY_32, Scheme.INT4_BY_128),
        _CT,
    ),
    *(
        KernelRule(
            KernelChoice(
                "Marlin",
                flag,
                source=Source(f"{_GROUPED}/compressed_tensors.py", 932, "get_moe_scheme"),
            ),
            CUDA,
            schemes,
            _CT,
        )
        for schemes, flag in (
            ((Scheme.INT4_BY_32, Scheme.INT4_BY_128), FLAG),
            ((Scheme.INT4, Scheme.INT8_WEIGHTS), ""),
        )
    ),
    *(
        KernelRule(
            KernelChoice("Marlin", _WNA16, source=Source(file, line, _RUNNER)),
            CUDA,
            INT_WEIGHTS,
            (method,),
        )
        for method, file, line in (
            ("gptq", "srt/hardware_backend/gpu/quantization/gptq_kernels.py", 309),
            ("awq", f"{_QUANTIZATION}/awq/schemes/awq_moe.py", 132),
        )
    ),
)

RULES = _OF_MODELS + _OF_METHODS
