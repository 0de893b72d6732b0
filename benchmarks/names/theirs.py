"""The file name that an engine's own code makes of a published config, or why it makes none.

What is run of the engine stands in ``autotune/engines/own_code``. What is not run, but said here,
apart from the project's own reading: which of the engine's dtype flags a checkpoint's quantisation
comes to (``read_case``).
"""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune.engines.own_code.pieces import targets_of
from autotune.engines.own_code.question import NESTING, Question, RefusalError, Stored
from autotune.engines.own_code.sglang import SGLangCode
from autotune.engines.own_code.vllm import VLLMCode

DEVICE = "NVIDIA H200"
CODE = {"vllm": VLLMCode, "sglang": SGLangCode}


def engines_in(places: list[Path]) -> dict[str, VLLMCode | SGLangCode]:
    """Return the engines whose packages lie in the folders or wheels, by name."""
    roots = (zipfile.Path(place) if place.suffix == ".whl" else place for place in places)
    found = ((name, root / name) for root in roots for name in CODE)
    return {name: CODE[name](root) for name, root in found if root.is_dir()}


def their_name(
    code: VLLMCode | SGLangCode,
    config: Mapping[str, Any],
    sidecar: Mapping[str, Any] | None,
    tp: int,
    ep: int,
    *,
    redundant: int = 0,
) -> str:
    """Return it. Raises RefusalError where the engine refuses, NotFoundError where that is not
    known; ``sidecar`` is ``hf_quant_config.json``."""
    stored = read_case(config, sidecar)
    method = (stored.name or "").replace("_", "-").removesuffix("-fp8")
    if stored.name and not {method, f"{method}-fp8"} & _methods(code):
        raise RefusalError(f"no quantisation is called {stored.name}")
    question = Question(
        config=config,
        stored=stored,
        device_name=DEVICE,
        tp_size=tp,
        ep_size=ep,
        redundant_experts=redundant,
    )
    return code.file_name(question)


def _methods(code: VLLMCode | SGLangCode) -> set[str]:
    """Return the quantisations that the engine's table names."""
    table = {VLLMCode: "model_executor", SGLangCode: "srt"}[type(code)]
    tree = code.source.tree(f"{table}/layers/quantization/__init__.py")
    names = ("QuantizationMethods", "BASE_QUANTIZATION_METHODS")
    given = (node for node in tree.body if {*targets_of(node)} & {*names})
    parts = (part for node in given for part in ast.walk(node) if isinstance(part, ast.Constant))
    return {str(part.value).replace("_", "-") for part in parts}


def read_case(config: Mapping[str, Any], sidecar: Mapping[str, Any] | None) -> Stored:
    """Return the flags that a checkpoint comes to. Raises RefusalError where no file is read."""
    top = {**config}
    for key in NESTING:
        if isinstance(top.get(key), Mapping):
            top = {**top, **top[key]}
    section = top.get("quantization_config") or top.get("compression_config")
    section = section or (sidecar and {"quant_method": "modelopt", **sidecar})
    if str(top.get("expert_dtype", "")).lower() == "fp4":
        raise RefusalError("fp4 experts (expert_dtype)")
    if not section:
        return Stored()
    return _stored(str(section.get("quant_method", "")).lower().replace("_", "-"), section)


def _stored(method: str, section: Mapping[str, Any]) -> Stored:
    inner = section.get("quantization", section)
    algorithm = str(inner.get("quant_algo") or "").upper()
    if method == "modelopt" and algorithm == "FP8":
        return Stored("use_fp8_w8a8", name="modelopt_fp8")
    if method == "modelopt":
        raise RefusalError(f"ModelOpt {algorithm} experts")
    if method == "fp8":
        return Stored("use_fp8_w8a8", section.get("weight_block_size"), name="fp8")
    if method in ("fbgemm-fp8", "w8a8-fp8"):
        return Stored("use_fp8_w8a8", None, True, method)
    if method in ("w8a8-int8", "blockwise-int8"):
        block = section.get("weight_block_size")
        return Stored("use_int8_w8a8", block, not block, method)
    if method == "experts-int8":
        return Stored("use_int8_w8a16", name=method)
    if method == "compressed-tensors":
        return _compressed(section)
    raise RefusalError(f"{method} experts")


def _compressed(section: Mapping[str, Any]) -> Stored:
    groups = section.get("config_groups", {}).values()
    kinds = ("Linear", "FusedMoE", "MoEGEMM")
    meant = [g for g in groups if any("expert" in t or t in kinds for t in g.get("targets", ()))]
    weights = meant[-1]["weights"] if meant else {}
    word = (
        weights.get("type"),
        weights.get("num_bits"),
        meant[-1].get("input_activations") is None,
    )
    if "mxfp4" in str(section.get("format")) or word[:2] == ("float", 4):
        raise RefusalError("compressed-tensors fp4 experts")
    if word == ("int", 4, True):
        return Stored("use_int4_w4a16", [0, weights["group_size"]], name="compressed_tensors")
    if word == ("int", 8, True):
        return Stored("use_int8_w8a16", name="compressed_tensors")
    if word == ("float", 8, False):
        block = weights.get("block_structure")
        return Stored(
            "use_fp8_w8a8",
            block,
            not block and weights["strategy"] == "channel",
            "compressed_tensors",
        )
    if word == ("int", 8, False):
        return Stored("use_int8_w8a8", None, True, "compressed_tensors")
    raise RefusalError(f"compressed-tensors {word}")
