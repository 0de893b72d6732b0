"""Whose kernel is measured for which engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autotune.backends.gpu.providers import (
    AUTO,
    OURS,
    ProviderSite,
    chosen_providers,
    load_code,
    open_provider,
)
from autotune.errors import ProviderError
from autotune.spec.device import Target

BOTH = ("sglang", "vllm")
SITE = ProviderSite("cpu", Target("cuda", 90))


def _with_metadata(root: Path, engine: str, version: str) -> None:
    folder = root / f"{engine}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {engine}\nVersion: {version}\n")


def test_each_engines_own_where_it_is_installed_and_a_gpu_is_there(
    install: Callable[..., Path],
) -> None:
    assert chosen_providers(AUTO, BOTH, on_gpu=True) == dict.fromkeys(BOTH, OURS)
    _with_metadata(install("vllm", "0.33.0"), "vllm", "0.33.0")
    assert chosen_providers(AUTO, BOTH, on_gpu=True) == {"sglang": OURS, "vllm": "vllm"}
    assert chosen_providers(AUTO, BOTH, on_gpu=False) == dict.fromkeys(BOTH, OURS)
    assert "vllm" not in sys.modules


def test_one_that_was_asked_for_is_taken_for_all() -> None:
    assert chosen_providers("vllm", ("vllm",), on_gpu=True) == {"vllm": "vllm"}
    assert chosen_providers(OURS, BOTH, on_gpu=True) == dict.fromkeys(BOTH, OURS)


def test_whatever_an_engines_code_raises_is_its_reason(install: Callable[..., Path]) -> None:
    root = install("vllm", "0.33.0")
    (root / "vllm/config.py").write_text("raise TypeError('unhashable\\nand more')\n")
    with pytest.raises(ProviderError, match="TypeError: unhashable"):
        open_provider("vllm", SITE)


def test_its_code_can_be_loaded_without_opening_it(install: Callable[..., Path]) -> None:
    install("sglang", "0.5.23")
    load_code("sglang")
    import sglang

    assert sglang.STATE == []


def test_an_unknown_one_is_an_error() -> None:
    with pytest.raises(ProviderError, match="allowed are autotune, sglang, vllm"):
        open_provider("triton", SITE)
