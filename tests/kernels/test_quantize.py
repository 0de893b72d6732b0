from __future__ import annotations

import pytest
import torch

from autotune.kernels.quantize import dequantize, pack_int4, quantize, round_to, unpack_int4


@pytest.mark.parametrize("tile", [(5, 7), (1, 7), (2, 3), (1, 2), (8, 8)])
@pytest.mark.parametrize(
    ("element", "largest"), [(torch.int8, 127.0), (torch.float8_e4m3fn, 448.0)]
)
def test_comes_back_within_half_a_step(
    tile: tuple[int, int], element: torch.dtype, largest: float
) -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    values, scale = quantize(x, tile, element, largest)
    assert values.dtype == element
    assert scale.shape == (-(-5 // tile[0]), -(-7 // tile[1]))
    step = 1 / 127 if element == torch.int8 else 1 / 8
    assert (dequantize(values, scale, tile) - x).abs().max() <= step * x.abs().max() / 2 + 1e-6


def test_the_largest_of_a_tile_takes_the_whole_range() -> None:
    values, scale = quantize(torch.tensor([[1.0, -2.0, 8.0, 4.0]]), (1, 2), torch.int8, 127.0)
    assert values.tolist() == [[64, -127, 127, 64]]
    torch.testing.assert_close(scale, torch.tensor([[2 / 127, 8 / 127]]))


def test_zeros_stay_zeros() -> None:
    values, scale = quantize(torch.zeros(2, 4), (1, 4), torch.int8, 127.0)
    assert not values.any()
    assert scale.isfinite().all()


def test_int_halves_go_away_from_zero_and_cuts_toward_it() -> None:
    values = torch.tensor([2.5, -2.5, 2.4, -2.6, 200.0, -200.0])
    assert round_to(values, torch.int8, 127.0).tolist() == [3, -3, 2, -3, 127, -127]
    assert round_to(values, torch.int8, 127.0, cuts=True).tolist() == [2, -2, 2, -2, 127, -127]


def test_int4_packs_even_k_into_the_low_half() -> None:
    values = torch.tensor([[-8, 7, 0, -1]], dtype=torch.int8)
    packed = pack_int4(values)
    assert packed.tolist() == [[0xF0, 0x78]]
    assert torch.equal(unpack_int4(packed), values)
