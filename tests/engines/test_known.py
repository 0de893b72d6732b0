"""Which models engines have a class for: the table, and the wheels that it was made of."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

import pytest
from classes import FILES, classes_in  # type: ignore[import-not-found]

from autotune.engines import ENGINES
from autotune.engines.known import why_unknown
from autotune.errors import NotServedError
from autotune.models.parse import shape_of_config
from autotune.models.problems import Parallelism
from autotune.models.shape import ModelShape
from autotune.spec.problem import Dtype

SIZES = {"num_experts": 8, "num_experts_per_tok": 2, "hidden_size": 64}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def _shape(architecture: str, **fields: object) -> ModelShape:
    config = {**SIZES, "moe_intermediate_size": 256, "architectures": [architecture], **fields}
    return shape_of_config("a/model", config)


def test_the_table_is_that_of_the_wheels() -> None:
    made = classes_in(Path(os.environ.get("AUTOTUNE_ENGINE_WHEELS", "tests")))
    if not made:
        pytest.skip("AUTOTUNE_ENGINE_WHEELS names no folder with wheels")
    table = json.loads((resources.files("autotune.engines") / "classes.json").read_text())
    assert set(table) == set(FILES)
    assert {name: table[name] for name in made} == made


@pytest.mark.parametrize("name", ENGINES)
def test_a_model_without_a_class_is_refused(name: str) -> None:
    with pytest.raises(NotServedError, match=r"has no class MiniMaxM3ForCausalLM.*--shape"):
        _served(name, _shape("MiniMaxM3ForCausalLM"))


@pytest.mark.parametrize("name", ENGINES)
def test_other_ways_to_a_class_are_not_refused(name: str) -> None:
    own_code = {"AutoModelForCausalLM": "modeling.Model"}
    assert _served(name, _shape("MiniMaxM3ForCausalLM", auto_map=own_code)).experts == 8
    with pytest.raises(NotServedError):
        _served(name, _shape("MiniMaxM3ForCausalLM", auto_map={"AutoConfig": "config.Config"}))
    phi = _shape("PhimoeForCausalLM", num_local_experts=4, intermediate_size=64)
    assert _served(name, phi).experts == 4


@pytest.mark.parametrize(
    ("package", "models"), [("vllm", "model_executor/models"), ("sglang", "srt/models")]
)
def test_an_installed_engine_may_be_newer_than_the_table(
    tmp_path: Path, package: str, models: str
) -> None:
    (tmp_path / models).mkdir(parents=True)
    (tmp_path / models / "new.py").write_text("class NewMoeForCausalLM: ...\n")
    assert why_unknown(package, _shape("NewMoeForCausalLM"), tmp_path) is None
    for other in ("OtherForCausalLM", "MoeForCausalLM"):
        assert why_unknown(package, _shape(other), tmp_path) is not None


def test_vllm_takes_experts_of_deepseek_v4_for_fp4_unless_told() -> None:
    silent = _shape("DeepseekV4ForCausalLM", n_routed_experts=8, quantization_config=FP8)
    with pytest.raises(NotServedError, match="--hf-overrides"):
        _served("vllm", silent)
    assert _served("sglang", silent).block_shape == (128, 128)
    told = _shape(
        "DeepseekV4ForCausalLM",
        n_routed_experts=8,
        quantization_config=FP8,
        expert_dtype="fp8",
    )
    assert _served("vllm", told).block_shape == (128, 128)


def _served(name: str, shape: ModelShape):  # type: ignore[no-untyped-def]
    return ENGINES[name].serves(shape, None, Parallelism(), tokens=1, routing="uniform")


@pytest.mark.parametrize(
    ("name", "method"),
    [("vllm", "w8a8_int8"), ("vllm", "blockwise_int8"), ("sglang", "fbgemm_fp8")],
)
def test_a_method_that_one_engine_alone_has_is_refused_by_the_other(name: str, method: str) -> None:
    shape = _shape("Qwen3MoeForCausalLM", quantization_config={"quant_method": method})
    with pytest.raises(NotServedError, match="Try the other engine"):
        _served(name, shape)
    (other,) = (engine for engine in ENGINES if engine != name)
    assert _served(other, shape).dtype is shape.quantization.dtype  # type: ignore[union-attr]
    engine = ENGINES[name]
    plain = engine.serves(shape, Dtype.BF16, Parallelism(), tokens=1, routing="uniform")
    assert plain.dtype is Dtype.BF16
