"""Providers are implementations of one MoE layer: ours, the engines', PyTorch's.

    base.py     Provider, ProviderLayer and what a provider can declare
    ours.py     our kernels, which can also compile ahead and run pairs
    sglang.py   SGLang's fused MoE
    vllm.py     vLLM's fused MoE
    engine.py   checks of an installed engine, and our tensors in the layouts that both take
    pytorch.py  PyTorch's ways: a loop, grouped products, torch.compile

Importing this package imports neither torch nor an engine; opening a provider does, and happens
in a child process.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from autotune.backends.gpu.providers.base import Provider, ProviderLayer, ProviderSite
from autotune.errors import ProviderError

__all__ = ["PROVIDERS", "TUNABLE", "Provider", "ProviderLayer", "ProviderSite", "open_provider"]


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """Facts about a provider that are known before it is opened."""

    class_path: str
    """Module in this package, and class, that implement it."""
    takes_configs: bool = False
    """True if a config can be handed to its launch: it can be tuned."""
    compiles_ahead: bool = False
    """True if other processes can compile for it, ahead of the GPU; see ``BinaryCompiler``."""
    changes_process: bool = False
    """True if importing it changes the process, so that it needs one of its own."""


PROVIDERS = {
    "autotune": ProviderEntry("ours.Ours", takes_configs=True, compiles_ahead=True),
    "sglang": ProviderEntry("sglang.SGLangMoe", takes_configs=True, changes_process=True),
    "vllm": ProviderEntry("vllm.VllmMoe", takes_configs=True, changes_process=True),
    "torch": ProviderEntry("pytorch.TorchLoop"),
    "torch-grouped": ProviderEntry("pytorch.TorchGrouped"),
    "torch-compile": ProviderEntry("pytorch.TorchCompile"),
}
"""Providers by name."""

TUNABLE = tuple(name for name, entry in PROVIDERS.items() if entry.takes_configs)
"""Names of the providers that can be tuned."""


def open_provider(name: str, site: ProviderSite) -> Provider:
    """Open the provider of this name. Raises MissingProvider where it is not installed,
    ProviderError for an unknown name or a version that cannot be used."""
    if name not in PROVIDERS:
        raise ProviderError(f"no provider {name!r}: allowed are {', '.join(PROVIDERS)}")
    module, _, class_name = PROVIDERS[name].class_path.partition(".")
    provider: Provider = getattr(import_module(f"{__name__}.{module}"), class_name)(site)
    return provider
