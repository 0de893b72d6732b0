"""The file name that an engine's own code makes of a published config, or why it makes none.

What is run of the engine: the table of its model classes, the arguments that the model's class
gives to its layer of experts, the fusion rule (SGLang), the split over ranks, the block rule, the
dtype's text and the file name. What is not run, but said here: which of the engine's dtype flags a
checkpoint's quantisation comes to (``read_case``).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from source import NotFoundError, Source, reads, targets_of

DEVICE = "NVIDIA H200"
NESTING = ("thinker_config", "text_config", "llm_config", "language_config")


class RefusalError(Exception):
    """The engine serves no such case, or reads no file for it."""


@dataclass(frozen=True)
class Case:
    """A checkpoint's own words, and how it is served."""

    config: Mapping[str, Any]
    sidecar: Mapping[str, Any] | None
    """``hf_quant_config.json``, where there is one."""
    tp: int
    """Ranks of the layer."""
    ep: int
    """Parts into which those ranks split the experts."""

    @property
    def text(self) -> Mapping[str, Any]:
        """The language model's part."""
        section = self.config
        for key in NESTING:
            section = section[key] if isinstance(section.get(key), Mapping) else section
        return section

    @property
    def architecture(self) -> str:
        return str((self.config.get("architectures") or [""])[0])


@dataclass(frozen=True)
class Stored:
    """How a checkpoint keeps its experts, in the words of the engines' flags."""

    flag: str | None = None
    """``use_…`` of the dtype function; None: not quantised."""
    block: list[int] | None = None
    per_channel: bool = False
    name: str | None = None
    """SGLang's name of the method; None: not quantised."""


class ConfigView:
    """A config's fields as attributes; a top level lends what its text part has, as transformers'
    nested configs do."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.__dict__["fields"] = fields

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__["fields"]
        if name == "encoder_only":
            return False
        if name in fields:
            value = fields[name]
            return ConfigView(value) if isinstance(value, Mapping) else value
        inner = fields.get("text_config")
        if isinstance(inner, Mapping) and name in inner:
            return getattr(ConfigView(inner), name)
        raise AttributeError(name)


class _Chosen:
    """A backend's name: ``is_x()`` for each that there is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, question: str) -> Any:
        return lambda: question == f"is_{self.name}"


def read_case(config: Mapping[str, Any], sidecar: Mapping[str, Any] | None) -> Stored:
    """Return the flags that a checkpoint comes to. Raises RefusalError where no file is read."""
    top = {**config}
    for key in NESTING:
        if isinstance(top.get(key), Mapping):
            top = {**top, **top[key]}
    section = top.get("quantization_config") or top.get("compression_config")
    section = section or (sidecar and {"quant_method": "modelopt", **sidecar})
    if str(top.get("expert_dtype", "")).lower() == "fp4":
        raise RefusalError("fp4 experts (expert_dtype)")
    if not section:
        return Stored()
    return _stored(str(section.get("quant_method", "")).lower().replace("_", "-"), section)


def _stored(method: str, section: Mapping[str, Any]) -> Stored:
    inner = section.get("quantization", section)
    algorithm = str(inner.get("quant_algo") or "").upper()
    if method == "modelopt" and algorithm == "FP8":
        return Stored("use_fp8_w8a8", name="modelopt_fp8")
    if method == "modelopt":
        raise RefusalError(f"ModelOpt {algorithm} experts")
    if method == "fp8":
        return Stored("use_fp8_w8a8", section.get("weight_block_size"), name="fp8")
    if method == "compressed-tensors":
        return _compressed(section)
    raise RefusalError(f"{method} experts")


def _compressed(section: Mapping[str, Any]) -> Stored:
    groups = section.get("config_groups", {}).values()
    kinds = ("Linear", "FusedMoE", "MoEGEMM")
    meant = [g for g in groups if any("expert" in t or t in kinds for t in g.get("targets", ()))]
    weights = meant[-1]["weights"] if meant else {}
    word = (
        weights.get("type"),
        weights.get("num_bits"),
        meant[-1].get("input_activations") is None,
    )
    if "mxfp4" in str(section.get("format")) or word[:2] == ("float", 4):
        raise RefusalError("compressed-tensors fp4 experts")
    if word == ("int", 4, True):
        return Stored("use_int4_w4a16", [0, weights["group_size"]], name="compressed_tensors")
    if word == ("int", 8, True):
        return Stored("use_int8_w8a16", name="compressed_tensors")
    if word == ("float", 8, False):
        block = weights.get("block_structure")
        return Stored(
            "use_fp8_w8a8",
            block,
            not block and weights["strategy"] == "channel",
            "compressed_tensors",
        )
    if word == ("int", 8, False):
        return Stored("use_int8_w8a8", None, True, "compressed_tensors")
    raise RefusalError(f"compressed-tensors {word}")


