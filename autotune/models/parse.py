"""A parsed config.json, or the text of ``--shape`` → a model shape."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from autotune.errors import ModelError, UsageError
from autotune.models import fields
from autotune.models.fields import FieldNames, ModelConfig
from autotune.models.quantization import read_quantization
from autotune.models.shape import ModelShape
from autotune.spec.problem import Dtype
from autotune.spec.ranges import EXPERTS, LAYERS, WIDTHS, Range

logger = logging.getLogger(__name__)

SHAPE_FORM = "E=8,topk=2,hidden=4096,intermediate=14336"
_SHAPE_HINT = (
    "Try --shape E=..,topk=..,hidden=..,intermediate=.. in place of --model, with the sizes of "
    "the routed experts of the whole model"
)
_DTYPES = {
    "bfloat16": Dtype.BF16,
    "float16": Dtype.FP16,
    "half": Dtype.FP16,
    "float32": Dtype.FP32,
    "float": Dtype.FP32,
}


_Sizes = tuple[int, int, int, int]
"""Experts, top-k, hidden and intermediate size."""


def shape_of_config(name: str, config: ModelConfig) -> ModelShape:
    """Return the shape that a Hugging Face config describes.

    Raises ModelError where its fields name no experts, or are missing or ambiguous.
    """
    architecture = fields.architecture_of(config)
    called = f"{name} ({architecture or 'no architectures field'})"
    family = fields.family_in(config)
    layers = _layers_of(config)
    if layers not in LAYERS:
        raise ModelError(f"{called}: {layers} hidden layers; it is {LAYERS}. {_SHAPE_HINT}")
    if layers and _moe_layers(config) == []:
        raise _dense_error(called)
    moe_layers = moe_layers_of(config)
    sizes = _sizes_of_layers(called, family, config, moe_layers)
    experts, top_k, hidden, intermediate = sizes
    if family is None:
        _warn_of_guess(called, sizes)
    stated_dense = fields.read_int(config, fields.FIRST_DENSE_LAYERS)
    shared_experts, shared_intermediate = _shared_experts(config, intermediate)
    auto_map = config.get("auto_map")
    shape = ModelShape(
        name=name,
        architecture=architecture,
        experts=experts,
        top_k=top_k,
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        first_dense_layers=min(moe_layers, default=0) if stated_dense is None else stated_dense,
        moe_layers=moe_layers,
        expert_groups=fields.read_int(config, fields.EXPERT_GROUPS) or 0,
        top_k_groups=fields.read_int(config, fields.TOP_K_GROUPS) or 0,
        dtype=_dtype_of(config),
        quantization=read_quantization(config, moe_layers or range(layers or 1)),
        shared_experts=shared_experts,
        shared_intermediate=shared_intermediate,
        gated=family is None or family.gated,
        dense=family is not None and family.dense,
        has_own_code=isinstance(auto_map, dict) and any("AutoModel" in key for key in auto_map),
    )
    _check_counts(called, shape)
    return shape


def parse_shape(text: str) -> ModelShape:
    """Return the shape that ``--shape E=8,topk=2,hidden=4096,intermediate=14336`` names.

    All four are the whole model's, order and upper or lower case do not matter; ``gated=false``
    may follow. Raises UsageError for a part that is missing, unknown, given twice or not a positive
    whole number.
    """
    values: dict[str, int] = {}
    for part in text.split(","):
        key, number = _shape_part(text, part)
        if key in values:
            raise UsageError(f"--shape {text}: {key} is given twice. Try --shape {SHAPE_FORM}")
        values[key] = number
    gated = bool(values.pop(_GATED, True))
    missing = [key for key in _SHAPE_KEYS.values() if key not in values]
    if missing:
        raise UsageError(
            f"--shape {text}: {', '.join(missing)} missing; all four of "
            f"{', '.join(_SHAPE_KEYS.values())} are needed. Try --shape {SHAPE_FORM}"
        )
    if values["topk"] > values["E"]:
        raise UsageError(
            f"--shape {text}: topk={values['topk']} is more than E={values['E']} experts; "
            f"topk is 1 to {values['E']}"
        )
    return ModelShape(
        name=",".join(f"{key}={values[key]}" for key in _SHAPE_KEYS.values())
        + ("" if gated else f",{_GATED}=false"),
        architecture="",
        experts=values["E"],
        top_k=values["topk"],
        hidden=values["hidden"],
        intermediate=values["intermediate"],
        gated=gated,
    )


_SHAPE_KEYS = {"e": "E", "topk": "topk", "hidden": "hidden", "intermediate": "intermediate"}
_GATED = "gated"


def _shape_part(text: str, part: str) -> tuple[str, int]:
    if gate := re.fullmatch(rf"\s*{_GATED}\s*=\s*(true|false)\s*", part.lower()):
        return _GATED, gate[1] == "true"
    match = re.fullmatch(r"\s*(\w+)\s*=\s*(\d{1,20})\s*", part)
    key = _SHAPE_KEYS.get(match[1].lower().replace("_", "")) if match else None
    if match is None or key is None:
        raise UsageError(
            f"--shape {text}: cannot read {part.strip()!r}; allowed are "
            f"{', '.join(_SHAPE_KEYS.values())}, each = a whole number from 1, and "
            f"{_GATED}=false. "
            f"Try --shape {SHAPE_FORM}"
        )
    allowed = WIDTHS if key in ("hidden", "intermediate") else EXPERTS
    allowed.check(f"{key} of --shape", int(match[2]))
    return key, int(match[2])


def _sizes_of_layers(
    called: str, family: FieldNames | None, config: ModelConfig, moe_layers: tuple[int, ...]
) -> _Sizes:
    """Return the sizes of the experts of every layer. Raises ModelError where they are unlike."""
    asked = moe_layers or range(_layers_of(config))
    parts = [fields.at_layer(config, layer) for layer in asked] or [config]
    found = {
        _sizes_of_family(called, family, part) if family else _guessed_sizes(called, part)
        for part in parts
    }
    for sizes in found:
        _check_sane(called, sizes)
    if len(found) == 1:
        return found.pop()
    shapes = (f"--shape E={e},topk={k},hidden={h},intermediate={i}" for e, k, h, i in sorted(found))
    gate = "" if family is None or family.gated else f",{_GATED}=false"
    raise ModelError(
        f"{called} has layers whose experts are of unlike sizes, and an engine opens a file for "
        f"each. Tune them one by one: {'; '.join(shape + gate for shape in shapes)}"
    )


def _check_sane(called: str, sizes: _Sizes) -> None:
    experts, top_k, hidden, intermediate = sizes
    is_wide = hidden in WIDTHS and intermediate in WIDTHS
    if experts in EXPERTS and top_k in Range(1, experts) and is_wide:
        return
    raise ModelError(
        f"{called}: E={experts}, topk={top_k}, hidden={hidden}, intermediate={intermediate} "
        f"cannot be; allowed are topk up to E, E up to {EXPERTS.most}, the others up to "
        f"{WIDTHS.most}. Is its config.json whole? {_SHAPE_HINT}"
    )


def _check_counts(called: str, shape: ModelShape) -> None:
    """Raise ModelError where a number beside the sizes cannot be."""
    counts = {
        "leading dense layers": (shape.first_dense_layers, LAYERS),
        "groups of experts": (shape.expert_groups, Range(0, EXPERTS.most)),
        "groups that a token keeps": (shape.top_k_groups, Range(0, EXPERTS.most)),
        "shared experts": (shape.shared_experts, Range(0, EXPERTS.most)),
        "width of shared experts": (shape.shared_intermediate, Range(0, WIDTHS.most)),
    }
    for what, (count, allowed) in counts.items():
        if count not in allowed:
            raise ModelError(f"{called}: {what} is {count}; it is {allowed}. {_SHAPE_HINT}")


def _sizes_of_family(called: str, family: FieldNames, config: ModelConfig) -> _Sizes:
    hidden = _needed(called, config, family.hidden)
    if family.dense:
        return 1, 1, hidden, _needed(called, config, family.intermediate)
    experts = fields.read_int(config, family.experts)
    if experts in (0, 1) or (experts is None and not fields.expert_like_fields(config)):
        raise _dense_error(called)
    experts, top_k = (_needed(called, config, names) for names in (family.experts, family.top_k))
    return experts, top_k, hidden, _needed(called, config, family.intermediate)


def _needed(called: str, config: ModelConfig, names: tuple[str, ...]) -> int:
    value = fields.read_int(config, names)
    if value is None or value < 1:
        raise ModelError(
            f"{called}: {' or '.join(names)} should be a whole number from 1, "
            f"but its config has {'none' if value is None else value}. "
            f"{_found_fields(config)}. {_SHAPE_HINT}"
        )
    return value


def _guessed_sizes(called: str, config: ModelConfig) -> _Sizes:
    """Sizes of an architecture that the table does not know, from the usual field names."""
    experts = _only_value(config, fields.USUAL_EXPERTS)
    dense = fields.architecture_of(fields.text_section(config)) in fields.DENSE_ARCHITECTURES
    if dense or not fields.expert_like_fields(config) or experts in (0, 1):
        raise _dense_error(called)
    top_k = _only_value(config, fields.USUAL_TOP_K)
    intermediate = _only_value(config, fields.USUAL_MOE_INTERMEDIATE)
    intermediate = intermediate or fields.read_int(config, ("intermediate_size",))
    hidden = fields.read_int(config, ("hidden_size",))
    if not (experts and top_k and hidden and intermediate):
        raise ModelError(
            f"{called} has an architecture that is not known here, and its "
            f"fields do not say in the usual words how many experts there are, how many a token "
            f"visits, and how wide they are. {_found_fields(config)}. {_SHAPE_HINT}"
        )
    return experts, top_k, hidden, intermediate


def _warn_of_guess(called: str, sizes: _Sizes) -> None:
    logger.warning(
        "%s is not a known architecture: taken to be E=%d, topk=%d, hidden=%d, intermediate=%d "
        "from the usual field names; if that is wrong, use --shape",
        called,
        *sizes,
    )


def _only_value(config: ModelConfig, names: tuple[str, ...]) -> int | None:
    """Return the value on which all of the named fields that exist agree, else None."""
    values = {fields.read_int(config, (name,)) for name in names} - {None}
    return values.pop() if len(values) == 1 else None


def _shared_experts(config: ModelConfig, intermediate: int) -> tuple[int, int]:
    """(number, width of all together). Qwen's configs name the width of one shared expert alone."""
    number = fields.read_int(config, fields.SHARED_EXPERTS) or 0
    width = fields.read_int(config, fields.SHARED_INTERMEDIATE)
    if width is None:
        return number, number * intermediate
    return (max(1, number), width) if width > 0 else (0, 0)


