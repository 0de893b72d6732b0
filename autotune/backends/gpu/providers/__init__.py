"""Implementations of one MoE layer, side by side: ours, the engines', PyTorch's.

Importing this package imports neither torch nor an engine; opening a provider does, and happens
in a child process.
"""

from __future__ import annotations

from importlib import import_module

from autotune.backends.gpu.providers.protocol import Layer, Place, Provider
from autotune.errors import ProviderError

__all__ = ["PROVIDERS", "TUNABLE", "Layer", "Place", "Provider", "open_provider"]

PROVIDERS = {
    "autotune": ("autotune.backends.gpu.providers.ours", "Ours"),
    "sglang": ("autotune.backends.gpu.providers.sglang", "SGLangMoe"),
    "vllm": ("autotune.backends.gpu.providers.vllm", "VllmMoe"),
    "torch": ("autotune.backends.gpu.providers.pytorch", "TorchLoop"),
    "torch-grouped": ("autotune.backends.gpu.providers.pytorch", "TorchGrouped"),
    "torch-compile": ("autotune.backends.gpu.providers.pytorch", "TorchCompile"),
}
"""Name → the module and class that implements ``Provider``."""

TUNABLE = ("autotune", "sglang", "vllm")
"""Those that take a launch config."""


def open_provider(name: str, place: Place) -> Provider:
    """The provider of this name. Raises MissingProvider where it is not installed, ProviderError
    for an unknown name or a version that cannot be used."""
    if name not in PROVIDERS:
        raise ProviderError(f"no provider {name!r}: allowed are {', '.join(PROVIDERS)}")
    module, class_name = PROVIDERS[name]
    provider: Provider = getattr(import_module(module), class_name)(place)
    return provider
