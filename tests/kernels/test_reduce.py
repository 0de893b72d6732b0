from __future__ import annotations

import pytest
import torch
from single_references import sum_reference

from autotune.kernels.reduce import sum_slots


@pytest.mark.parametrize(("top_k", "hidden"), [(1, 16), (3, 72), (8, 1100)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_agrees_with_its_reference(
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
