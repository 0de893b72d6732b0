"""Providers are implementations of one MoE layer: ours, the engines', PyTorch's.

    base.py     Provider, ProviderLayer and what a provider can declare
    ours.py     our kernels, which can also compile ahead and run pairs
    sglang.py   SGLang's fused MoE
    sglang_builds.py  what SGLang has built at its first call, built ahead
    vllm.py     vLLM's fused MoE
    engine.py   checks of an installed engine, and our tensors in the layouts that both take
    pytorch.py  PyTorch's ways: a loop, grouped products, torch.compile

Importing this package imports neither torch nor an engine; opening a provider does, and happens
in a child process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

from autotune.backends.gpu.providers.base import Provider, ProviderLayer, ProviderSite
from autotune.errors import AutotuneError, ProviderError
from autotune.spec.problem import Problem

__all__ = [
    "AUTO",
    "OURS",
    "PROVIDERS",
    "TUNABLE",
    "Provider",
    "ProviderLayer",
    "ProviderSite",
    "build_ahead",
    "chosen_providers",
    "load_code",
    "open_provider",
]


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """Facts about a provider that are known before it is opened."""

    class_path: str
    """Module in this package, and class, that implement it."""
    takes_configs: bool = False
    """True if a config can be handed to its launch: it can be tuned."""
    compiles_ahead: bool = False
    """True if other processes can compile for it, ahead of the GPU; see ``compile_binary``."""
    changes_process: bool = False
    """True if importing it changes the process, so that it needs one of its own."""
    engine: str = ""
    """Name of the engine that serves by this kernel."""
    builder: str = ""
    """Module in this package that builds ahead what its first call would build."""


_ENGINE: dict[str, Any] = {"takes_configs": True, "compiles_ahead": True, "changes_process": True}

OURS, AUTO = "autotune", "auto"
"""The provider of our kernels, and the word for each engine's own where it is installed."""

PROVIDERS = {
    OURS: ProviderEntry("ours.Ours", takes_configs=True, compiles_ahead=True),
    "sglang": ProviderEntry(
        "sglang.SGLangMoe", engine="sglang", builder="sglang_builds", **_ENGINE
    ),
    "vllm": ProviderEntry("vllm.VllmMoe", engine="vllm", **_ENGINE),
    "torch": ProviderEntry("pytorch.TorchLoop"),
    "torch-grouped": ProviderEntry("pytorch.TorchGrouped"),
    "torch-compile": ProviderEntry("pytorch.TorchCompile"),
}
"""Providers by name."""

TUNABLE = tuple(name for name, entry in PROVIDERS.items() if entry.takes_configs)
"""Names of the providers that can be tuned."""


def chosen_providers(wanted: str, engines: Iterable[str], *, on_gpu: bool) -> dict[str, str]:
    """Return the provider whose kernel is measured for each engine: ``wanted``, or under AUTO the
    engine's own where it is installed and a GPU is there to launch it, else ours. Imports no
    engine; whether it can be used shows when it is opened."""
    if wanted != AUTO:
        return dict.fromkeys(engines, wanted)
    own = {entry.engine: name for name, entry in PROVIDERS.items() if entry.engine}
    return {e: own[e] if on_gpu and e in own and _is_installed(e) else OURS for e in engines}


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def open_provider(name: str, site: ProviderSite) -> Provider:
    """Open the provider of this name. Raises MissingProvider where it is not installed,
    ProviderError for an unknown name or a version that cannot be used."""
    if name not in PROVIDERS:
        raise ProviderError(f"no provider {name!r}: allowed are {', '.join(PROVIDERS)}")
    try:
        return _class_of(name)(site)
    except AutotuneError:
        raise
    except (Exception, SystemExit) as error:  # an engine's own code: whatever it raises
        raise ProviderError(
            f"{name} cannot be used: {type(error).__name__}: {error}".splitlines()[0]
        ) from error


def load_code(name: str) -> None:
    """Import the code whose kernels the provider launches. Needs no GPU; raises as
    ``open_provider`` does."""
    _class_of(name).load_code()


def build_ahead(name: str, problem: Problem) -> list[str]:
    """Build what the provider's first call for the problem would build, by whatever it calls beside
    the kernels that ``load_code`` imports, into a cache of its own. For a process of its own: what
    the provider imports may be stood in for. Returns what came of it, in words."""
    module = import_module(f"{__name__}.{PROVIDERS[name].builder}")
    built: list[str] = module.build(problem)
    return built


def _class_of(name: str) -> type[Provider]:
    module, _, class_name = PROVIDERS[name].class_path.partition(".")
    found: type[Provider] = getattr(import_module(f"{__name__}.{module}"), class_name)
    return found
