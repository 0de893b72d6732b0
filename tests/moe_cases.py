"""Small problems, routings and comparisons that the kernel tests share."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from autotune.kernels import moe
from autotune.kernels.inputs import MoeInputs, make_inputs, make_weights
from autotune.kernels.quantize import StorageDtypes, quantize, round_to, row_tile
from autotune.kernels.reference import activation_reference
from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.problem import Dtype, Problem

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


def why_broken(dtype: Dtype, device: str) -> str | None:
    """Why kernels of a dtype cannot be tested where they are interpreted; None where they can."""
    if device == "cpu" and dtype is Dtype.BF16:
        return "the interpreter computes bf16 dots wrongly (Triton 3.9); fp16 runs the same code"
    return None


def skip_where_broken(dtype: Dtype, device: str) -> None:
    if reason := why_broken(dtype, device):
        pytest.skip(reason)


def patch_what_the_interpreter_breaks(
    dtype: Dtype, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fp32 → fp8 cast loses carries (Triton 3.9): there the activation runs eagerly."""
    if device == "cpu" and dtype is Dtype.FP8_W8A8:
        monkeypatch.setattr(moe, "run_activation", eager_activation)


def eager_activation(
    inputs: MoeInputs, buffers: moe.MoeBuffers, block_size_m: int, *, sorts: bool
) -> None:
    """``moe.run_activation`` without a kernel; rows that nobody computed become garbage."""
    problem, rows, up = inputs.problem, buffers.rows, buffers.up
    if sorts:
        up = up[buffers.alignment.sorted_token_ids.clamp(0, len(up) - 1).long()]
    real = activation_reference(up, gated=problem.gated).to(inputs.elements.c).float()
    values = rows.values[: len(real)]
    if rows.is_scale_given:
        values.copy_(round_to(real / rows.scale, values.dtype, rows.largest))
        return
    tile = row_tile(problem, *real.shape)
    rounded, scale = quantize(real, tile, values.dtype, rows.largest, cuts=rows.cuts)
    values.copy_(rounded)
    rows.scale[: len(real)].copy_(scale)


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
    return replace(inputs, elements=StorageDtypes(a, elements.b, torch.float16), x=x.to(a))
