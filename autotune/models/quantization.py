"""``quantization_config`` of a checkpoint, or ModelOpt's file beside it → how its routed experts
are stored.

Every tool writes this object in its own way. One function reads one way; what none of them
knows becomes a quantisation without a dtype, which only matters when it is asked for. A tool may
leave modules out, or store some otherwise: what counts is what it says of the experts' names.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from autotune.errors import ModelError
from autotune.models.fields import (
    USUAL_MODULES,
    ModelConfig,
    architecture_of,
    family_in,
    read_value,
)
from autotune.models.shape import WeightQuantization
from autotune.spec.problem import Dtype
from autotune.spec.ranges import WIDTHS

logger = logging.getLogger(__name__)

Section = Mapping[str, Any]
Names = tuple[str, ...]
"""Dotted names under which the weights of one layer's experts may go."""

_FP4_EXPERTS = ("DeepseekV4ForCausalLM",)
# Each name stands for itself, what it is part of and what is part of it.
_LEFT_OUT = ("ignore", "modules_to_not_convert", "ignored_layers", "exclude_modules")
_PREFIXES = (
    "model.layers",
    "language_model.model.layers",
    "model.language_model.layers",
    "backbone.layers",
)
# The projections before and after the activation. A gate's name would meet patterns that mean the
# router, and it is always stored as the projection beside it.
_PROJECTIONS = (("0.up_proj", "0.w3", "up_proj"), ("0.down_proj", "0.w2", "down_proj"))


def with_sidecar(config: ModelConfig, sidecar: Section) -> ModelConfig:
    """Return a config with what ModelOpt's ``hf_quant_config.json`` beside it says.

    As in the engines it counts where the config itself is silent, and for the formats of single
    layers where the config has none.
    """
    inner = sidecar.get("quantization")
    said: Section = inner if isinstance(inner, Mapping) else sidecar
    own = _section_of(config)
    if not _algorithm(said):  # it speaks of the KV cache alone
        return config
    if not own:
        return {**config, "quantization_config": {"quant_method": "modelopt", **said}}
    if _algorithm(own) == _MIXED and not own.get(_BY_LAYER):
        return {**config, "quantization_config": {**own, _BY_LAYER: said.get(_BY_LAYER)}}
    return config


def read_quantization(
    config: ModelConfig, layers: Iterable[int] = (0,)
) -> WeightQuantization | None:
    """Read how the experts of ``layers`` are stored; None where they are not quantised."""
    section = _section_of(config)
    if not section:
        return None
    # DeepSeek V4 calls itself fp8 and says beside it that the experts are fp4.
    if str(read_value(config, "expert_dtype")).lower() in ("fp4", "mxfp4", "nvfp4"):
        return WeightQuantization("fp4 experts", None)
    family = family_in(config)
    modules = USUAL_MODULES if family is None else family.module
    found = Counter(_of_layer(section, modules, layer) for layer in layers)
    ((most, count), *others) = found.most_common()
    if others:
        logger.warning(
            "the experts of %d of %d layers are stored as %s, those of the others as %s: the "
            "first is taken; --dtype names another",
            count,
            found.total(),
            _in_words(most),
            " and ".join(_in_words(other) for other, _ in others),
        )
    unsaid = architecture_of(config) in _FP4_EXPERTS and read_value(config, "expert_dtype") is None
    return replace(most, is_assumed=True) if most and unsaid else most


def _section_of(config: ModelConfig) -> Section:
    for name in ("quantization_config", "compression_config"):
        section = read_value(config, name)
        if isinstance(section, Mapping) and section:
            return section
    return {}


def _in_words(stored: WeightQuantization | None) -> str:
    if stored is None:
        return "the model's own dtype"
    return stored.dtype.value if stored.dtype else stored.method


def _of_layer(section: Section, modules: tuple[str, ...], layer: int) -> WeightQuantization | None:
    roots = [f"{prefix}.{layer}.{module}" for prefix in _PREFIXES for module in modules]
    up, down = (
        _stored(section, tuple(f"{root}.{name}" for root in roots for name in projection))
        for projection in _PROJECTIONS
    )
    if up == down:
        return up
    return WeightQuantization(f"{_in_words(up)} before and {_in_words(down)} after", None)


def _stored(section: Section, names: Names) -> WeightQuantization | None:
    method = _method_of(section)
    lists = (section.get(key) for key in _LEFT_OUT)
    left_out = (name for listed in lists if isinstance(listed, list) for name in listed)
    if any(_speaks_of(name, names) for name in left_out):
        return None
    reader = _READERS.get(method)
    return reader(method, section, names) if reader else WeightQuantization(method, None)


