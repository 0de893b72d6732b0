"""``quantization_config`` of a checkpoint → how its routed experts are stored.

Every tool writes this object in its own way. One function reads one way; what none of them
knows becomes a quantisation without a dtype, which only matters when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from autotune.models.fields import ModelConfig, read_value
from autotune.models.shape import WeightQuantization
from autotune.spec.problem import Dtype

Section = Mapping[str, Any]


def read_quantization(config: ModelConfig) -> WeightQuantization | None:
    """Read how the experts are stored; None for a checkpoint that is not quantised."""
    section = read_value(config, "quantization_config")
    if not isinstance(section, Mapping) or not section:
        return None
    # DeepSeek V4 calls itself fp8 and says beside it that the experts are fp4.
    if str(read_value(config, "expert_dtype")).lower() in ("fp4", "mxfp4", "nvfp4"):
        return WeightQuantization("fp4 experts", None)
    method = _method_of(section)
    reader = _READERS.get(method)
    return reader(method, section) if reader else WeightQuantization(method, None)


def _method_of(section: Section) -> str:
    method = str(section.get("quant_method") or "").lower().replace("_", "-")
    if not method and "config_groups" in section:
        return "compressed-tensors"
    return method or str(section.get("quant_algo") or "unknown").lower()


def _fp8(method: str, section: Section) -> WeightQuantization:
    return WeightQuantization(method, Dtype.FP8_W8A8, _pair(section.get("weight_block_size")))


def _int8_blocks(method: str, section: Section) -> WeightQuantization:
    block = _pair(section.get("weight_block_size"))
    return WeightQuantization(method, Dtype.INT8_W8A8, block, per_channel_quant=block is None)


def _fp8_channels(method: str, section: Section) -> WeightQuantization:
    return WeightQuantization(method, Dtype.FP8_W8A8, per_channel_quant=True)


def _int8_weights(method: str, section: Section) -> WeightQuantization:
    return WeightQuantization(method, Dtype.INT8_W8A16)


def _modelopt(method: str, section: Section) -> WeightQuantization:
    algorithm = str(section.get("quant_algo") or "").upper()
    return WeightQuantization(method, Dtype.FP8_W8A8 if algorithm == "FP8" else None)


def _integer_groups(method: str, section: Section) -> WeightQuantization:
    """AWQ, GPTQ and AutoRound: weight-only integers, scales per group along K."""
    bits = section.get("bits", section.get("w_bit"))
    zero_points = section.get("zero_point", not section.get("sym", True))
    block = _k_group(section.get("group_size", section.get("q_group_size")))
    dtype = _WEIGHT_ONLY.get(bits) if isinstance(bits, int) else None
    return WeightQuantization(method, dtype, block, zero_points=bool(zero_points))


def _compressed_tensors(method: str, section: Section) -> WeightQuantization:
    """Read the first group that quantises weights: it speaks for the experts."""
    groups = section.get("config_groups")
    found = groups.values() if isinstance(groups, Mapping) else ()
    group = next((g for g in found if isinstance(g, Mapping) and g.get("weights")), None)
    if group is None:
        return WeightQuantization(method, None)
    weights, activations = group["weights"], group.get("input_activations")
    if str(weights.get("strategy") or "").lower() == "block":
        block = _pair(weights.get("block_structure"))
    else:
        block = _k_group(weights.get("group_size"))
    per_token = activations is not None and activations.get("strategy") == "token"
    return WeightQuantization(
        method,
        _compressed_dtype(weights, activations),
        block,
        per_channel_quant=per_token and block is None,
        zero_points=weights.get("symmetric") is False,
    )


def _compressed_dtype(weights: Section, activations: Section | None) -> Dtype | None:
    bits, kind = weights.get("num_bits"), weights.get("type")
    if activations is None:
        return _WEIGHT_ONLY.get(bits) if kind == "int" and isinstance(bits, int) else None
    if (activations.get("num_bits"), activations.get("type")) != (bits, kind) or bits != 8:
        return None
    return {"float": Dtype.FP8_W8A8, "int": Dtype.INT8_W8A8}.get(str(kind))


def _k_group(size: Any) -> tuple[int, int] | None:
    """Return a group along K as a block shape; null, 0 and -1 (a whole row) are none."""
    return (0, size) if isinstance(size, int) and size > 0 else None


def _pair(value: Any) -> tuple[int, int] | None:
    """[n, k], or the text NxK that early checkpoints have, as a block shape."""
    entries = re.findall(r"\d+", value) if isinstance(value, str) else value
    if not isinstance(entries, list) or len(entries) != 2 or not all(entries):
        return None
    return int(entries[0]), int(entries[1])


_WEIGHT_ONLY = {4: Dtype.INT4_W4A16, 8: Dtype.INT8_W8A16}

_READERS: Mapping[str, Callable[[str, Section], WeightQuantization]] = {
    "fp8": _fp8,
    "fbgemm-fp8": _fp8_channels,
    "w8a8-fp8": _fp8_channels,
    "w8a8-int8": _int8_blocks,
    "blockwise-int8": _int8_blocks,
    "experts-int8": _int8_weights,
    "modelopt": _modelopt,
    "awq": _integer_groups,
    "awq-marlin": _integer_groups,
    "gptq": _integer_groups,
    "gptq-marlin": _integer_groups,
    "auto-round": _integer_groups,
    "compressed-tensors": _compressed_tensors,
}
