"""A provider computes one MoE layer: the seam between the measurer and whoever's kernels.

A provider declares here what it can do beyond that, so that the measurer never has to guess.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from autotune.backends.binaries import Binaries
from autotune.errors import ProviderError
from autotune.spec.binary import Which
from autotune.spec.config import AnyConfig
from autotune.spec.device import Target
from autotune.spec.measurement import CompileResult
from autotune.spec.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from autotune.kernels.inputs import MoeInputs, RoutingTensors
    from autotune.kernels.verify import Verdict


@dataclass(frozen=True, slots=True)
class ProviderSite:
    """The place where layers run: PyTorch's name of the device, and Triton's target."""

    name: str
    target: Target
    cache_dir: Path | None = None
    """Folder of compile answers; None where none are kept."""

    @property
    def is_gpu(self) -> bool:
        """True if the device is a GPU."""
        return self.name.startswith("cuda")


@dataclass(frozen=True, slots=True)
class Halves:
    """Calls of a layer's GEMMs alone, on memory that stays where it is."""

    feed: Callable[[], None]
    """Runs the layer, and leaves to the GEMMs what it gives them under the routing that is set."""
    up: Callable[[], None]
    down: Callable[[], None]


@dataclass(frozen=True, slots=True)
class ProviderLayer(ABC):
    """One problem's layer, ready to be called again and again on the same tensors."""

    inputs: MoeInputs
    """Tensors that the layer may keep, but never change."""
    is_capturable: bool = field(default=True, kw_only=True)
    """True if each call launches the same work without waiting for the device, so that a CUDA
    graph can hold it."""

    def route(self, routing: RoutingTensors) -> None:
        """Set another routing instance, in stream order; no part of the timed call."""
        self.inputs.set_routing(routing)

    @abstractmethod
    def run(self, config: AnyConfig | None) -> Tensor:
        """Return the output [M, H]. ``config`` None: the provider chooses for itself."""

    def verify(self, config: AnyConfig | None, reference: Tensor) -> Verdict:
        """Run one call and compare its output; waits for the device."""
        from autotune.kernels.verify import TOLERANCE, Verdict, relative_error

        error = relative_error(self.run(config), reference)
        return Verdict(error, TOLERANCE[self.inputs.problem.dtype])

    def compile(self, config: AnyConfig | None) -> Mapping[Which, CompileResult]:
        """Have what ``run`` launches in this process's memory, and return what each GEMM takes, or
        why it cannot be compiled; nothing where the first ``run`` compiles. ValueError says, in
        the provider's own words, why it cannot be called with such a config."""
        return {}

    def binaries(self, config: AnyConfig | None) -> Binaries:
        """Return the compiles that other processes can do for ``run``; see ``compile_binary``."""
        return {}

    def own_config(self) -> AnyConfig | None:
        """Return what ``run(None)`` launches; None where that is no config."""
        return None

    def halves(self, config: AnyConfig | None) -> Halves:
        """Run the layer, and return calls of its GEMMs alone, which have been fed. Asked of
        providers that take pairs; ``config`` as ``run`` takes it."""
        raise ProviderError(f"one config launches both GEMMs here, not a pair: {config}")


class Provider(ABC):
    """An implementation of the layer. Lives in a child process that may be killed.

    Implementations: ``autotune`` (our kernels), ``sglang`` and ``vllm`` (their fused MoE, where
    installed), ``torch`` (a loop over experts), ``torch-grouped`` (grouped matrix products) and
    ``torch-compile``. Constructing one imports what it needs.
    """

    name: ClassVar[str]
    """Name of the provider in ``--provider`` and in ``PROVIDERS``."""
    does: ClassVar[str]
    """A sentence about one timed call: implementations differ at the edges."""
    version: str
    """Name and version of what computes: "sglang 0.5.23"."""
    takes_pairs: bool = False
    """True if a layer runs a pair of configs, and can call its halves: then those are what is timed
    of separate kernels."""

    def __init__(self, site: ProviderSite) -> None:
        self.site = site
        self.undo = ExitStack()
        """Undoes what opening the provider, or preparing a layer, does to the process."""

    @classmethod
    def load_code(cls) -> object:
        """Import the code whose kernels are launched, without a GPU, for processes that compile.
        Raises as constructing does."""
        return None

    @property
    def method_prefix(self) -> str:
        """Words before the device's method, so that studies of unlike kernels never mix."""
        return f"{self.version}: "

    @abstractmethod
    def why_not(self, problem: Problem) -> str | None:
        """Return why it cannot compute the problem here, in words; None where it can."""

    @abstractmethod
    def prepare(self, inputs: MoeInputs) -> ProviderLayer:
        """Return the layer on these inputs."""

    def close(self) -> None:
        """Undo what was done to the process. A second call does nothing."""
        self.undo.close()
