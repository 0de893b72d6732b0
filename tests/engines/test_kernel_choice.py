"""The kernel that each engine takes by itself, and the places of the rules in the engines' code."""

from __future__ import annotations

import ast
import json
import os
import zipfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from engine_cases import H200, make_problem

from autotune.engines import ENGINES, sglang_kernels, vllm_kernels
from autotune.engines.base import Engine, Mode
from autotune.engines.kernel_choice import AMD, CUDA, KernelChoice, KernelRule, Source
from autotune.errors import AutotuneError, NotServedError
from autotune.models.load import load_shape
from autotune.models.parse import parse_shape
from autotune.models.problems import Parallelism
from autotune.spec.device import Target
from autotune.spec.problem import Dtype

WHEELS = os.environ.get("AUTOTUNE_ENGINE_WHEELS")
RULES = {"sglang": sglang_kernels.RULES, "vllm": vllm_kernels.RULES}
GPUS = [Target("cuda", int(sm.removeprefix("SM"))) for sm in CUDA]
GPUS += [Target("hip", arch, 64) for arch in AMD]
HOPPER, BLACKWELL = Target("cuda", 90), Target("cuda", 100)
BF16 = "Qwen/Qwen3-30B-A3B"
BLOCK_FP8 = "deepseek-ai/DeepSeek-V3"


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


def choice_of(engine: Engine, model: str, target: Target, tp: int = 1, ep: int = 1) -> KernelChoice:
    shape = load_shape(model)
    problem = engine.serves(shape, None, Parallelism(tp, ep), tokens=16, routing="uniform")
    return engine.kernel_choice(shape, problem, target)


@pytest.mark.parametrize("target", GPUS, ids=str)
@pytest.mark.parametrize("model", [BF16, BLOCK_FP8])
def test_known_gpus_have_an_answer_with_a_source(
    engine: Engine, model: str, target: Target
) -> None:
    choice = choice_of(engine, model, target, tp=8)
    if (engine.name, target.arch, model) == ("sglang", 80, BLOCK_FP8):
        assert not choice.backend  # Triton has no such fp8 there, and no other kernel was found
    else:
        assert choice.backend
        assert choice.source is not None
    assert choice.by_itself == (choice.backend == "Triton")


def test_what_was_measured_on_an_h200_holds(engine: Engine) -> None:
    for model in (BF16, "mistralai/Mixtral-8x7B-v0.1", BLOCK_FP8):
        assert choice_of(engine, model, HOPPER, tp=8).by_itself
    assert choice_of(engine, BF16, HOPPER, tp=2, ep=2).by_itself


def test_vllm_leaves_triton_on_hopper_for_block_fp8_with_ep() -> None:
    choice = choice_of(ENGINES["vllm"], BLOCK_FP8, HOPPER, tp=8, ep=8)
    assert (choice.backend, choice.package) == ("FlashInfer CUTLASS", "flashinfer")
    words = choice.words("vLLM 0.33.0", "SM90")
    assert words == (
        "vLLM 0.33.0 takes FlashInfer CUTLASS (DeepGEMM without flashinfer) for this on SM90: "
        "serve with --moe-backend triton, or these files are not opened; a run's times are of "
        "Triton's kernel alone: measure the server both ways before you switch (docs/serving.md)"
    )


def test_vllm_keeps_triton_for_blocks_that_tp_cuts() -> None:
    refined = choice_of(ENGINES["vllm"], "Qwen/Qwen3-235B-A22B-FP8", BLACKWELL, tp=8)
    whole = choice_of(ENGINES["vllm"], "Qwen/Qwen3-235B-A22B-FP8", BLACKWELL, tp=4)
    assert refined.by_itself
    assert whole.backend == "FlashInfer TRT-LLM"


def test_sglangs_choice_on_blackwell_is_the_models_class() -> None:
    sglang = ENGINES["sglang"]
    assert choice_of(sglang, BF16, BLACKWELL).backend == "FlashInfer TRT-LLM"
    assert choice_of(sglang, BLOCK_FP8, BLACKWELL).backend == "FlashInfer TRT-LLM"
    assert choice_of(sglang, "mistralai/Mixtral-8x7B-v0.1", BLACKWELL).by_itself
    shape = parse_shape("E=8,topk=2,hidden=4096,intermediate=14336")
    assert not sglang.kernel_choice(shape, make_problem(), BLACKWELL).backend
    assert sglang.kernel_choice(shape, make_problem(), HOPPER).by_itself