def _layer_arguments(
    source: Source, block: tuple[str, str], names: dict[str, Any]
) -> dict[str, Any]:
    """Return what a model's class gives to its layer of experts, by keyword."""
    file, name = block
    method, call = source.call_in(file, name, "num_experts", "intermediate_size")
    wanted = {"num_experts", "intermediate_size", "hidden_size"}
    given = {k.arg: k.value for k in call.keywords if k.arg in wanted}
    needed = set().union(*(reads(value) for value in given.values()))
    scope = source.part_of(file, method, needed, names, before=call.lineno)
    return {str(k): source.value(file, value, scope) for k, value in given.items()}


def _made(refused_as: str, function: Any, *arguments: Any, **named: Any) -> Any:
    """Call the engine's code; what it raises is its refusal."""
    try:
        return function(*arguments, **named)
    except (ValueError, AssertionError) as error:
        text = " ".join(str(error).split()) or "assert"
        raise RefusalError(f"{refused_as}: {type(error).__name__}: {text}") from error


class VLLM:
    """vLLM's own code."""

    name = "vllm"
    FUSED = "model_executor/layers/fused_moe"
    MODELS = "model_executor/models"
    BLOCKS: Mapping[str, tuple[str, str]] = {
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
        "BailingMoeForCausalLM": (f"{MODELS}/bailing_moe.py", "BailingMoE"),
        "BailingMoeV2ForCausalLM": (f"{MODELS}/bailing_moe.py", "BailingMoE"),
        "BailingMoeV3ForCausalLM": (f"{MODELS}/bailing_moe_v3.py", "BailingMoeV3MoE"),
    }

    def __init__(self, root: Path) -> None:
        self.source = Source(root, {})

    def file_name(self, case: Case) -> str:
        source, fused = self.source, self.FUSED
        if case.ep not in (1, case.tp):
            raise RefusalError(f"expert parallelism is over all {case.tp} ranks or none")
        parallel = SimpleNamespace(
            enable_expert_parallel=case.ep > 1,
            all2all_backend="allgather_reducescatter",
            enable_eplb=False,
            use_sequence_parallel_moe=False,
            eplb_config=SimpleNamespace(num_redundant_experts=0),
        )
        self.source.stand_ins = {
            "torch": torch,
            "math": __import__("math"),
            "re": __import__("re"),
            "get_tensor_model_parallel_rank": lambda: 0,
            "get_tensor_model_parallel_world_size": lambda: case.tp,
            "current_platform": SimpleNamespace(get_device_name=lambda _=0: DEVICE),
            "FusedMoEParallelConfig": _Parallel(source, f"{fused}/config.py"),
            "logger": SimpleNamespace(info_once=lambda *_: None),
        }
        self._known(case)
        config = ConfigView(case.text)
        stored = read_case(case.config, case.sidecar)
        if (
            case.architecture == "DeepseekV4ForCausalLM"
            and stored.flag
            and "expert_dtype" not in case.text
        ):
            raise RefusalError("fp4 experts: quant_config.py takes a missing expert_dtype for it")
        names = {
            "config": config,
            "self": SimpleNamespace(config=config),
            "vllm_config": SimpleNamespace(parallel_config=parallel),
            "parallel_config": parallel,
        }
        if case.architecture not in self.BLOCKS:
            raise NotFoundError(f"no block of {case.architecture} is named in theirs.py")
        layer = self._arguments(case, names)
        split = self.source.stand_ins["FusedMoEParallelConfig"].make(case.tp, 1, 1, 1, parallel)
        experts, _, fused_shared = source.get(f"{fused}/layer.py", "determine_expert_counts")(
            layer["num_experts"], 0, None, False
        )
        local = source.get(f"{fused}/expert_map_manager.py", "determine_expert_map")(
            split.ep_size, 0, experts, num_fused_shared_experts=fused_shared
        )[0]
        moe = SimpleNamespace(
            moe_parallel_config=split,
            intermediate_size=layer["intermediate_size"],
            hidden_dim=layer["hidden_size"],
            tp_size=split.tp_size,
            ep_size=split.ep_size,
            moe_backend="auto",
        )
        post_init = source.definition(f"{fused}/config.py", "FusedMoEConfig.__post_init__")
        assert isinstance(post_init, ast.FunctionDef)
        source.used.add(f"{fused}/config.py:{post_init.lineno} FusedMoEConfig.__post_init__")
        _made(
            "split",
            source.part_of,
            f"{fused}/config.py",
            post_init,
            {"self.intermediate_size_per_partition"},
            {"self": moe},
        )
        block = stored.block
        if stored.flag == "use_fp8_w8a8" and block:
            rule = source.get(f"{fused}/oracle/fp8.py", "resolve_fp8_moe_weight_block_shape")
            block = _made("blocks", rule, moe, block, None, True)[0]
            self._check_blocks(moe, block)
        dtype = source.get(f"{fused}/config.py", "_get_config_dtype_str")(
            **{"dtype": torch.bfloat16, **_flag(stored.flag, without=("use_int8_w8a8",))}
        )
        name = source.get(f"{fused}/fused_moe.py", "get_config_file_name")
        return str(name(local, moe.intermediate_size_per_partition, dtype, block))

    def _check_blocks(self, moe: Any, block: list[int]) -> None:
        n = moe.intermediate_size_per_partition
        if n % block[0] or (moe.tp_size > 1 and n % block[1]):
            raise RefusalError(f"blocks {block} do not divide N={n}")

    def _known(self, case: Case) -> None:
        tables = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS")
        registry = f"{self.MODELS}/registry.py"
        if not any(case.architecture in self.source.get(registry, t) for t in tables):
            raise RefusalError(f"registry.py has no {case.architecture}: no file is asked for")

    def _arguments(self, case: Case, names: dict[str, Any]) -> dict[str, Any]:
        return _of_layer(self.source, self.BLOCKS[case.architecture], names)


