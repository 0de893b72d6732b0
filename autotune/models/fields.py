"""Names of the config fields in which each architecture keeps its experts, as a table.

Several names for one value are alternatives, the first that the config has is read. A dotted
name goes into a nested object; a list (one entry per layer) stands for its first entry, unless
``at_layer`` chose another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

ModelConfig = Mapping[str, Any]
"""A parsed config.json, or a nested object of one."""

# Wrappers keep the language model's fields in these nested objects; SGLang's order.
_NESTING = ("thinker_config", "llm_config", "language_config", "text_config")


@dataclass(frozen=True, slots=True)
class FieldNames:
    """Names under which one family of architectures keeps its MoE sizes."""

    experts: tuple[str, ...]
    top_k: tuple[str, ...] = ("num_experts_per_tok",)
    intermediate: tuple[str, ...] = ("moe_intermediate_size",)
    hidden: tuple[str, ...] = ("hidden_size",)
    gated: bool = True
    """The experts have a gate beside ``up``."""
    dense: bool = False
    """No experts at all, tuned as one expert: ``experts`` and ``top_k`` are not read."""
    module: tuple[str, ...] = ("mlp.experts",)
    """Names of the experts' module within a layer, which quantised checkpoints speak of."""


LAYERS = ("num_hidden_layers", "n_layers", "num_layers")
LAYER_KINDS = ("layers_block_type", "hybrid_override_pattern")
LAYER_BLOCKS = "block_configs"
"""Fields of each layer, in place of the model's own (NemotronHPuzzle)."""
FIRST_DENSE_LAYERS = ("first_k_dense_replace",)
EXPERT_GROUPS = ("n_group", "num_expert_group")
TOP_K_GROUPS = ("topk_group",)
SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts")
SHARED_INTERMEDIATE = ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size")

_SPARSE_BLOCK = ("block_sparse_moe.experts",)
_FEED_FORWARD = ("feed_forward.experts",)

_MIXTRAL = FieldNames(
    ("num_local_experts",), intermediate=("intermediate_size",), module=_SPARSE_BLOCK
)
_GPT_OSS = replace(_MIXTRAL, module=("mlp.experts",))
_LLAMA4 = replace(_MIXTRAL, module=_FEED_FORWARD)
# Qwen 3 saved by transformers 5 has num_local_experts, Bailing num_experts_per_token.
_QWEN = FieldNames(("num_experts", "num_local_experts"))
_BAILING = replace(_QWEN, top_k=("num_experts_per_tok", "num_experts_per_token"))
_DEEPSEEK = FieldNames(("n_routed_experts",))
_DBRX = FieldNames(
    ("ffn_config.moe_num_experts",),
    top_k=("ffn_config.moe_top_k",),
    intermediate=("ffn_config.ffn_hidden_size",),
    hidden=("hidden_size", "d_model"),
    module=("ffn.experts",),
)
_JAMBA = FieldNames(("num_experts",), intermediate=("intermediate_size",), module=_FEED_FORWARD)
# Published OLMoE configs have no moe_intermediate_size: every layer is sparse.
_OLMOE = FieldNames(("num_experts",), intermediate=("moe_intermediate_size", "intermediate_size"))
# Grok-1 itself says intermediate_size; later checkpoints have a dense part beside the experts.
_GROK = FieldNames(
    ("num_local_experts", "num_experts"),
    intermediate=("moe_intermediate_size", "intermediate_size"),
    module=_SPARSE_BLOCK,
)
_HUNYUAN = FieldNames(
    ("num_experts",),
    top_k=("moe_topk", "num_experts_per_tok"),
    intermediate=("moe_intermediate_size", "intermediate_size"),
)
_HY_V3 = FieldNames(("num_experts",), intermediate=("expert_hidden_dim", "moe_intermediate_size"))
_GEMMA4 = FieldNames(
    ("num_experts",), top_k=("top_k_experts",), module=("experts", "moe.experts", "moe")
)
# Both engines build its experts without a gate, whichever activation the config names.
_NEMOTRON_H = FieldNames(
    ("n_routed_experts",),
    hidden=("moe_latent_size", "hidden_size"),
    gated=False,
    module=("mixer.experts",),
)
# Kimi K3's routed experts work on a latent row, narrower than the model's.
_KIMI = FieldNames(
    ("num_experts",),
    top_k=("num_experts_per_token", "num_experts_per_tok"),
    hidden=("routed_expert_hidden_size", "hidden_size"),
    module=("mlp.experts", *_SPARSE_BLOCK),
)
_CHATGLM = FieldNames((), top_k=(), intermediate=("ffn_hidden_size",), dense=True)

