"""PyTorch's own ways to compute the layer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from autotune.backends.gpu.providers.base import Provider, ProviderLayer
from autotune.backends.gpu.providers.torch_layers import (
    gathered_bytes,
    gathered_layer,
    grouped_layer,
    loop_layer,
    real_weights,
    real_x,
    why_no_grouped_product,
)
from autotune.kernels.inputs import MoeInputs
from autotune.spec.config import AnyConfig
from autotune.spec.problem import Dtype, Problem

_QUANTISED_ACTIVATIONS = (Dtype.FP8_W8A8, Dtype.INT8_W8A8)
_MOST_GATHERED_BYTES = 4 << 30
"""``gathered_layer`` reads and writes as much: beyond, it is no way to compute a layer."""
_CC = ("cc", "gcc", "clang", "g++", "c++")


@dataclass(frozen=True, slots=True)
class _TorchLayer(ProviderLayer):
    """``call`` reads the inputs' routing anew each time."""

    call: Callable[[], Tensor]

    def run(self, config: AnyConfig | None) -> Tensor:
        return self.call()


class TorchLoop(Provider):
    """A loop over experts: every dtype, everywhere."""

    name = "torch"
    version = f"torch {torch.__version__}"
    does = "a loop over experts; what is quantised becomes real in the call, products are of bf16"

    def why_not(self, problem: Problem) -> str | None:
        return None

    def prepare(self, inputs: MoeInputs) -> _TorchLayer:
        x = real_x(inputs)
        return _TorchLayer(inputs, lambda: loop_layer(inputs, x), is_capturable=False)


class TorchGrouped(Provider):
    """Grouped matrix products: ``torch.nn.functional.grouped_mm``."""

    name = "torch-grouped"
    version = f"torch {torch.__version__}"
    does = "sort by expert, two grouped matrix products, activation, sum"

    def why_not(self, problem: Problem) -> str | None:
        if problem.dtype.is_quantized:
            return f"grouped matrix products of {problem.dtype.value} are not in PyTorch"
        return _why_not_grouped(problem, only_bf16=self.site.is_gpu)

    def prepare(self, inputs: MoeInputs) -> _TorchLayer:
        return _TorchLayer(inputs, _caller(grouped_layer, inputs))


class TorchCompile(Provider):
    """Grouped matrix products through ``torch.compile``, or where there are
    none a copy of each slot's weights, as the engines' script has it."""

    name = "torch-compile"
    version = f"torch {torch.__version__}"
    does = "torch.compile of the sorted and grouped layer; integer weights become real in the call"

    def why_not(self, problem: Problem) -> str | None:
        if problem.dtype in _QUANTISED_ACTIVATIONS:
            return (
                f"torch.compile has no expert layer of {problem.dtype.value}: PyTorch multiplies "
                "two quantised operands group by group in no way that it compiles"
            )
        if not self.site.is_gpu and not any(map(shutil.which, _CC)):
            return "torch.compile needs a C++ compiler on the CPU; none is on the path"
        copied = gathered_bytes(problem)
        if _why_not_grouped(problem) and copied > _MOST_GATHERED_BYTES:
            return (
                f"a copy of each slot's weights takes {copied / 2**30:.0f} GiB, and there is no "
                f"grouped matrix product of {problem.dtype.value} here"
            )
        return None

    def prepare(self, inputs: MoeInputs) -> _TorchLayer:
        self.undo.callback(torch._dynamo.reset)
        torch._dynamo.reset()  # its limit of recompilations would fall back to eager, in silence
        grouped = _why_not_grouped(inputs.problem) is None
        call = _caller(grouped_layer if grouped else gathered_layer, inputs)
        return _TorchLayer(inputs, torch.compile(call, dynamic=False))


def _caller(layer: Callable[..., Tensor], inputs: MoeInputs) -> Callable[[], Tensor]:
    x = real_x(inputs)

    def call() -> Tensor:
        w1, w2 = real_weights(inputs)
        return layer(x, w1, w2, inputs.topk_ids, inputs.topk_weights)

    return call


def _why_not_grouped(problem: Problem, *, only_bf16: bool = True) -> str | None:
    """PyTorch has a kernel of it, and traces it, for bf16 alone; eager on the CPU takes more."""
    if only_bf16 and problem.dtype in (Dtype.FP16, Dtype.FP32):
        return f"PyTorch's grouped matrix product is of bf16, not {problem.dtype.value}"
    return why_no_grouped_product()