def _dtype_of(config: ModelConfig) -> Dtype:
    """Return the checkpoint's unquantised dtype; bf16, as in the engines, where it says none."""
    value: Any = fields.read_value(config, "torch_dtype") or fields.read_value(config, "dtype")
    if value is None:
        return Dtype.BF16
    dtype = _DTYPES.get(str(value).removeprefix("torch."))
    if dtype is None:
        logger.warning("torch_dtype %s is none of %s: taken as bf16", value, ", ".join(_DTYPES))
    return dtype or Dtype.BF16


def _dense_error(called: str) -> ModelError:
    return ModelError(
        f"{called} is a dense model: its config names no experts, and only "
        f"Mixture-of-Experts kernels are tuned here. Try a model with experts (the `models` "
        f"command lists those known), or see its MLP as one expert: "
        f"--shape E=1,topk=1,hidden=..,intermediate=.."
    )


def _found_fields(config: ModelConfig) -> str:
    found = fields.expert_like_fields(config)
    listed = ", ".join(f"{field}={value}" for field, value in found.items())
    return f"Fields that may speak of experts: {listed or 'none'}"


def _layers_of(config: ModelConfig) -> int:
    return fields.read_int(config, fields.LAYERS) or len(_kinds_of(config))


def _kinds_of(config: ModelConfig) -> Sequence[str]:
    """Return the kind of each layer, as words or letters; empty where the config has none."""
    blocks = fields.read_value(config, fields.LAYER_BLOCKS)
    if isinstance(blocks, list) and all(isinstance(b, dict) and "block_type" in b for b in blocks):
        return [str(block["block_type"]) for block in blocks]
    found = (fields.read_value(config, name) for name in fields.LAYER_KINDS)
    return next((kinds for kinds in found if isinstance(kinds, (list, str))), ())