def test_an_unknown_gpu_or_dtype_is_not_guessed(engine: Engine) -> None:
    shape = load_shape(BF16)
    for target in (Target("cuda", 75), Target("cuda", 130), Target("hip", "gfx1100", 32)):
        assert not engine.kernel_choice(shape, make_problem(), target).backend
    fp32 = engine.kernel_choice(shape, make_problem(Dtype.FP32), HOPPER)
    assert not fp32.backend
    assert "not known" in fp32.words("it", "SM90")
    assert fp32.flag in fp32.words("it", "SM90")
    other = engine.kernel_choice(load_shape(BLOCK_FP8), make_problem(Dtype.BF16), HOPPER)
    assert not other.backend  # not what the checkpoint holds


def test_vllm_refuses_triton_for_a_thousand_experts() -> None:
    shape = load_shape(BF16)
    for experts, known in ((992, True), (993, False)):
        choice = ENGINES["vllm"].kernel_choice(shape, make_problem(experts=experts), HOPPER)
        assert bool(choice.backend) is known


def test_a_line_says_what_was_chosen(engine: Engine) -> None:
    shape = load_shape(BF16)
    choice = engine.kernel_choice(shape, make_problem(), H200.target)
    line = engine.kernel_words(choice, H200.target)
    assert line == f"{engine.title} {engine.version} serves this with Triton by itself on SM90"
    mi300 = Target("hip", "gfx942", 64)
    choice = engine.kernel_choice(shape, make_problem(), mi300)
    amd = engine.kernel_words(choice, mi300)
    assert "_USE_AITER=1 is set" in amd
    assert amd.endswith(f": then serve with {choice.flag}")
    assert ("own image for ROCm" in amd) is (engine.name == "sglang")
    name, _, value = choice.unless.partition("=")
    taken = choice.under({name: value})
    assert (taken.by_itself, choice.under({name: "0"})) == (False, choice)
    words = engine.kernel_words(taken, mi300)
    assert f"takes AITER where it can for this on gfx942, as {name}=1 is set here" in words
    assert f"serve with {choice.flag}" in words


def test_a_checkpoint_that_an_engine_does_not_load_is_said() -> None:
    with pytest.raises(NotServedError, match="vLLM has no quantisation w8a8-int8"):
        choice_of(ENGINES["vllm"], "meituan/DeepSeek-R1-Channel-INT8", HOPPER)


def test_a_mode_is_set_by_its_values_alone(engine: Engine) -> None:
    for mode in engine.modes:
        assert not mode.is_set({})
        assert not mode.is_set({mode.variable: "0"})
        assert mode.is_set({mode.variable: "1"})


def test_every_model_of_the_catalogue_is_known_on_hopper(engine: Engine) -> None:
    lines = resources.files("autotune.models.catalogue") / "models.jsonl"
    unknown = []
    for line in lines.read_text(encoding="utf-8").splitlines():
        name = json.loads(line)["name"]
        try:
            choice = choice_of(engine, name, HOPPER)
        except AutotuneError:
            continue
        if not choice.backend:
            unknown.append(name)
    assert not unknown


def _sources(engine: Engine) -> Iterator[Source]:
    rules: tuple[KernelRule, ...] = RULES[engine.name]
    yield from {rule.choice.source for rule in rules if rule.choice.source is not None}


@pytest.fixture(scope="module")
def wheels() -> dict[str, zipfile.ZipFile]:
    if not WHEELS:
        pytest.skip("AUTOTUNE_ENGINE_WHEELS names no folder with wheels")
    return {
        path.name.partition("-")[0]: zipfile.ZipFile(path) for path in Path(WHEELS).glob("*.whl")
    }


def test_sources_are_where_the_rules_say(
    engine: Engine, wheels: dict[str, zipfile.ZipFile]
) -> None:
    if engine.name not in wheels:
        pytest.skip("no wheel of it")
    wheel = wheels[engine.name]
    assert f"-{engine.version}-" in (wheel.filename or "")
    for source in _sources(engine):
        text = wheel.read(f"{engine.name}/{source.file}").decode()
        assert _around(text, source.line) == source.name, source
    for mode in engine.modes:
        assert mode.variable in _lines(wheel, engine, mode)


def _around(text: str, line: int) -> str:
    """The innermost function or class around a line."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    within = [node for node in found if node.lineno <= line <= (node.end_lineno or 0)]
    return max(within, key=lambda node: node.lineno).name


def _lines(wheel: zipfile.ZipFile, engine: Engine, mode: Mode) -> str:
    file, _, line = mode.source.partition(":")
    return wheel.read(f"{engine.name}/{file}").decode().splitlines()[int(line) - 1]