class SGLang:
    """SGLang's own code."""

    name = "sglang"
    MODELS = "srt/models"
    TUNED = "srt/layers/moe/moe_runner/triton_utils/fused_moe_triton_config.py"
    BLOCKS: Mapping[str, tuple[str, str]] = {
        "MixtralForCausalLM": ("mixtral.py", "MixtralDecoderLayer"),
        "MiniMaxM2ForCausalLM": ("minimax_m2.py", "MiniMaxM2MoE"),
        "MiniMaxM3SparseForCausalLM": ("minimax_m3.py", "MiniMaxM3MoE"),
        "MiniMaxM3SparseForConditionalGeneration": ("minimax_m3.py", "MiniMaxM3MoE"),
        "Qwen2MoeForCausalLM": ("qwen2_moe.py", "Qwen2MoeSparseMoeBlock"),
        "Qwen3MoeForCausalLM": ("qwen3_moe.py", "Qwen3MoeSparseMoeBlock"),
        "Qwen3VLMoeForConditionalGeneration": ("qwen3_moe.py", "Qwen3MoeSparseMoeBlock"),
        "Qwen3OmniMoeForConditionalGeneration": ("qwen3_moe.py", "Qwen3MoeSparseMoeBlock"),
        "InternVLChatModel": ("qwen3_moe.py", "Qwen3MoeSparseMoeBlock"),
        "Qwen3NextForCausalLM": ("qwen2_moe.py", "Qwen2MoeSparseMoeBlock"),
        "Qwen3_5MoeForCausalLM": ("qwen2_moe.py", "Qwen2MoeSparseMoeBlock"),
        "Qwen3_5MoeForConditionalGeneration": ("qwen2_moe.py", "Qwen2MoeSparseMoeBlock"),
        "DeepseekV2ForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "DeepseekV3ForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "DeepseekV32ForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "GlmMoeDsaForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "KimiK25ForConditionalGeneration": ("deepseek_v2.py", "DeepseekV2MoE"),
        "KimiVLForConditionalGeneration": ("deepseek_v2.py", "DeepseekV2MoE"),
        "MistralLarge3ForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "DeepseekV4ForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "Glm4MoeForCausalLM": ("glm4_moe.py", "Glm4MoeSparseMoeBlock"),
        "Glm4vMoeForConditionalGeneration": ("glm4_moe.py", "Glm4MoeSparseMoeBlock"),
        "Glm4MoeLiteForCausalLM": ("glm4_moe_lite.py", "Glm4MoeLiteSparseMoeBlock"),
        "Gemma4ForConditionalGeneration": ("gemma4_causal.py", "Gemma4MoE"),
        "Llama4ForConditionalGeneration": ("llama4.py", "Llama4MoE"),
        "NemotronHForCausalLM": ("nemotron_h.py", "NemotronHMoE"),
        "OlmoeForCausalLM": ("olmoe.py", "OlmoeDecoderLayer"),
        "PhiMoEForCausalLM": ("phimoe.py", "PhiMoEDecoderLayer"),
        "Lfm2MoeForCausalLM": ("lfm2_moe.py", "Lfm2MoeSparseMoeBlock"),
        "GptOssForCausalLM": ("gpt_oss.py", "GptOssSparseMoeBlock"),
        "BailingMoeForCausalLM": ("bailing_moe.py", "BailingMoESparseMoeBlock"),
        "BailingMoeV2ForCausalLM": ("bailing_moe.py", "BailingMoESparseMoeBlock"),
        "BailingMoeV3ForCausalLM": ("bailing_moe_v3.py", "BailingMoE"),
        "Grok1ForCausalLM": ("grok.py", "Grok1DecoderLayer"),
    }

    def __init__(self, root: Path) -> None:
        self.source = Source(root, {})
        self.classes = _entry_classes(root / self.MODELS)

    def file_name(self, case: Case) -> str:
        source = self.source
        parallel = SimpleNamespace(
            tp_size=case.tp,
            attn_tp_size=case.tp,
            moe_ep_size=case.ep,
            moe_ep_rank=0,
            moe_tp_size=case.tp // case.ep,
            moe_tp_rank=0,
            moe_dp_size=1,
        )
        moe = SimpleNamespace(
            ep_num_redundant_experts=0,
            disable_shared_experts_fusion=False,
            enforce_shared_experts_fusion=False,
            enable_waterfill=False,
            ep_join_mode=None,
        )
        cuda = SimpleNamespace(get_device_capability=lambda _="cuda": (9, 0))
        stand_ins: dict[str, Any] = {
            "torch": SimpleNamespace(cuda=cuda, float=torch.float),
            "get_device_name": lambda: DEVICE,
            "get_exec": lambda: SimpleNamespace(moe=moe),
            "get_parallel": lambda: parallel,
            "get_moe_a2a_backend": lambda: _Chosen("none"),
            "get_moe_runner_backend": lambda: _Chosen("triton"),
            "is_wint4afp8_or_wint4a16_config": lambda _: stored.flag == "use_int4_w4a16",
            "get_flags": lambda: SimpleNamespace(moe=SimpleNamespace(in_speculative_scope=False)),
            "is_sbo_enabled": lambda: False,
            "is_tbo_enabled": lambda: False,
            "is_sm90_supported": lambda: True,
            "_is_cuda": True,
            "_is_hip": False,
            "_is_musa": False,
            "_is_npu": False,
            "_use_aiter": False,
            "_device_sm": 90,
            "logger": None,
            "log_info_on_rank0": lambda *_: None,
            "SharedExpertsConfig": SimpleNamespace,
            "get_moe_padding_size": lambda _: 0,
        }
        source.stand_ins = stand_ins
        if case.architecture not in self.classes:
            raise RefusalError(f"no class is called {case.architecture}: no file is asked for")
        stored = read_case(case.config, case.sidecar)
        if case.architecture not in self.BLOCKS:
            raise NotFoundError(f"no block of {case.architecture} is named in theirs.py")
        model = source.get(f"{self.MODELS}/{self.classes[case.architecture]}", case.architecture)
        quant = stored.name and SimpleNamespace(
            get_name=lambda: stored.name, weight_block_size=stored.block
        )
        resolve = source.get("srt/layers/moe/utils.py", "resolve_shared_experts_config")
        asked = SimpleNamespace(**_hooks(model))
        shared = _made("fusion", resolve, asked, ConfigView(case.config), quant)
        fused = shared.num_fused_shared_experts
        stand_ins["get_num_fused_shared_experts"] = lambda: fused
        config = ConfigView(case.text)
        names = {"config": config, "self": SimpleNamespace(config=config), "quant_config": quant}
        file, block = self.BLOCKS[case.architecture]
        names |= source.constants_given(f"{self.MODELS}/{self.classes[case.architecture]}", block)
        layer = _of_layer(source, (f"{self.MODELS}/{file}", block), names)
        split = self._split(layer, fused)
        local, n = split.num_local_experts, split.intermediate_size_per_partition
        if stored.flag == "use_fp8_w8a8" and stored.block:
            self._check_blocks(n, stored.block, parallel.moe_tp_size)
        dtype = source.get(self.TUNED, "get_config_dtype_str")(
            **{"dtype": torch.bfloat16, **_flag(stored.flag)}
        )
        if stored.flag == "use_int4_w4a16":
            n //= 2  # w2_shape's last entry: two weights in a byte
        name = source.get(self.TUNED, "get_config_file_name")
        return str(name(local, n, dtype, stored.block, stored.per_channel))

    def _split(self, layer: Mapping[str, Any], fused: int) -> Any:
        file = "srt/layers/moe/fused_moe_triton/layer.py"
        init = self.source.definition(file, "FusedMoE.__init__")
        assert isinstance(init, ast.FunctionDef)
        self.source.used.add(f"{file}:{init.lineno} FusedMoE.__init__")
        itself = SimpleNamespace()
        wanted = {
            "self.num_local_experts",
            "self._num_global_routed",
            "self.intermediate_size_per_partition",
        }
        given = {**layer, "num_fused_shared_experts": fused, "self": itself}
        last = 1 + max(s.lineno for s in init.body if wanted & set(targets_of(s)))
        _made("split", self.source.part_of, file, init, wanted, given, before=last)
        return itself

    def _check_blocks(self, n: int, block: list[int], moe_tp_size: int) -> None:
        """Run the raises of fp8.py's create_weights."""
        file = "srt/layers/quantization/fp8.py"
        check = self.source.statement(file, "padding_size == block_n == block_k")
        self.source.used.add(f"{file}:{check.lineno} create_weights")
        scope = {
            "intermediate_size_per_partition": n,
            "block_n": block[0],
            "block_k": block[1],
            "tp_size": moe_tp_size,
            "_use_aiter": False,
        }
        code = compile(ast.Module(body=[check], type_ignores=[]), file, "exec")
        _made("blocks", exec, code, scope)


