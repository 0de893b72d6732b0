from __future__ import annotations

import pytest
import torch
from single_references import sum_reference

from autotune.kernels.activation import Quantized, activate, activate_quantized, sum_slots
from autotune.kernels.quantize import dequantize, quantize
from autotune.kernels.reference import activation_reference


@pytest.fixture(params=[True, False], ids=["gated", "no gate"])
def gated(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def up_output(rows: int, n: int, device: str, *, gated: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(rows, 2 * n if gated else n, generator=generator).to(device)


def kept(rows: int, device: str) -> torch.Tensor:
    return torch.zeros(rows, dtype=torch.int32, device=device)


def test_the_reference_is_of_both_kinds() -> None:
    x = torch.tensor([[-2.0, 3.0, 0.5, -1.0]])
    silu = torch.nn.functional.silu(x[:, :2])
    assert activation_reference(x, gated=True).tolist() == (silu * x[:, 2:]).tolist()
    assert activation_reference(x, gated=False).tolist() == [[0, 9, 0.25, 0]]


def test_without_a_gate_nan_stays_nan(device: str) -> None:
    """A tile that the up GEMM leaves out of a poisoned buffer shows."""
    x, y = torch.full((1, 24), float("nan"), device=device), torch.empty(1, 24, device=device)
    activate(x, kept(1, device), y)
    assert y.isnan().all()


@pytest.mark.parametrize("n", [1, 40, 1300])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_agrees_with_its_reference(dtype: torch.dtype, n: int, device: str, gated: bool) -> None:
    x = up_output(3, n, device, gated=gated).to(dtype)
    y = torch.empty(3, n, dtype=dtype, device=device)
    activate(x, kept(3, device), y)
    reference = activation_reference(x, gated=gated).to(dtype)
    torch.testing.assert_close(y, reference, rtol=2e-3, atol=1e-5)


def test_dropped_rows_are_left_alone(device: str, gated: bool) -> None:
    x, ids = up_output(4, 24, device, gated=gated), kept(4, device)
    ids[2] = -1
    y = torch.full((4, 24), float("nan"), device=device)
    activate(x, ids, y)
    assert y[2].isnan().all()
    assert not y[[0, 1, 3]].isnan().any()


@pytest.mark.parametrize(("group", "cuts"), [(16, True), (32, True), (32, False), (80, False)])
def test_int8_scales_belong_to_groups_of_a_row(
    group: int, cuts: bool, device: str, gated: bool
) -> None:
    rows, n = 3, 80
    x = up_output(rows, n, device, gated=gated)
    scale = torch.empty(rows, -(-n // group), device=device)
    values = torch.empty(rows, n, dtype=torch.int8, device=device)
    out = Quantized(values, scale, group, 127.0, cuts)
    activate_quantized(x, kept(rows, device), out)
    real = activation_reference(x, gated=gated)
    values, scales = quantize(real, (1, group), torch.int8, 127.0, cuts=cuts)
    torch.testing.assert_close(out.scale, scales, rtol=1e-4, atol=0)
    # A sum in another order may tip a value that lies halfway.
    assert (out.values.int() - values.int()).abs().max() <= 1
    assert (out.values == values).float().mean() > 0.98


def test_a_given_scale_is_read(device: str, gated: bool) -> None:
    x = up_output(3, 40, device, gated=gated)
    scale = torch.full((1,), 0.05, device=device)
    out = Quantized(torch.empty(3, 40, dtype=torch.int8, device=device), scale, 40, 127.0)
    activate_quantized(x, kept(3, device), out)
    real = dequantize(out.values, scale[None], (3, 40))
    clamped = activation_reference(x, gated=gated).clamp(-127 * 0.05, 127 * 0.05)
    assert (real - clamped).abs().max() <= 0.0251


@pytest.mark.gpu
def test_fp8_scales_belong_to_groups_of_a_row(device: str, gated: bool) -> None:
    x = up_output(3, 256, device, gated=gated).to(torch.bfloat16)
    values = torch.empty(3, 256, dtype=torch.float8_e4m3fn, device=device)
    out = Quantized(values, torch.empty(3, 2, device=device), 128, 448.0)
    activate_quantized(x, kept(3, device), out)
    real = dequantize(out.values, out.scale, (1, 128))
    reference = activation_reference(x, gated=gated)
    assert (real - reference).abs().max() / reference.abs().max() < 0.04


@pytest.mark.parametrize(("top_k", "hidden"), [(1, 16), (3, 72), (8, 1100)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_sum_agrees_with_its_reference(
    dtype: torch.dtype, top_k: int, hidden: int, device: str
) -> None:
    x = torch.randn(4, top_k, hidden, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    ids = torch.zeros(4, top_k, dtype=torch.int32, device=device)
    y = torch.empty(4, hidden, dtype=dtype, device=device)
    sum_slots(x, ids, y)
    torch.testing.assert_close(y, sum_reference(x, ids).to(dtype), rtol=2e-3, atol=1e-5)


def test_dropped_slots_do_not_count_even_where_they_hold_nan(device: str) -> None:
    x = torch.ones(3, 2, 40, device=device)
    ids = torch.tensor([[0, 1], [2, -1], [-1, -1]], dtype=torch.int32, device=device)
    x[ids < 0] = float("nan")
    y = torch.empty(3, 40, device=device)
    sum_slots(x, ids, y)
    assert y.mean(dim=1).tolist() == [2, 1, 0]
