"""Layers with experts, by each rule that a config may name."""

from __future__ import annotations

from typing import Any

import pytest

from autotune.models.parse import moe_layers_of, shape_of_config


@pytest.mark.parametrize(
    ("fields", "layers"),
    [
        ({}, ()),
        ({"mlp_layer_types": ["dense", "sparse", "dense", "sparse"]}, (1, 3)),
        ({"moe_layers": [1, 3, 5], "interleave_moe_layer_step": 2}, (1, 3, 5)),
        ({"moe_layers": [], "interleave_moe_layer_step": 3}, (2, 5)),
        ({"first_k_dense_replace": 2}, (2, 3, 4, 5)),
        ({"first_k_dense_replace": 1, "moe_layer_freq": 2}, (2, 4)),
        ({"moe_layer_freq": [0, 1, 1, 0, 1, 1]}, (1, 2, 4, 5)),
        ({"num_dense_layers": 4}, (4, 5)),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [3]}, (1, 5)),
        ({"decoder_sparse_step": 1, "mlp_only_layers": []}, (0, 1, 2, 3, 4, 5)),
        ({"expert_layer_period": 2, "expert_layer_offset": 1}, (1, 3, 5)),
        ({"hybrid_override_pattern": "MEM*ME"}, (1, 5)),
        ({"hybrid_override_pattern": "M-M*M-"}, ()),
        ({"layers_block_type": ["mamba", "moe", "attention", "moe", "mamba", "mamba"]}, (1, 3)),
        ({"layers_block_type": ["mamba", "attention"] * 3, "expert_layer_period": 3}, (0, 3)),
    ],
)
def test_each_rule(fields: dict[str, Any], layers: tuple[int, ...]) -> None:
    assert moe_layers_of({"num_hidden_layers": 6, **fields}) == layers
    assert moe_layers_of({"text_config": {"num_hidden_layers": 6, **fields}}) == layers


def test_a_config_that_names_each_kind_need_not_count_its_layers() -> None:
    assert moe_layers_of({"layers_block_type": ["mamba", "moe", "moe"]}) == (1, 2)
    assert moe_layers_of({"layers_block_type": ["mamba", "moe"], "num_hidden_layers": 1}) == ()


def test_dense_layers_of_a_config_that_names_each_layer() -> None:
    """Transformers 5 saves GLM without first_k_dense_replace."""
    sizes = {"hidden_size": 64, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = {
        "architectures": ["Glm4MoeLiteForCausalLM"],
        "n_routed_experts": 8,
        "num_hidden_layers": 3,
        "mlp_layer_types": ["dense", "sparse", "sparse"],
    }
    shape = shape_of_config("x", sizes | config)
    assert shape.first_dense_layers == 1
    assert shape.moe_layers == (1, 2)
