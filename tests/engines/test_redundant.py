"""Redundant experts: which classes take them, and experts that ranks cannot share evenly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autotune.engines import ENGINES
from autotune.engines.redundant import LEFT_OUT, REFUSED
from autotune.errors import NotServedError
from autotune.models.parse import shape_of_config
from autotune.models.problems import Parallelism
from autotune.spec.problem import Problem

FOLDERS = {"sglang": ("srt/models",), "vllm": ("model_executor/models", "models")}


def _served(engine: str, architecture: str, redundant: int, ep_size: int = 8) -> Problem:
    sizes = {"num_local_experts": 64, "num_experts": 64, "n_routed_experts": 64}
    widths = {"hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 64}
    config = {"architectures": [architecture], "num_experts_per_tok": 2, **sizes, **widths}
    shape = shape_of_config("a/model", config)
    parallel = Parallelism(ep_size, ep_size, 0, redundant)
    return ENGINES[engine].serves(shape, None, parallel, tokens=1, routing="uniform")


def test_a_class_that_takes_none_is_served_without_them() -> None:
    assert _served("sglang", "MixtralForCausalLM", 8).experts == 8
    assert _served("vllm", "MixtralForCausalLM", 8).experts == 9
    assert _served("sglang", "MiniMaxM2ForCausalLM", 8).experts == 9
    assert _served("vllm", "MiniMaxM2ForCausalLM", 5).experts == 8


def test_a_class_that_asserts_that_there_are_none_is_refused() -> None:
    with pytest.raises(NotServedError, match=r"takes none \(bailing_moe.py:220\)"):
        _served("sglang", "BailingMoeForCausalLM", 8)
    assert _served("sglang", "BailingMoeForCausalLM", 0).experts == 8


@pytest.mark.parametrize(("engine", "reason"), [("sglang", "asserts"), ("vllm", "one expert more")])
def test_ranks_that_are_not_alike_are_refused_with_what_the_engine_does(
    engine: str, reason: str
) -> None:
    with pytest.raises(NotServedError, match=rf"{reason}.*allowed are 1, 2, 4.*Try --ep-size 4"):
        _served(engine, "MixtralForCausalLM", 0, ep_size=6)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_lines_are_those_of_the_wheels(
    engine: str, engine_package: Callable[[str], Path]
) -> None:
    package = engine_package(engine) / engine
    for source in LEFT_OUT[engine].values():
        made = _lines(package, engine, source, 16)
        assert "num_experts=" in made, source
        assert "redundant" not in made, source
    for source in REFUSED[engine].values():
        assert "ep_num_redundant_experts == 0" in _lines(package, engine, source, 1)


def _lines(package: Path, engine: str, source: str, count: int) -> str:
    file, line = source.split(":")
    paths = (package / folder / file for folder in FOLDERS[engine])
    path = next(path for path in paths if path.is_file())
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(lines[int(line) - 1 :][:count])
