"""Which layer each line of a comparison computes."""

from __future__ import annotations

from pathlib import Path

from autotune.models.load import load_shape
from autotune.settings import ModelSettings
from autotune.spec.device import Device, DeviceKind, Target
from autotune.tuning.comparison.compare import Comparison, _launches, layers_of
from autotune.tuning.comparison.variants import ConfigSources, Variant, variants_of

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
V3 = ModelSettings(model="deepseek-ai/DeepSeek-V3", tp_size=8, batch_sizes=(64, 1))
BOTH = ("sglang", "vllm")


def _layers(settings: ModelSettings) -> list[dict[str, int]]:
    layers = layers_of(load_shape(settings.model or ""), settings, BOTH)
    return [{name: problem.experts for name, problem in each.items()} for each in layers]


def test_each_engine_has_its_own_layer_at_every_batch_size() -> None:
    assert _layers(V3) == [{"sglang": 257, "vllm": 256}] * 2


def test_an_engine_that_refuses_has_none() -> None:
    """SGLang takes no scale blocks that TP cuts."""
    cut = ModelSettings(model="Qwen/Qwen3-30B-A3B-FP8", tp_size=4, batch_sizes=(1,))
    assert _layers(cut) == [{"vllm": 128}]


def test_lines_of_an_engine_compute_its_layer_and_others_the_first(tmp_path: Path) -> None:
    (_, layers) = layers_of(load_shape("deepseek-ai/DeepSeek-V3"), V3, BOTH)
    sources = ConfigSources(output_dir=tmp_path)
    lines = [v for p in ("autotune", "vllm", "torch") for v in variants_of(p, sources, H200)]
    computed = {
        variant.name: (problem.experts, problem.tokens)
        for variant, (problem, _) in _launches(lines, layers, H200).items()
    }
    assert computed == {
        "autotune, SGLang default": (257, 64),
        "autotune, vLLM default": (256, 64),
        "vllm": (256, 64),
        "torch": (257, 64),
    }


def test_unlike_layers_are_said() -> None:
    (layers, _) = layers_of(load_shape("deepseek-ai/DeepSeek-V3"), V3, BOTH)
    line = Variant("torch", "torch")

    def words(of: dict[str, object]) -> dict[str, str]:
        problem = layers["sglang"]
        about = {"torch": ("torch 1", "")}
        return Comparison("V3", problem, H200, (line,), (), {}, False, about, of).layer_words  # type: ignore[arg-type]

    assert words({"vllm": layers["vllm"]}) == {}
    said = words(dict(layers))
    assert list(said) == ["sglang", "vllm"]
    assert said["sglang"].startswith("E=257,")
