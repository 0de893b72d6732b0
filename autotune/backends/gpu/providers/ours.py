"""Our own kernels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import autotune
from autotune.backends.gpu.providers.protocol import Place
from autotune.errors import ProviderError
from autotune.kernels.inputs import MoeInputs, RoutingTensors
from autotune.kernels.moe import MoeBuffers, make_buffers, run_moe
from autotune.spec.config import AnyConfig
from autotune.spec.limits import why_no_dtype
from autotune.spec.problem import Problem


@dataclass(frozen=True, slots=True)
class _OurLayer:
    inputs: MoeInputs
    buffers: MoeBuffers
    is_capturable: bool = True

    def route(self, routing: RoutingTensors) -> None:
        self.inputs.set_routing(routing)

    def run(self, config: AnyConfig | None) -> Tensor:
        if config is None:
            raise ProviderError("our kernels choose no config for themselves; give one")
        return run_moe(self.inputs, self.buffers, config)


class Ours:
    """Implements Provider. In Triton's interpreter it runs on the CPU too, in tests alone."""

    name = "autotune"
    version = f"autotune {autotune.__version__}"
    does = "alignment, both GEMMs, activation, sum; activations come quantised"

    def __init__(self, place: Place, *, is_interpreted: bool = False) -> None:
        self._place, self._is_interpreted = place, is_interpreted

    def why_not(self, problem: Problem) -> str | None:
        if not self._place.is_gpu and not self._is_interpreted:
            return "Triton kernels need a GPU"
        return why_no_dtype(problem.dtype, self._place.target)

    def prepare(self, inputs: MoeInputs) -> _OurLayer:
        return _OurLayer(inputs, make_buffers(inputs))

    def close(self) -> None:
        """Nothing was changed."""
