"""The shape of a model's MoE layers, before any of it is split over ranks."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.spec.problem import Dtype


@dataclass(frozen=True, slots=True)
class WeightQuantization:
    """The format in which a checkpoint stores the routed experts' weights."""

    method: str
    """The checkpoint's own word for it: fp8, compressed-tensors, awq, mxfp4 …"""
    dtype: Dtype | None
    """Type that the GEMMs compute with; None where these kernels cannot (mxfp4, nvfp4)."""
    block_shape: tuple[int, int] | None = None
    """(n, k) of one weight scale; (0, group) where only K is grouped; None: no block scales."""
    per_channel_quant: bool = False
    """One weight scale per output channel and one activation scale per token."""
    zero_points: bool = False
    """Asymmetric integer weights: a zero point stands beside each scale."""
    is_assumed: bool = False
    """The config of a family with fp4 experts calls itself fp8 and says no ``expert_dtype``."""
    upcast: bool = False
    """SGLang with ``--moe-runner-backend triton`` makes bf16 of the experts while it loads them."""
    static_activations: bool = False
    """One stored scale for an expert's activations, beside one for its weights."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The routed experts of one model, as its config describes them: the whole model, no rank."""

    name: str
    """The Hugging Face name, the local folder's name, or the text of ``--shape``."""
    architecture: str
    """First entry of ``architectures``; empty where the shape came from ``--shape``."""
    experts: int
    """Routed experts of one layer, shared experts not included."""
    top_k: int
    """Routed experts that one token visits."""
    hidden: int
    """Row length that enters and leaves a routed expert."""
    intermediate: int
    """Intermediate size of one routed expert, after the activation."""
    layers: int = 0
    """Hidden layers of the model; 0 where the config does not say."""
    first_dense_layers: int = 0
    """Number of leading layers without experts."""
    moe_layers: tuple[int, ...] = ()
    """Numbers of the layers with experts; empty where the config does not say."""
    expert_groups: int = 0
    """Groups that routing chooses among before it chooses experts; 0 where it does not."""
    top_k_groups: int = 0
    """Number of the groups that a token keeps."""
    dtype: Dtype = Dtype.BF16
    """The unquantised dtype of the checkpoint: bf16, fp16 or fp32."""
    quantization: WeightQuantization | None = None
    """None: the experts are stored in ``dtype``."""
    shared_experts: int = 0
    """Experts of one layer that every token visits, beside the routed ones."""
    shared_intermediate: int = 0
    """Intermediate size of all shared experts together."""
    gated: bool = True
    """The experts' activation is silu(gate) * up; False: relu(up)^2, without a gate."""
    dense: bool = False
    """The model has no experts: its one MLP is seen as one expert that every token visits."""
    has_own_code: bool = False
    """The checkpoint brings its model's code (``auto_map``), which engines may run."""