FAMILIES: Mapping[str, FieldNames] = {
    "MixtralForCausalLM": _MIXTRAL,
    "MiniMaxM2ForCausalLM": _MIXTRAL,
    "GptOssForCausalLM": _GPT_OSS,
    "PhiMoEForCausalLM": _MIXTRAL,
    "PhimoeForCausalLM": _MIXTRAL,
    "MiniMaxM3SparseForCausalLM": _MIXTRAL,
    "MiniMaxM3SparseForConditionalGeneration": _MIXTRAL,
    "Llama4ForCausalLM": _LLAMA4,
    "Llama4ForConditionalGeneration": _LLAMA4,
    "DbrxForCausalLM": _DBRX,
    "JambaForCausalLM": _JAMBA,
    "Qwen2MoeForCausalLM": _QWEN,
    "Qwen3MoeForCausalLM": _QWEN,
    "Qwen3NextForCausalLM": _QWEN,
    "Qwen3VLMoeForConditionalGeneration": _QWEN,
    "Qwen3OmniMoeForConditionalGeneration": _QWEN,
    "Qwen3_5MoeForCausalLM": _QWEN,
    "Qwen3_5MoeForConditionalGeneration": _QWEN,
    "Lfm2MoeForCausalLM": replace(_QWEN, module=_FEED_FORWARD),
    "OlmoeForCausalLM": _OLMOE,
    "OLMoEForCausalLM": _OLMOE,
    "DeepseekV2ForCausalLM": _DEEPSEEK,
    "DeepseekV4ForCausalLM": replace(_DEEPSEEK, module=("ffn.experts", "mlp.experts")),
    "KimiVLForConditionalGeneration": _DEEPSEEK,
    "KimiK25ForConditionalGeneration": _DEEPSEEK,
    "DeepseekV3ForCausalLM": _DEEPSEEK,
    "DeepseekV32ForCausalLM": _DEEPSEEK,
    "Glm4MoeForCausalLM": _DEEPSEEK,
    "Glm4MoeLiteForCausalLM": _DEEPSEEK,
    "Glm4vMoeForConditionalGeneration": _DEEPSEEK,
    "Glm5NextForConditionalGeneration": _DEEPSEEK,
    "Dots3NoteForCausalLM": _DEEPSEEK,
    "GlmMoeDsaForCausalLM": _DEEPSEEK,
    "MistralLarge3ForCausalLM": _DEEPSEEK,
    "Grok1ForCausalLM": _GROK,
    "Grok1ModelForCausalLM": _GROK,
    "Grok1AForCausalLM": _GROK,
    "Grok1ImgGen": _GROK,
    "HunYuanForCausalLM": _HUNYUAN,
    "HunYuanMoEV1ForCausalLM": _HUNYUAN,
    "HYV3ForCausalLM": _HY_V3,
    "Gemma4ForCausalLM": _GEMMA4,
    "Gemma4ForConditionalGeneration": _GEMMA4,
    "KimiLinearForCausalLM": _KIMI,
    "KimiK3ForCausalLM": _KIMI,
    "KimiK3ForConditionalGeneration": _KIMI,
    "ChatGLMModel": _CHATGLM,
    "ChatGLMForCausalLM": _CHATGLM,
    "ChatGLMForConditionalGeneration": _CHATGLM,
}

