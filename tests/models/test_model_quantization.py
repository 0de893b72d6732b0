"""Every way in which checkpoints say how their experts are stored."""

from __future__ import annotations

from typing import Any

import pytest

from autotune.models.quantization import read_quantization, with_sidecar
from autotune.spec.problem import Dtype


def stored(section: Any, **fields: Any) -> tuple[Dtype | None, tuple[int, int] | None, bool, bool]:
    found = read_quantization({"quantization_config": section, **fields})
    assert found is not None
    return found.dtype, found.block_shape, found.per_channel_quant, found.zero_points


def compressed(weights: dict[str, Any], activations: dict[str, Any] | None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


def weights(bits: int, kind: str, strategy: str, **more: Any) -> dict[str, Any]:
    return {"num_bits": bits, "type": kind, "strategy": strategy, "symmetric": True, **more}


TOKEN_FP8 = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
TOKEN_INT8 = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
TENSOR_FP8 = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
            (Dtype.FP8_W8A8, (128, 128), False),
        ),
        ({"quant_method": "fp8"}, (Dtype.FP8_W8A8, None, False)),
        ({"quant_method": "fp8", "weight_block_size": None}, (Dtype.FP8_W8A8, None, False)),
        ({"quant_method": "w8a8_fp8"}, (Dtype.FP8_W8A8, None, True)),
        ({"quant_method": "fbgemm_fp8"}, (Dtype.FP8_W8A8, None, True)),
        ({"quant_method": "w8a8_int8"}, (Dtype.INT8_W8A8, None, True)),
        (
            {"quant_method": "blockwise_int8", "weight_block_size": [128, 128]},
            (Dtype.INT8_W8A8, (128, 128), False),
        ),
        ({"quant_method": "experts_int8"}, (Dtype.INT8_W8A16, None, False)),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, (Dtype.FP8_W8A8, None, False)),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, (None, None, False)),
        ({"quant_method": "modelopt_fp8", "quant_algo": "FP8"}, (Dtype.FP8_W8A8, None, False)),
        ({"quant_algo": "FP8", "config_groups": {}}, (Dtype.FP8_W8A8, None, False)),
        ({"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, (None, None, False)),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, (None, None, False)),
        ({"quant_method": "mxfp4"}, (None, None, False)),
        ({"quant_method": "bitsandbytes"}, (None, None, False)),
        ({"something": 1}, (None, None, False)),
    ],
)
def test_whole_weight_methods(section: Any, expected: tuple[Any, ...]) -> None:
    assert stored(section) == (*expected, False)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
            (Dtype.INT4_W4A16, (0, 128), False, True),
        ),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True},
            (Dtype.INT4_W4A16, (0, 64), False, False),
        ),
        (
            {"quant_method": "gptq", "bits": 8, "group_size": 128, "sym": False},
            (Dtype.INT8_W8A16, (0, 128), False, True),
        ),
        (
            {"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True},
            (Dtype.INT8_W8A16, None, False, False),
        ),
        ({"quant_method": "gptq", "bits": 3, "group_size": 64}, (None, (0, 64), False, False)),
        (
            {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True},
            (Dtype.INT4_W4A16, (0, 128), False, False),
        ),
    ],
)
def test_integer_groups(section: Any, expected: tuple[Any, ...]) -> None:
    assert stored(section) == expected


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            compressed(weights(8, "float", "channel", group_size=None), TOKEN_FP8),
            (Dtype.FP8_W8A8, None, True, False),
        ),
        (
            compressed(weights(8, "int", "channel", group_size=None), TOKEN_INT8),
            (Dtype.INT8_W8A8, None, True, False),
        ),
        (
            compressed(weights(8, "float", "tensor"), TENSOR_FP8),
            (Dtype.FP8_W8A8, None, False, False),
        ),
        (
            compressed(
                weights(8, "float", "block", block_structure=[128, 128]),
                {**TOKEN_FP8, "strategy": "group", "group_size": 128},
            ),
            (Dtype.FP8_W8A8, (128, 128), False, False),
        ),
        (
            compressed(weights(8, "float", "block", block_structure="128x128"), TOKEN_FP8),
            (Dtype.FP8_W8A8, (128, 128), False, False),
        ),
        (
            compressed(weights(4, "int", "group", group_size=32), None),
            (Dtype.INT4_W4A16, (0, 32), False, False),
        ),
        (
            compressed(weights(4, "int", "group", group_size=128, symmetric=False), None),
            (Dtype.INT4_W4A16, (0, 128), False, True),
        ),
        (
            compressed(weights(8, "int", "channel", group_size=None), None),
            (Dtype.INT8_W8A16, None, False, False),
        ),
        # nvfp4, and fp8 weights without quantised activations: not computed here
        (
            compressed(
                weights(4, "float", "tensor_group", group_size=16), {"num_bits": 4, "type": "float"}
            ),
            (None, (0, 16), False, False),
        ),
        (compressed(weights(8, "float", "channel"), None), (None, None, False, False)),
        ({"quant_method": "compressed-tensors"}, (None, None, False, False)),
    ],
)
def test_compressed_tensors(section: Any, expected: tuple[Any, ...]) -> None:
    assert stored(section) == expected