def _speaks_of(pattern: Any, names: Names) -> bool:
    """Say whether a name, a name with stars or a regular expression (``re:``) means one of them."""
    text = str(pattern)
    if text.startswith("re:"):
        return _matches(text[3:], names)
    text = text.replace("gate_up_proj", "up_proj").rstrip(".")
    if "*" not in text:
        return f".{text}." in _dotted(names)
    stem = text[:-1] if text.endswith("*") and text[-2:-1] not in ("", ".") else text
    body = ".*".join(re.escape(part) for part in stem.split("*"))
    return _matches(rf"(?:.*\.)?{body}(?:\..*)?$", names)


@cache
def _dotted(names: Names) -> str:
    """Return all names as one text: a checkpoint's list may have thousands of patterns."""
    return "\n".join(f".{name}." for name in names)


def _matches(regex: str, names: Names) -> bool:
    try:
        return any(re.match(regex, name) for name in names)
    except (re.error, OverflowError, RecursionError):
        return False


def _method_of(section: Section) -> str:
    method = str(section.get("quant_method") or "").lower().replace("_", "-")
    if not method and "config_groups" in section and "quant_algo" not in section:
        return "compressed-tensors"
    if method.startswith("modelopt") or (not method and "quant_algo" in section):
        return "modelopt"
    return method or "unknown"


def _algorithm(section: Section) -> str:
    return str(section.get("quant_algo") or "").upper()


def _fp8(method: str, section: Section, _: Names) -> WeightQuantization:
    block = _pair(section.get("weight_block_size"))
    static = block is None and section.get("activation_scheme") == "static"
    return WeightQuantization(method, Dtype.FP8_W8A8, block, static_activations=static)


def _int8_blocks(method: str, section: Section, _: Names) -> WeightQuantization:
    block = _pair(section.get("weight_block_size"))
    return WeightQuantization(method, Dtype.INT8_W8A8, block, per_channel_quant=block is None)


def _fp8_channels(method: str, section: Section, _: Names) -> WeightQuantization:
    return WeightQuantization(method, Dtype.FP8_W8A8, per_channel_quant=True)


def _int8_weights(method: str, section: Section, _: Names) -> WeightQuantization:
    return WeightQuantization(method, Dtype.INT8_W8A16)


def _mxfp4(method: str, section: Section, _: Names) -> WeightQuantization:
    """gpt-oss: of the ways to serve it, SGLang's Triton runner alone has no fp4 weights."""
    return WeightQuantization(method, None, upcast=True)


def _modelopt(method: str, section: Section, names: Names) -> WeightQuantization | None:
    """Only FP8 with one scale for each expert, and in mixed checkpoints also blocks of FP8, are
    served by both engines as fp8."""
    said: Section = section
    if _algorithm(section) == _MIXED:
        layers = section.get(_BY_LAYER)
        entries = layers.items() if isinstance(layers, Mapping) else ()
        found = (entry for key, entry in entries if _EXPERTS.search(key) and _speaks_of(key, names))
        if not entries:
            return WeightQuantization(f"{method} {_MIXED}", None)
        if not isinstance(entry := next(found, None), Mapping):
            return None
        said = entry
    algorithm = _algorithm(said)
    if algorithm in ("FP8_PB_WO", "FP8_BLOCK_SCALES") and said is not section:
        side = _width("group_size", said.get("group_size") or 128)
        return WeightQuantization(method, Dtype.FP8_W8A8, (side, side))
    dtype = Dtype.FP8_W8A8 if algorithm == "FP8" else None
    words = f"{method} {algorithm}".strip()
    return WeightQuantization(words, dtype, static_activations=dtype is not None)


def _integer_groups(method: str, section: Section, names: Names) -> WeightQuantization | None:
    """AWQ, GPTQ and AutoRound: weight-only integers, scales per group along K."""
    said = _override(section, names)
    if said is None:
        return None
    bits = said.get("bits", said.get("w_bit"))
    zero_points = said.get("zero_point", not said.get("sym", True))
    block = _k_group(said.get("group_size", said.get("q_group_size")))
    dtype = _WEIGHT_ONLY.get(bits) if isinstance(bits, int) else None
    return WeightQuantization(method, dtype, block, zero_points=bool(zero_points))