def _of_layer(source: Source, block: tuple[str, str], names: dict[str, Any]) -> dict[str, Any]:
    try:
        made = _made("layer", _layer_arguments, source, block, names)
    except AttributeError as error:
        raise RefusalError(f"layer: the config has no {error}") from error
    if not all(isinstance(value, int) for value in made.values()):
        raise RefusalError(f"layer: {made}")
    return dict(made)


def _hooks(model: Any) -> dict[str, Any]:
    names = ("shared_experts_fusion_disable_reason", "num_fusable_shared_experts")
    return {name: getattr(model, name) for name in names if getattr(model, name, None) is not None}


class _Parallel:
    """vLLM's FusedMoEParallelConfig: made from fields, with its own static methods."""

    def __init__(self, source: Source, file: str) -> None:
        self.source, self.file = source, file

    def __call__(self, **fields: Any) -> SimpleNamespace:
        return SimpleNamespace(**fields)

    def __getattr__(self, name: str) -> Any:
        return self.source.method(self.file, "FusedMoEParallelConfig", name)


def _flag(flag: str | None, without: tuple[str, ...] = ()) -> dict[str, bool]:
    return {flag: True} if flag and flag not in without else {}


def _entry_classes(folder: Path) -> dict[str, str]:
    """Return the file of each class that SGLang's registry finds: those of ``EntryClass``."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "EntryClass" not in text:
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EntryClass":
                names = [n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)]
                found.update(dict.fromkeys(names, path.relative_to(folder).as_posix()))
    return found
