"""Our own kernels as a provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

import autotune
from autotune.backends.binaries import Binaries, gemm_binaries
from autotune.backends.compile_cache import BinaryCompiler
from autotune.backends.gpu.providers.base import Halves, Provider, ProviderLayer, ProviderSite
from autotune.errors import ProviderError
from autotune.kernels.inputs import MoeInputs
from autotune.kernels.moe import MoeBuffers, make_buffers, run_down, run_moe, run_up
from autotune.kernels.verify import Verdict, verify
from autotune.spec.binary import BOTH, Which
from autotune.spec.config import AnyConfig, pair_of
from autotune.spec.limits import why_no_dtype
from autotune.spec.measurement import CompileResult
from autotune.spec.problem import Problem


@dataclass(frozen=True, slots=True)
class _OurLayer(ProviderLayer):
    buffers: MoeBuffers
    compiler: BinaryCompiler | None

    def compile(self, config: AnyConfig | None) -> Mapping[Which, CompileResult]:
        if self.compiler is None:
            return {}
        problem, pair = self.inputs.problem, pair_of(_given(config))
        return {w: self.compiler.answer(problem, getattr(pair, w), w) for w in BOTH}

    def binaries(self, config: AnyConfig | None) -> Binaries:
        return gemm_binaries(self.inputs.problem, _given(config))

    def run(self, config: AnyConfig | None) -> Tensor:
        return run_moe(self.inputs, self.buffers, _given(config))

    def verify(self, config: AnyConfig | None, reference: Tensor) -> Verdict:
        """See ``ProviderLayer``; runs into poisoned buffers."""
        return verify(self.inputs, self.buffers, _given(config), reference)

    def halves(self, config: AnyConfig | None) -> Halves:
        inputs, buffers, pair = self.inputs, self.buffers, pair_of(_given(config))

        def feed() -> None:
            run_moe(inputs, buffers, pair)

        feed()  # another config's alignment may lie in the buffers, for other tiles
        return Halves(
            feed,
            up=partial(run_up, inputs, buffers, pair.up),
            down=partial(run_down, inputs, buffers, pair.down),
        )


class Ours(Provider):
    """Our kernels. In Triton's interpreter they run on the CPU too, in tests alone."""

    name = "autotune"
    version = f"autotune {autotune.__version__}"
    does = "alignment, both GEMMs, activation, sum; activations come quantised"
    takes_pairs = True

    def __init__(self, site: ProviderSite, *, is_interpreted: bool = False) -> None:
        super().__init__(site)
        self._is_interpreted = is_interpreted
        folder = site.cache_dir
        self._compiler = BinaryCompiler(folder, site.target) if folder is not None else None

    @property
    def method_prefix(self) -> str:
        """Nothing: the revision in a device's method is that of our kernels."""
        return ""

    def why_not(self, problem: Problem) -> str | None:
        if not self.site.is_gpu and not self._is_interpreted:
            return "Triton kernels need a GPU"
        return why_no_dtype(problem.dtype, self.site.target)

    def prepare(self, inputs: MoeInputs) -> _OurLayer:
        return _OurLayer(inputs, make_buffers(inputs), self._compiler)


def _given(config: AnyConfig | None) -> AnyConfig:
    if config is None:
        raise ProviderError("our kernels choose no config for themselves; give one")
    return config