def _override(section: Section, names: Names) -> Section | None:
    """Return the section with what GPTQ's ``dynamic`` or AutoRound's ``extra_config`` says of the
    experts; None where that leaves them as they are."""
    for key in ("dynamic", "extra_config"):
        entries = section.get(key)
        for pattern, said in entries.items() if isinstance(entries, Mapping) else ():
            regex = pattern[2:] if pattern[:2] in ("-:", "+:") else pattern
            whole = "" if key == "dynamic" else "$"
            if not (_matches(f"(?:{regex}){whole}", names) or _speaks_of(pattern, names)):
                continue
            told = {**section, **said} if isinstance(said, Mapping) else section
            return None if pattern.startswith("-:") or told.get("bits") in (16, 32) else told
    return section


def _compressed_tensors(method: str, section: Section, names: Names) -> WeightQuantization | None:
    group = _group_of(section, names)
    if group is None:
        return None
    if not isinstance(weights := group.get("weights"), Mapping):
        return WeightQuantization(method, None)
    given = group.get("input_activations")
    activations = given if isinstance(given, Mapping) else None
    if str(weights.get("strategy") or "").lower() == "block":
        block = _pair(weights.get("block_structure"))
    else:
        block = _k_group(weights.get("group_size"))
    per_token = activations is not None and activations.get("strategy") == "token"
    static = activations is not None and activations.get("dynamic") is False
    return WeightQuantization(
        method,
        _compressed_dtype(weights, activations),
        block,
        static_activations=static,
        per_channel_quant=per_token and block is None,
        zero_points=weights.get("symmetric") is False,
    )


def _group_of(section: Section, names: Names) -> Section | None:
    """Return the group whose ``targets`` name the experts, else the one of all linear layers, else
    None; an object without groups is a group that says nothing."""
    groups = section.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        return {}
    found = [group for group in groups.values() if isinstance(group, Mapping)]
    for meant in (_named, _of_class):
        for group in found:
            targets = group.get("targets")
            listed = targets if isinstance(targets, list) and targets else ("Linear",)
            if any(meant(str(target), names) for target in listed):
                return group
    return None


def _named(target: str, names: Names) -> bool:
    return _matches(target[3:], names) if target.startswith("re:") else target in names


def _of_class(target: str, _: Names) -> bool:
    return target.lower() in ("linear", "fusedmoe", "routedexperts")


def _compressed_dtype(weights: Section, activations: Section | None) -> Dtype | None:
    bits, kind = weights.get("num_bits"), weights.get("type")
    if activations is None:
        return _WEIGHT_ONLY.get(bits) if kind == "int" and isinstance(bits, int) else None
    if (activations.get("num_bits"), activations.get("type")) != (bits, kind) or bits != 8:
        return None
    return {"float": Dtype.FP8_W8A8, "int": Dtype.INT8_W8A8}.get(str(kind))


def _k_group(size: Any) -> tuple[int, int] | None:
    """Return a group along K as a block shape; null, 0 and -1 (a whole row) are none."""
    return (0, _width("group_size", size)) if isinstance(size, int) and size > 0 else None


def _pair(value: Any) -> tuple[int, int] | None:
    """[n, k], or the text NxK that early checkpoints have, as a block shape."""
    entries = re.findall(r"\d+", value) if isinstance(value, str) else value
    if not isinstance(entries, list) or len(entries) != 2 or not all(entries):
        return None
    n, k = (_width("a side of the scale block", entry) for entry in entries)
    return n, k


def _width(what: str, value: Any) -> int:
    """Return a number of the config, written as one or as text. Raises ModelError where it is no
    width."""
    is_text = isinstance(value, str) and value.isdecimal() and len(value) < 20
    number = int(value) if is_text else value
    if number not in WIDTHS:
        raise ModelError(f"quantization_config: {what} is {value!s:.40}; it is {WIDTHS}")
    return int(number)


_MIXED = "MIXED_PRECISION"
_BY_LAYER = "quantized_layers"
_EXPERTS = re.compile(r"\bexperts(\.0\.|\.\w+_proj$|$)")
_WEIGHT_ONLY = {4: Dtype.INT4_W4A16, 8: Dtype.INT8_W8A16}

_READERS: Mapping[str, Callable[[str, Section, Names], WeightQuantization | None]] = {
    "fp8": _fp8,
    "fbgemm-fp8": _fp8_channels,
    "w8a8-fp8": _fp8_channels,
    "w8a8-int8": _int8_blocks,
    "blockwise-int8": _int8_blocks,
    "experts-int8": _int8_weights,
    "modelopt": _modelopt,
    "mxfp4": _mxfp4,
    "awq": _integer_groups,
    "awq-marlin": _integer_groups,
    "gptq": _integer_groups,
    "gptq-marlin": _integer_groups,
    "auto-round": _integer_groups,
    "compressed-tensors": _compressed_tensors,
}