@pytest.mark.parametrize(
    ("section", "static"),
    [
        ({"quant_method": "fp8", "activation_scheme": "static"}, True),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, False),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, True),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, False),
        (compressed(weights(8, "float", "tensor"), TENSOR_FP8), True),
        (compressed(weights(8, "float", "channel"), TOKEN_FP8), False),
        (compressed(weights(4, "int", "group", group_size=32), None), False),
    ],
)
def test_stored_scales_of_activations(section: Any, static: bool) -> None:
    found = read_quantization({"quantization_config": section})
    assert found is not None
    assert found.static_activations is static


def test_compressed_tensors_without_a_method_name() -> None:
    section = compressed(weights(8, "float", "channel"), TOKEN_FP8)
    del section["quant_method"]
    assert stored(section)[0] is Dtype.FP8_W8A8


@pytest.mark.parametrize("section", [None, {}, "fp8"])
def test_an_unquantised_checkpoint(section: Any) -> None:
    assert read_quantization({"quantization_config": section}) is None
    assert read_quantization({}) is None


def test_the_section_may_sit_in_the_language_models_part() -> None:
    found = read_quantization({"text_config": {"quantization_config": {"quant_method": "fp8"}}})
    assert found is not None
    assert found.dtype is Dtype.FP8_W8A8


def test_fp4_experts_in_an_fp8_checkpoint_are_not_fp8() -> None:
    section = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    assert stored(section, expert_dtype="fp4")[0] is None


def test_a_file_beside_the_config_counts_where_the_config_is_silent() -> None:
    sidecar = {"quantization": {"quant_algo": "FP8"}}
    found = read_quantization(with_sidecar({}, sidecar))
    assert found is not None
    assert (found.method, found.dtype) == ("modelopt FP8", Dtype.FP8_W8A8)
    own = {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}
    assert with_sidecar(own, sidecar) == own
    kv_alone = {"quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}
    assert with_sidecar({}, kv_alone) == {}


def test_the_formats_of_single_layers_may_lie_beside_a_config_that_has_none() -> None:
    own = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}
    layers = {"model.layers.0.mlp.experts.0.down_proj": {"quant_algo": "FP8"}}
    layers["model.layers.0.mlp.experts.0.up_proj"] = {"quant_algo": "FP8"}
    sidecar = {"quantization": {**own, "quantized_layers": layers}}
    found = read_quantization(with_sidecar({"quantization_config": own}, sidecar))
    assert found is not None
    assert found.dtype is Dtype.FP8_W8A8


@pytest.mark.parametrize(
    ("key", "entry", "expected"),
    [
        ("layers.0.ffn.experts", {"quant_algo": "NVFP4"}, None),
        ("layers.0.ffn.experts", {"quant_algo": "FP8"}, (Dtype.FP8_W8A8, None)),
        ("layers.0.ffn.experts", {"quant_algo": "fp8_pb_wo"}, (Dtype.FP8_W8A8, (128, 128))),
    ],
)
def test_a_mixed_checkpoint_says_how_its_experts_are_stored(
    key: str, entry: dict[str, Any], expected: tuple[Any, ...] | None
) -> None:
    layers = {"layers.0.attn.wq": {"quant_algo": "FP8"}, key: entry}
    section = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    assert stored({"quant_method": "modelopt", **section})[:2] == (expected or (None, None))


def test_experts_that_a_mixed_checkpoint_does_not_name_are_not_quantised() -> None:
    layers = {"model.layers.0.mlp.shared_experts.down_proj": {"quant_algo": "FP8"}}
    section = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    assert read_quantization({"quantization_config": section}) is None


FP8_BLOCKS = {
    "weights": weights(8, "float", "block", block_structure=[128, 128]),
    "input_activations": TOKEN_FP8,
}
INT4_GROUPS = {"weights": weights(4, "int", "group", group_size=128)}
ATTENTION = "re:.*self_attn.*"