def moe_layers_of(config: ModelConfig) -> tuple[int, ...]:
    """Ascending layer numbers; empty where the config names no rule that is known here.

    The rules are those of transformers' modelling files: a word for each layer (what transformers
    5 saves of DeepSeek and GLM), a word or letter for its kind (Nemotron-H), a list of layers or a
    step (Llama 4), leading dense layers (DeepSeek, GLM, LFM2), a step and exceptions (Qwen), a
    period and an offset (Jamba).
    """
    return tuple(_moe_layers(config) or ())


def _moe_layers(config: ModelConfig) -> list[int] | None:
    """Return what the first rule says that is known; None where there is none."""
    layers = range(_layers_of(config))
    rules = (_by_word, _by_kind, _by_list, _after_dense, _by_step, _by_period)
    said = (rule(config, layers) for rule in rules)
    found = next((listed for listed in said if listed is not None), None)
    return None if found is None else [layer for layer in found if layer in layers]


def _by_word(config: ModelConfig, _: range) -> list[int] | None:
    words = fields.read_value(config, "mlp_layer_types")
    if not isinstance(words, list):
        return None
    return [layer for layer, word in enumerate(words) if word == "sparse"]


def _by_kind(config: ModelConfig, _: range) -> list[int] | None:
    kinds = _kinds_of(config)
    found = [layer for layer, kind in enumerate(kinds) if kind in ("moe", "E")]
    # Jamba names its mixers alone; Nemotron-H also the layers without experts.
    return found if found or "mlp" in kinds or "-" in kinds else None


