"""Which models SGLang (0.5.23) serves with the shared expert as one more routed expert, as a table.

Every model class decides by itself, and one without a rule here fuses none (``resolve_shared_
experts_config``, srt/layers/moe/utils.py:601). The rules are those for NVIDIA GPUs from SM80, with
neither an all-to-all backend, overlapped batches, nor ``--enforce-shared-experts-fusion``.
vLLM (0.33.0) fuses with AITER alone, so on AMD (``resolve_layer_fused_shared_expert``,
model_executor/layers/fused_moe/utils.py:52).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autotune.models.shape import ModelShape
from autotune.spec.problem import Dtype


@dataclass(frozen=True, slots=True)
class FusionRule:
    """The conditions under which one model class fuses."""

    source: str
    """File and line of the class's rule, in SGLang's srt/models."""
    experts: Mapping[int, str] = field(default_factory=dict)
    """Numbers of routed experts at which it fuses, each with the quantisation that it needs there,
    if any; empty: at every number."""
    several: bool = False
    """More than one shared expert is fused, too."""
    under_ep: bool = False
    """Every rank has the shared expert, beside its part of the routed ones."""
    same_width: bool = False
    """Only a shared expert that is as wide as a routed one."""
    unless: tuple[tuple[str, Dtype | None], ...] = ()
    """Quantisations, as the checkpoint calls them, that keep shared experts apart."""

    def fuses(self, shape: ModelShape, ep_size: int) -> bool:
        """True where the class serves this model's shared experts as routed ones."""
        stored = shape.quantization
        method = stored.method if stored else ""
        if not shape.shared_experts or (shape.shared_experts > 1 and not self.several):
            return False
        if self.experts and self.experts.get(shape.experts, "nothing") not in ("", method):
            return False
        if self.same_width and shape.shared_intermediate != shape.intermediate:
            return False
        if stored and (method, stored.dtype) in self.unless:
            return False
        return self.under_ep or ep_size == 1


_W4AFP8 = (("w4afp8", None),)
_DEEPSEEK_V3 = FusionRule(
    "deepseek_v2.py:3325",
    experts={256: "", 384: "quark"},
    unless=(*_W4AFP8, ("compressed-tensors", Dtype.INT4_W4A16)),
)
_GLM4 = FusionRule("glm4_moe.py:1012", several=True, unless=_W4AFP8)
_MINIMAX_M3 = FusionRule("minimax_m3.py:2023")
_BAILING_V3 = FusionRule("bailing_moe_v3.py:1429", under_ep=True, same_width=True, unless=_W4AFP8)

RULES: Mapping[str, FusionRule] = {
    # Its subclasses for V2, V3.2 and Mistral Large 3 compare with V3's name, and so fuse none.
    "DeepseekV3ForCausalLM": _DEEPSEEK_V3,
    "GlmMoeDsaForCausalLM": replace(_DEEPSEEK_V3, source="glm4_moe.py:1285"),
    "KimiK25ForConditionalGeneration": replace(_DEEPSEEK_V3, source="kimi_k25.py:653"),
    "Glm4MoeForCausalLM": _GLM4,
    "Glm4MoeLiteForCausalLM": FusionRule("glm4_moe_lite.py:732"),
    "Glm4vMoeForConditionalGeneration": FusionRule("glm4v_moe.py:87"),
    "Glm5NextForConditionalGeneration": FusionRule("glm5_next.py:1352"),
    "MiniMaxM3SparseForCausalLM": _MINIMAX_M3,
    "MiniMaxM3SparseForConditionalGeneration": replace(_MINIMAX_M3, source="minimax_m3_vl.py:166"),
    "Dots3NoteForCausalLM": FusionRule(
        "dots3_common/modeling.py:1628", experts={256: ""}, unless=_W4AFP8
    ),
    "BailingMoeV3ForCausalLM": _BAILING_V3,
    "BailingMoeV3VLForConditionalGeneration": replace(_BAILING_V3, source="bailing_mm_v3.py:66"),
    # Its block says so, not its class; those of Qwen 3.5 do on AMD alone (qwen3_5.py:1159).
    "Qwen3NextForCausalLM": FusionRule("qwen3_next.py:557", under_ep=True, same_width=True),
}


def fused_shared_experts(shape: ModelShape, ep_size: int) -> int:
    """Return how many shared experts SGLang serves as routed ones, unless told not to."""
    rule = RULES.get(shape.architecture)
    return shape.shared_experts if rule and rule.fuses(shape, ep_size) else 0
