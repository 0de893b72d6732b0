"""The seam to an implementation of the MoE layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from autotune.spec.config import AnyConfig
from autotune.spec.device import Target
from autotune.spec.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from autotune.kernels.inputs import MoeInputs, RoutingTensors


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer runs: PyTorch's name of the device, and what Triton would compile for."""

    name: str
    target: Target

    @property
    def is_gpu(self) -> bool:
        return self.name.startswith("cuda")


class Layer(Protocol):
    """One problem's layer, ready to be called again and again on the same tensors."""

    @property
    def is_capturable(self) -> bool:
        """Whether a call launches the same work each time without waiting for the device, so
        that a CUDA graph can hold it."""

    def route(self, routing: RoutingTensors) -> None:
        """Another routing instance, in stream order; not part of the timed call."""

    def run(self, config: AnyConfig | None) -> Tensor:
        """The output [M, H]. ``config`` None: what the implementation chooses for itself."""


class Provider(Protocol):
    """An implementation of the layer. Lives in a child process that may be killed.

    Implementations: ``autotune`` (our kernels), ``sglang`` and ``vllm`` (their fused MoE, where
    installed), ``torch`` (a loop over experts), ``torch-grouped`` (grouped matrix products) and
    ``torch-compile``. Constructing one imports what it needs.
    """

    @property
    def name(self) -> str:
        """As in ``--provider`` and in ``PROVIDERS``."""

    @property
    def version(self) -> str:
        """Of what computes: "sglang 0.5.23"."""

    @property
    def does(self) -> str:
        """What one timed call does, in a sentence: implementations differ at the edges."""

    def why_not(self, problem: Problem) -> str | None:
        """Why it cannot compute the problem here, in words; None where it can."""

    def prepare(self, inputs: MoeInputs) -> Layer:
        """The layer on these inputs, whose tensors it may keep, but never change."""

    def close(self) -> None:
        """Undo what opening did to the process. Called once."""