def _by_list(config: ModelConfig, layers: range) -> list[int] | None:
    listed = fields.read_value(config, "moe_layers")
    if isinstance(listed, list) and listed:
        return sorted(layer for layer in listed if isinstance(layer, int))
    step = fields.read_int(config, ("interleave_moe_layer_step",))
    return None if not step else [layer for layer in layers if (layer + 1) % step == 0]


def _after_dense(config: ModelConfig, layers: range) -> list[int] | None:
    first = fields.read_int(config, (*fields.FIRST_DENSE_LAYERS, "num_dense_layers"))
    every = fields.read_value(config, "moe_layer_freq")
    if isinstance(every, list):
        return [layer for layer, has_experts in enumerate(every) if has_experts]
    if first is None:
        return None
    step = every if isinstance(every, int) and every > 0 else 1
    return [layer for layer in layers if layer >= first and layer % step == 0]


def _by_step(config: ModelConfig, layers: range) -> list[int] | None:
    step = fields.read_int(config, ("decoder_sparse_step",))
    if not step:
        return None
    listed = fields.read_value(config, "mlp_only_layers")
    dense = listed if isinstance(listed, list) else []
    return [layer for layer in layers if (layer + 1) % step == 0 and layer not in dense]


def _by_period(config: ModelConfig, layers: range) -> list[int] | None:
    period = fields.read_int(config, ("expert_layer_period",))
    if not period:
        return None
    offset = fields.read_int(config, ("expert_layer_offset",)) or 0
    return [layer for layer in layers if layer % period == offset]