@pytest.mark.parametrize(
    "targets",
    [
        "re:.*mlp.experts.*",
        r"re:.*\.experts\.\d+\.(gate|up|down)_proj$",
        "re:.*block_sparse_moe.experts.*w[123]",
        "Linear",
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_the_group_whose_targets_name_the_experts_counts(targets: str, first: bool) -> None:
    groups = [{"targets": [ATTENTION], **FP8_BLOCKS}, {"targets": [targets], **INT4_GROUPS}]
    named = dict(zip("ab", groups if first else groups[::-1], strict=True))
    section = {"quant_method": "compressed-tensors", "config_groups": named}
    assert stored(section)[:2] == (Dtype.INT4_W4A16, (0, 128))


def test_a_group_that_names_the_experts_comes_before_one_of_all_linear_layers() -> None:
    groups = {
        "a": {"targets": ["Linear"], **FP8_BLOCKS},
        "b": {"targets": ["re:.*mlp.experts.*"], **INT4_GROUPS},
    }
    section = {"quant_method": "compressed-tensors", "config_groups": groups}
    assert stored(section)[0] is Dtype.INT4_W4A16


def test_experts_that_no_group_names_are_not_quantised() -> None:
    groups = {"a": {"targets": [ATTENTION], **FP8_BLOCKS}}
    section = {"quant_method": "compressed-tensors", "config_groups": groups}
    assert read_quantization({"quantization_config": section}) is None


def test_projections_that_are_stored_unlike_are_of_no_type() -> None:
    groups = {
        "a": {"targets": ["re:.*experts.*down_proj"], **FP8_BLOCKS},
        "b": {"targets": ["Linear"], **INT4_GROUPS},
    }
    section = {"quant_method": "compressed-tensors", "config_groups": groups}
    found = read_quantization({"quantization_config": section})
    assert found is not None
    assert found.dtype is None
    assert found.method == "int4_w4a16 before and fp8_w8a8 after"


FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
CHANNELS = compressed(weights(8, "float", "channel"), TOKEN_FP8)


@pytest.mark.parametrize(
    ("section", "key"),
    [(FP8, "modules_to_not_convert"), (FP8, "ignored_layers"), (CHANNELS, "ignore")],
)
@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("model.layers.0.mlp.experts", True),
        ("model.layers.0.mlp.experts.gate_up_proj", None),
        ("model.layers.0", True),
        ("model.layers.0*", True),
        ("model.layers.*.mlp.experts*", True),
        ("mlp.experts", True),
        ("experts", True),
        ("re:.*mlp.experts.*", True),
        ("model.layers.1", False),
        ("model.layers.00", False),
        ("model.layers.0.mlp.experts_gate", False),
        ("model.layers.0.mlp.shared_experts*", False),
        ("re:.*shared_experts.*", False),
        ("re:.*mlp.gate$", False),
        ("re:.*gate.*", False),
        ("re:(", False),
        ("model.layers.0.mlp.gate", False),
        ("gate", False),
        ("lm_head", False),
    ],
)
def test_experts_that_are_left_out(
    section: dict[str, Any], key: str, name: str, left_out: bool | None
) -> None:
    found = read_quantization({"quantization_config": {**section, key: ["lm_head", name]}})
    if left_out is None:  # one projection of the two
        assert found is not None
        assert found.dtype is None
    else:
        assert (found is None) == left_out


def test_what_most_layers_store_is_taken_and_said(caplog: pytest.LogCaptureFixture) -> None:
    config = {"quantization_config": {**FP8, "modules_to_not_convert": ["model.layers.1"]}}
    found = read_quantization(config, range(3))
    assert found is not None
    assert found.dtype is Dtype.FP8_W8A8
    assert "2 of 3 layers are stored as fp8_w8a8" in caplog.text
    assert "the model's own dtype" in caplog.text
    assert read_quantization(config, (1,)) is None


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"dynamic": {r"-:.*mlp\.experts.*": {}}}, None),
        ({"dynamic": {r"-:.*self_attn.*": {}}}, (Dtype.INT4_W4A16, (0, 128))),
        ({"dynamic": {r"-:.*mlp\.gate.*": {}}}, (Dtype.INT4_W4A16, (0, 128))),
        ({"dynamic": {r"+:.*experts.*": {"bits": 8}}}, (Dtype.INT8_W8A16, (0, 128))),
        ({"dynamic": {r".*experts.*": {"group_size": 32}}}, (Dtype.INT4_W4A16, (0, 32))),
        ({"extra_config": {r".*mlp\.experts.*": {"bits": 16}}}, None),
        (
            {"extra_config": {"model.layers.0.mlp.experts": {"bits": 8}}},
            (Dtype.INT8_W8A16, (0, 128)),
        ),
        ({"extra_config": {"model.layers.0.mlp.gate": {"bits": 16}}}, (Dtype.INT4_W4A16, (0, 128))),
        ({"modules_to_not_convert": ["mlp.experts"]}, None),
    ],
)
def test_overrides_of_single_modules(
    overrides: dict[str, Any], expected: tuple[Any, ...] | None
) -> None:
    found = read_quantization({"quantization_config": {**GPTQ, **overrides}})
    assert (found and (found.dtype, found.block_shape)) == expected


def test_compression_config_is_another_name() -> None:
    found = read_quantization({"compression_config": CHANNELS})
    assert found is not None
    assert found.dtype is Dtype.FP8_W8A8
