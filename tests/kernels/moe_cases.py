"""Small problems, routings and comparisons that the kernel tests share."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from autotune.kernels.config import Config
from autotune.kernels.device import Target
from autotune.kernels.elements import Elements
from autotune.kernels.inputs import MoeInputs, make_inputs, make_weights
from autotune.kernels.problem import Dtype, Problem

H200 = Target("cuda", 90)
TILES = Config(16, 32, 32, 2)


def problem_of(dtype: Dtype = Dtype.FP16, **changes: object) -> Problem:
    """No size is a multiple of a tile of TILES."""
    sizes = {"experts": 4, "top_k": 2, "hidden": 72, "intermediate": 40, "tokens": 9}
    return Problem(**{**sizes, "dtype": dtype, **changes})


def inputs_of(problem: Problem, device: str) -> MoeInputs:
    """Inputs whose C type the interpreter can handle."""
    inputs = make_inputs(problem, make_weights(problem, H200, device), H200)
    return inputs if device == "cuda" else _without_bf16(inputs)


def skip_where_broken(dtype: Dtype, device: str) -> None:
    """The interpreter's bf16 dots are garbage, its fp32 → fp8 cast loses carries (Triton 3.9)."""
    if device == "cpu" and dtype in (Dtype.BF16, Dtype.FP8_W8A8):
        pytest.skip(f"the interpreter computes {dtype.value} wrongly")


def uneven_ids(tokens: int, top_k: int, experts: int, device: str) -> torch.Tensor:
    """Expert 0 in every first choice, expert 1 in none, the rest spread."""
    others = [expert for expert in range(experts) if expert > 1] or [0]
    rows = [[0, *(others[(t + k) % len(others)] for k in range(top_k - 1))] for t in range(tokens)]
    return torch.tensor(rows, dtype=torch.int32, device=device)


def _without_bf16(inputs: MoeInputs) -> MoeInputs:
    elements, x = inputs.elements, inputs.x
    if inputs.problem.dtype is Dtype.BF16 or elements.c != torch.bfloat16:
        return inputs
    a = elements.a if elements.quantizes_activations else torch.float16
    return replace(inputs, elements=Elements(a, elements.b, torch.float16), x=x.to(a))