# What an architecture that the table does not know may call the same things.
USUAL_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
USUAL_TOP_K = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "experts_per_token",
    "moe_topk",
    "moe_top_k",
    "moe_k",
    "top_k_experts",
)
USUAL_MOE_INTERMEDIATE = ("moe_intermediate_size", "expert_hidden_dim", "moe_ffn_hidden_size")
# Served without experts by both engines, whatever else their configs name.
DENSE_ARCHITECTURES = frozenset(
    (
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "GemmaForCausalLM",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "Phi3ForCausalLM",
    )
)
USUAL_MODULES = ("mlp.experts", *_SPARSE_BLOCK, *_FEED_FORWARD, "ffn.experts", "moe.experts")


def family_of(architecture: str) -> FieldNames | None:
    """Return the field names of a known architecture, else None."""
    # BailingMoE, BailingMoe, BailingMoeV2, V2_5, V3, BailingMoeLinear …: spelt anew each release.
    if architecture.startswith("Bailing"):
        return _BAILING
    # NemotronH, its Puzzle, and the wrappers with a vision or audio tower.
    if architecture.startswith("NemotronH"):
        return _NEMOTRON_H
    return FAMILIES.get(architecture)


def architecture_of(config: ModelConfig) -> str:
    """Return the first entry of ``architectures``, or an empty text."""
    architectures = config.get("architectures")
    return str(architectures[0]) if isinstance(architectures, list) and architectures else ""


def family_in(config: ModelConfig) -> FieldNames | None:
    """Return the field names of a config's architecture, or of the model's that it wraps."""
    inner = text_section(config)
    of_type = "NemotronH" if str(inner.get("model_type")).startswith("nemotron_h") else ""
    found = (family_of(name) for name in (architecture_of(config), architecture_of(inner), of_type))
    return next((family for family in found if family is not None), None)


def text_section(config: ModelConfig) -> ModelConfig:
    """Return the language model's part of a config: its innermost nested object, or itself."""
    inner = (config.get(key) for key in _NESTING)
    section = next((part for part in inner if isinstance(part, Mapping)), None)
    return config if section is None else text_section(section)


def at_layer(config: ModelConfig, layer: int) -> ModelConfig:
    """Return the language model's fields as one layer has them.

    A list shorter than the layers is of the kinds of experts in each (ERNIE 4.5 VL): they take
    turns here, so that every kind is seen.
    """
    fields = {**config, **text_section(config)}
    for key in _NESTING:
        fields.pop(key, None)
    blocks = fields.get(LAYER_BLOCKS)
    if isinstance(blocks, list) and layer < len(blocks) and isinstance(blocks[layer], Mapping):
        fields.update(blocks[layer])
    return {
        key: value[layer % len(value)] if isinstance(value, list) and value else value
        for key, value in fields.items()
    }


def read_value(config: ModelConfig, name: str) -> Any:
    """Return the value of a field, from the language model's part or else the top, or None."""
    for part in (text_section(config), config):
        value: Any = part
        for key in name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None


def read_int(config: ModelConfig, names: tuple[str, ...]) -> int | None:
    """Return the first whole number in the named fields, or at the start of a list in them."""
    found = (_whole_number(read_value(config, name)) for name in names)
    return next((value for value in found if value is not None), None)


def expert_like_fields(config: ModelConfig) -> dict[str, Any]:
    """Return every field that may speak of experts, by dotted name, for an error message."""
    return {
        name: value
        for name, value in _walk(config)
        if any(w in name.rpartition(".")[2].lower() for w in ("expert", "moe", "topk", "top_k"))
        and _whole_number(value) is not None
    }


def _whole_number(value: Any) -> int | None:
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value


def _walk(part: ModelConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in part.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
