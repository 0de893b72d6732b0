"""Which layers of a model have experts, where its config says so."""

from __future__ import annotations

from autotune.models import fields
from autotune.models.fields import Config


def moe_layers_of(config: Config) -> tuple[int, ...]:
    """Ascending layer numbers; empty where the config names no rule that is known here.

    The rules are those of transformers' modelling files: a word for each layer (what transformers
    5 saves of DeepSeek and GLM), a list of layers or a step (Llama 4), leading dense layers
    (DeepSeek, GLM, LFM2), a step and exceptions (Qwen), a period and an offset (Jamba).
    """
    layers = range(fields.read_int(config, fields.LAYERS) or 0)
    for rule in (_by_word, _by_list, _after_dense, _by_step, _by_period):
        found = rule(config, layers)
        if found is not None:
            return tuple(layer for layer in found if layer in layers)
    return ()


def _by_word(config: Config, _: range) -> list[int] | None:
    words = fields.read_value(config, "mlp_layer_types")
    if not isinstance(words, list):
        return None
    return [layer for layer, word in enumerate(words) if word == "sparse"]


def _by_list(config: Config, layers: range) -> list[int] | None:
    listed = fields.read_value(config, "moe_layers")
    if isinstance(listed, list) and listed:
        return sorted(layer for layer in listed if isinstance(layer, int))
    step = fields.read_int(config, ("interleave_moe_layer_step",))
    return None if not step else [layer for layer in layers if (layer + 1) % step == 0]


def _after_dense(config: Config, layers: range) -> list[int] | None:
    first = fields.read_int(config, (*fields.FIRST_DENSE_LAYERS, "num_dense_layers"))
    every = fields.read_value(config, "moe_layer_freq")
    if isinstance(every, list):
        return [layer for layer, has_experts in enumerate(every) if has_experts]
    if first is None:
        return None
    step = every if isinstance(every, int) and every > 0 else 1
    return [layer for layer in layers if layer >= first and layer % step == 0]


def _by_step(config: Config, layers: range) -> list[int] | None:
    step = fields.read_int(config, ("decoder_sparse_step",))
    if not step:
        return None
    dense = fields.read_value(config, "mlp_only_layers") or []
    return [layer for layer in layers if (layer + 1) % step == 0 and layer not in dense]


def _by_period(config: Config, layers: range) -> list[int] | None:
    period = fields.read_int(config, ("expert_layer_period",))
    if not period:
        return None
    offset = fields.read_int(config, ("expert_layer_offset",)) or 0
    return [layer for layer in layers if layer % period == offset]
