"""Each architecture's spelling, by small configs; and architectures that nobody knows."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from autotune.errors import ModelError
from autotune.models.parse import shape_of_config
from autotune.spec.problem import Dtype

SIZES = {"hidden_size": 64, "num_experts_per_tok": 2}
QWEN = {**SIZES, "num_experts": 8, "moe_intermediate_size": 32, "intermediate_size": 999}
# As transformers 5 saves them: under the names that its attribute_map points at.
SAVED_QWEN = {"num_local_experts": 8, **{k: v for k, v in QWEN.items() if k != "num_experts"}}
SAVED_BAILING = {
    "num_experts_per_token": 2,
    **{k: v for k, v in QWEN.items() if k != "num_experts_per_tok"},
}
DEEPSEEK = {**SIZES, "n_routed_experts": 8, "moe_intermediate_size": 32, "intermediate_size": 999}
MIXTRAL = {**SIZES, "num_local_experts": 8, "intermediate_size": 32}
BAILING = (
    "BailingMoEForCausalLM",
    "BailingMoeForCausalLM",
    "BailingMoeV2ForCausalLM",
    "BailingMoeV2_5ForCausalLM",
    "BailingMoeLinearForCausalLM",
)

# Every config below is E=8, top-2, hidden 64, intermediate 32.
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    *((name, QWEN) for name in BAILING),
    *((name, SAVED_BAILING) for name in BAILING),
    ("Qwen2MoeForCausalLM", QWEN),
    ("Qwen3MoeForCausalLM", QWEN),
    ("Qwen3MoeForCausalLM", SAVED_QWEN),
    ("Qwen3NextForCausalLM", QWEN),
    ("Qwen3VLMoeForConditionalGeneration", {"text_config": QWEN, "hidden_size": 5}),
    ("Qwen3VLMoeForConditionalGeneration", {"text_config": SAVED_QWEN}),
    ("Qwen3_5MoeForConditionalGeneration", {"text_config": QWEN}),
    ("Qwen3_5MoeForCausalLM", QWEN),
    ("Qwen3OmniMoeForConditionalGeneration", {"thinker_config": {"text_config": QWEN}}),
    ("OlmoeForCausalLM", {**SIZES, "num_experts": 8, "intermediate_size": 32}),
    ("OLMoEForCausalLM", QWEN),
    ("DeepseekV2ForCausalLM", DEEPSEEK),
    ("DeepseekV3ForCausalLM", DEEPSEEK),
    ("DeepseekV32ForCausalLM", DEEPSEEK),
    ("DeepseekV4ForCausalLM", DEEPSEEK),
    ("Glm4MoeForCausalLM", DEEPSEEK),
    ("Glm4MoeLiteForCausalLM", DEEPSEEK),
    ("GlmMoeDsaForCausalLM", DEEPSEEK),
    ("MistralLarge3ForCausalLM", DEEPSEEK),
    ("KimiVLForConditionalGeneration", {"text_config": DEEPSEEK}),
    ("MixtralForCausalLM", MIXTRAL),
    ("MiniMaxM2ForCausalLM", MIXTRAL),
    ("MiniMaxM3SparseForConditionalGeneration", {"text_config": MIXTRAL}),
    ("GptOssForCausalLM", MIXTRAL),
    ("PhiMoEForCausalLM", MIXTRAL),
    ("PhimoeForCausalLM", MIXTRAL),
    ("Llama4ForConditionalGeneration", {"text_config": MIXTRAL}),
    ("JambaForCausalLM", {**SIZES, "num_experts": 8, "intermediate_size": 32}),
    (
        "DbrxForCausalLM",
        {
            "d_model": 64,
            "ffn_config": {"moe_num_experts": 8, "moe_top_k": 2, "ffn_hidden_size": 32},
        },
    ),
    ("Grok1ForCausalLM", {**MIXTRAL, "moe_intermediate_size": 32, "intermediate_size": 999}),
    ("Grok1ModelForCausalLM", MIXTRAL),
    (
        "HunYuanMoEV1ForCausalLM",
        {
            "hidden_size": 64,
            "num_experts": 8,
            "moe_topk": [2, 2],
            "moe_intermediate_size": [32, 32],
            "intermediate_size": 999,
        },
    ),
    ("HYV3ForCausalLM", {**SIZES, "num_experts": 8, "expert_hidden_dim": 32}),
    (
        "Gemma4ForConditionalGeneration",
        {
            "text_config": {
                "hidden_size": 64,
                "num_experts": 8,
                "top_k_experts": 2,
                "moe_intermediate_size": 32,
            }
        },
    ),
    ("NemotronHForCausalLM", {**DEEPSEEK, "hidden_size": 999, "moe_latent_size": 64}),
    ("NemotronHForCausalLM", {**DEEPSEEK, "moe_latent_size": None}),
    ("NemotronHPuzzleForCausalLM", DEEPSEEK),
    ("NemotronH_Nano_VL_V2", {"llm_config": DEEPSEEK, "hidden_size": 5}),
    (
        "KimiLinearForCausalLM",
        {
            "hidden_size": 64,
            "num_experts": 8,
            "num_experts_per_token": 2,
            "moe_intermediate_size": 32,
        },
    ),
    (
        "KimiK3ForConditionalGeneration",
        {
            "text_config": {
                "hidden_size": 999,
                "routed_expert_hidden_size": 64,
                "num_experts": 8,
                "num_experts_per_token": 2,
                "moe_intermediate_size": 32,
            }
        },
    ),
]


def config_of(architecture: str, **fields: Any) -> dict[str, Any]:
    return {"architectures": [architecture], **fields}


@pytest.mark.parametrize(("architecture", "fields"), CONFIGS)
def test_every_family(
    architecture: str, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    shape = shape_of_config("some", config_of(architecture, **fields))
    assert (shape.experts, shape.top_k, shape.hidden, shape.intermediate) == (8, 2, 64, 32)
    assert shape.architecture == architecture
    assert not caplog.records  # a known family is read, not guessed


@pytest.mark.parametrize(
    ("fields", "shared"),
    [
        ({"n_shared_experts": 1}, (1, 32)),
        ({"num_shared_experts": 2}, (2, 64)),
        ({"n_shared_experts": None}, (0, 0)),
        ({}, (0, 0)),
        ({"shared_expert_intermediate_size": 96}, (1, 96)),
        ({"shared_expert_intermediate_size": 0}, (0, 0)),
        ({"num_shared_experts": 2, "moe_shared_expert_intermediate_size": 64}, (2, 64)),
    ],
)
def test_shared_experts(fields: dict[str, Any], shared: tuple[int, int]) -> None:
    shape = shape_of_config("some", config_of("DeepseekV3ForCausalLM", **DEEPSEEK, **fields))
    assert (shape.shared_experts, shape.shared_intermediate) == shared


@pytest.mark.parametrize(
    ("fields", "dtype"),
    [
        ({"torch_dtype": "bfloat16"}, Dtype.BF16),
        ({"torch_dtype": "float16"}, Dtype.FP16),
        ({"torch_dtype": "torch.float16"}, Dtype.FP16),
        ({"dtype": "float32"}, Dtype.FP32),
        ({}, Dtype.BF16),
        ({"torch_dtype": None}, Dtype.BF16),
        ({"torch_dtype": "float8_e4m3fn"}, Dtype.BF16),
    ],
)
def test_dtype_of_the_checkpoint(fields: dict[str, Any], dtype: Dtype) -> None:
    config = config_of("MixtralForCausalLM", **MIXTRAL, **fields)
    assert shape_of_config("some", config).dtype is dtype


def test_an_unknown_architecture_with_usual_names_is_guessed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        shape = shape_of_config("some", config_of("NewMoeForCausalLM", **DEEPSEEK))
    assert (shape.experts, shape.top_k, shape.hidden, shape.intermediate) == (8, 2, 64, 32)
    assert "NewMoeForCausalLM" in caplog.text
    assert "E=8, topk=2, hidden=64, intermediate=32" in caplog.text


def test_a_config_without_architectures_is_guessed() -> None:
    shape = shape_of_config("some", MIXTRAL)
    assert (shape.experts, shape.architecture) == (8, "")


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_size": 64, "expert_count": 8, "moe_width": 32},
        {**MIXTRAL, "num_experts": 16},  # two fields that disagree
        {"hidden_size": 64, "num_experts": 8, "intermediate_size": 32},  # no top-k
    ],
)
def test_an_unknown_architecture_with_odd_names_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as error:
        shape_of_config("new/model", config_of("OddForCausalLM", **fields))
    message = str(error.value)
    assert "new/model (OddForCausalLM)" in message
    assert "--shape E=..,topk=..,hidden=..,intermediate=.." in message
    for name, value in fields.items():
        if "expert" in name or "moe" in name:
            assert f"{name}={value}" in message


def test_nested_expert_fields_are_listed_by_dotted_name() -> None:
    config = config_of("OddForCausalLM", mlp={"expert_count": 8})
    with pytest.raises(ModelError, match=r"mlp\.expert_count=8"):
        shape_of_config("some", config)


@pytest.mark.parametrize(
    "fields",
    [
        config_of("LlamaForCausalLM", hidden_size=64, intermediate_size=32),
        config_of(
            "Gemma4ForConditionalGeneration", text_config={"num_experts": None, "hidden_size": 64}
        ),
        config_of("JambaForCausalLM", **SIZES, num_experts=1, intermediate_size=32),
        config_of("MixtralForCausalLM", hidden_size=64, intermediate_size=32),
        config_of("Qwen3ForCausalLM", **QWEN),
        config_of("InternVLChatModel", llm_config=config_of("Qwen3ForCausalLM", **QWEN)),
        config_of("NemotronHForCausalLM", **DEEPSEEK, hybrid_override_pattern="M-M*M-"),
        config_of("NemotronHForCausalLM", **DEEPSEEK, layers_block_type=["mamba", "mlp"]),
        config_of("Qwen3MoeForCausalLM", **QWEN, num_hidden_layers=2, decoder_sparse_step=4),
        config_of(
            "DeepseekV3ForCausalLM", **DEEPSEEK, num_hidden_layers=2, first_k_dense_replace=2
        ),
        {"hidden_size": 64, "intermediate_size": 32},
    ],
)
def test_dense_models_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"some .* is a dense model.*--shape E=1,topk=1"):
        shape_of_config("some", fields)


def test_a_known_family_that_lacks_a_field_says_which() -> None:
    fields = {key: value for key, value in DEEPSEEK.items() if key != "moe_intermediate_size"}
    with pytest.raises(ModelError) as error:
        shape_of_config("some", config_of("DeepseekV3ForCausalLM", **fields))
    message = str(error.value)
    assert "moe_intermediate_size" in message
    assert "n_routed_experts=8" in message
    assert "--shape" in message


def test_a_field_that_is_no_whole_number_is_refused() -> None:
    config = config_of("MixtralForCausalLM", **{**MIXTRAL, "hidden_size": "wide"})
    with pytest.raises(ModelError, match="hidden_size"):
        shape_of_config("some", config)


def test_chatglm_is_one_expert() -> None:
    config = config_of("ChatGLMModel", hidden_size=64, ffn_hidden_size=32, num_layers=2)
    shape = shape_of_config("some", config)
    assert (shape.experts, shape.top_k, shape.intermediate, shape.dense) == (1, 1, 32, True)


@pytest.mark.parametrize(
    "outer", ["llm_config", "language_config", "thinker_config", "text_config"]
)
@pytest.mark.parametrize("inner", [None, "llm_config", "text_config"])
def test_a_wrapped_model_is_read_by_its_own_architecture(
    outer: str, inner: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    model = config_of("Qwen3MoeForCausalLM", **QWEN)
    wrapped = {outer: model if inner is None else {inner: model, "hidden_size": 5}}
    shape = shape_of_config("some", config_of("InternVLChatModel", hidden_size=7, **wrapped))
    assert (shape.experts, shape.top_k, shape.hidden, shape.intermediate) == (8, 2, 64, 32)
    assert not caplog.records


@pytest.mark.parametrize(
    "config",
    [
        config_of("NemotronH_Nano_VL_V2", llm_config=DEEPSEEK),
        config_of("SomeWrapper", llm_config=config_of("NemotronHForCausalLM", **DEEPSEEK)),
        config_of("SomeWrapper", text_config={**DEEPSEEK, "model_type": "nemotron_h_puzzle"}),
    ],
)
def test_every_wrapper_of_nemotron_h_has_no_gate(config: dict[str, Any]) -> None:
    assert not shape_of_config("some", config).gated


def blocks(*sizes: int) -> list[dict[str, Any]]:
    experts = [{"block_type": "moe", "moe_intermediate_size": size} for size in sizes]
    return [{"block_type": "mamba"}, *experts, {"block_type": "attention"}]


def test_blocks_of_one_size_are_one_shape() -> None:
    puzzle = config_of("NemotronHPuzzleForCausalLM", **DEEPSEEK, block_configs=blocks(48, 48))
    shape = shape_of_config("some", puzzle)
    assert (shape.intermediate, shape.layers, shape.moe_layers) == (48, 4, (1, 2))


@pytest.mark.parametrize(
    ("config", "gate"),
    [
        (config_of("NemotronHPuzzleForCausalLM", **DEEPSEEK, block_configs=blocks(32, 48)), True),
        (
            config_of(
                "DeepseekV3ForCausalLM",
                **{**DEEPSEEK, "moe_intermediate_size": [0, 32, 48]},
                num_hidden_layers=3,
                first_k_dense_replace=1,
            ),
            False,
        ),
        (
            config_of(
                "NewMoeForCausalLM",
                **{**DEEPSEEK, "moe_intermediate_size": [32, 48]},
                num_hidden_layers=5,
            ),
            False,
        ),
    ],
)
def test_experts_of_unlike_sizes_are_refused_with_each_shape(
    config: dict[str, Any], gate: bool
) -> None:
    with pytest.raises(ModelError, match="unlike sizes") as raised:
        shape_of_config("some", config)
    without = ",gated=false" if gate else ""
    for size in (32, 48):
        shape = f"--shape E=8,topk=2,hidden=64,intermediate={size}{without}"
        assert shape in str(raised.value)


@pytest.mark.parametrize(
    "absurd",
    [
        {"num_experts_per_tok": 9},
        {"n_routed_experts": 10**9},
        {"hidden_size": 10**9},
        {"moe_intermediate_size": 10**9},
        {"moe_intermediate_size": -32},
        {"num_hidden_layers": 10**12},
        {"num_hidden_layers": -1},
    ],
)
@pytest.mark.parametrize("architecture", ["DeepseekV3ForCausalLM", "NewMoeForCausalLM"])
def test_absurd_numbers_are_refused(architecture: str, absurd: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="--shape"):
        shape_of_config("some", config_of(architecture, **{**DEEPSEEK, **absurd}))
