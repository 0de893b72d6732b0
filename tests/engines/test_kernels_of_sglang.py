"""The runner that SGLang's model classes set by themselves, out of its wheel, beside our rules."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autotune.engines import sglang_kernels
from autotune.engines.kernel_choice import AMD, CUDA, Case, Scheme, chosen
from autotune.engines.own_code.pieces import Source

OVERRIDES = "srt/arg_groups/overrides.py"
FOLDER = "srt/arg_groups/model_overrides"
NAMES = {
    "flashinfer_trtllm": "FlashInfer TRT-LLM",
    "flashinfer_cutlass": "FlashInfer CUTLASS",
    "flashinfer_mxfp4": "FlashInfer MXFP4",
    "triton_kernel": "triton_kernels",
    "triton": "Triton",
    "auto": "Triton",
}
STORED: dict[str, tuple[Scheme, dict[str, Any] | None]] = {
    "": (Scheme.PLAIN, None),
    "fp8": (Scheme.FP8_BLOCK, {"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "modelopt FP8": (Scheme.FP8_STATIC, {"quant_method": "modelopt_fp8", "quant_algo": "FP8"}),
    "compressed-tensors": (Scheme.FP8_CHANNEL, {"quant_method": "compressed-tensors"}),
}
"""A checkpoint's method in our words, and what its config says."""


class _Asked(SimpleNamespace):
    """Flags and settings as they are when nobody sets them: False, but for those given."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return False


class _Unset:
    """Environment settings of which none is set."""

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(get=lambda: False, is_set=lambda: False, set=lambda _: None)


def _platform(gpu: str) -> _Asked:
    number = int(gpu.removeprefix("SM")) if gpu in CUDA else 0
    return _Asked(
        is_cuda=number > 0,
        is_hip=not number,
        is_sm90=number == 90,
        is_sm100=number == 100,
        is_sm120=number == 120,
        is_blackwell=number >= 100,
        device_sm=number,
        device_capability=divmod(number, 10),
    )


def _registered(source: Source) -> Iterator[tuple[str, str, str]]:
    """Yield file, function and class for each override that may set the runner."""
    for path in sorted((source.root / FOLDER).iterdir()):
        text = path.read_text(encoding="utf-8") if path.name.endswith(".py") else ""
        if '"moe_runner_backend"' not in text:
            continue
        for node in ast.parse(text).body:
            for word in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(word, ast.Call) and ast.unparse(word.func) == "_register_for":
                    for name in word.args:
                        yield f"{FOLDER}/{path.name}", node.name, ast.literal_eval(name)


class _Server:
    """A server's flags, model and GPU, as the rules of SGLang ask for them."""

    def __init__(self, source: Source, gpu: str) -> None:
        self.source, self.platform = source, _platform(gpu)
        silent = SimpleNamespace(**dict.fromkeys(("info", "warning", "info_once"), lambda *_: None))
        source.stand_ins = {
            "logger": silent,
            "envs": _Unset(),
            "get_platform": lambda: self.platform,
            "resolving_view": lambda _: self.flags,
            "resolved_view": lambda _: self.flags,
            "model_config_of": lambda _: self.model,
            "get_quantization_config": lambda _: self.method,
            "is_attention_backend_not_set": lambda _: False,
            "is_triton_kernels_available": lambda: True,
            "get_nvidia_driver_version": lambda: (570, 0),
            "has_fp8_weights_in_checkpoint": lambda _: False,
            "is_cpu": lambda: False,
        }

    def runner(self, rules: list[tuple[str, str]], case: Case) -> str:
        """Return what the class of a model makes of ``auto``."""
        stored = STORED[case.method][1]
        self.method = stored and stored["quant_method"]
        config = SimpleNamespace(
            architectures=[case.model], quantization_config=stored, mlp_hidden_act="relu2"
        )
        self.flags = _Asked(
            moe_runner_backend="auto",
            moe_a2a_backend="none",
            quantization=None,
            attention_backend="fa3",
            init_expert_location="trivial",
            ep_size=8 if case.ep else 1,
            ep_num_redundant_experts=0,
            device="cuda",
            speculative_algorithm=None,
            kv_cache_dtype="auto",
            dcp_size=1,
        )
        self.model = _Asked(
            quantization=self.method,
            hf_config=config,
            hf_text_config=config,
            nvfp4_moe_meta=None,
        )
        found = "auto"
        for file, name in rules:
            given = (self.flags,) if file == OVERRIDES else (self.flags, config)
            found = self.source.get(file, name)(*given).get("moe_runner_backend", found)
        return found


@pytest.mark.parametrize("gpu", [*CUDA, *AMD])
def test_rules_say_what_the_classes_of_models_set(
    engine_package: Callable[[str], Path], gpu: str
) -> None:
    source = Source(engine_package("sglang") / "sglang", {})
    rules: dict[str, list[tuple[str, str]]] = {}
    for file, name, model in _registered(source):
        rules.setdefault(model, []).append((file, name))
    for model in source.get(OVERRIDES, "_DEEPSEEK_FAMILY_ARCHS"):
        rules.setdefault(model, []).append((OVERRIDES, "_deepseek_moe_quant_resolution"))
    assert len(rules) > 30
    server = _Server(source, gpu)
    compared, wrong = 0, []
    for model, asked in rules.items():
        for method, (scheme, _) in STORED.items():
            for ep in (False, True):
                case = Case(gpu, scheme, method, model, ep, gated="Nemotron" not in model)
                ours = chosen(sglang_kernels.RULES, case, "").backend
                if ours:
                    compared += 1
                    theirs = server.runner(asked, case)
                    if NAMES.get(theirs, theirs) != ours:
                        wrong.append((case, ours, theirs))
    assert compared > 80
    assert not wrong, "\n".join(map(str, wrong))
