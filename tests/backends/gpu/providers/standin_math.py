"""What the engines' fused MoE computes, from its arguments as the engines lay them out.

Written apart from our kernels and reference, so that an argument of ours that means something else
to an engine shows as a wrong value.
"""

from __future__ import annotations

import torch
from torch import Tensor


def moe(
    x: Tensor,
    w1: Tensor,
    w2: Tensor,
    topk_weights: Tensor,
    topk_ids: Tensor,
    *,
    activation: str,
    dtype: str | None,
    per_channel: bool,
    scales: tuple[Tensor | None, Tensor | None],
    zeros: tuple[Tensor | None, Tensor | None],
    row_scales: tuple[Tensor | None, Tensor | None],
    block: list[int] | None,
) -> Tensor:
    """x [M, H]; ids below 0 are dropped; ``dtype`` is fp8_w8a8, int8_w8a8, … or None;
    ``activation`` is silu (with a gate) or relu2 (without)."""
    assert topk_ids.dtype == torch.int32
    assert x.is_contiguous()
    assert w1.is_contiguous()
    assert w2.is_contiguous()
    rows = _as_quantised(x, dtype, per_channel, row_scales[0], block)
    out = torch.zeros(x.shape)
    for token in range(len(x)):
        for weight, expert in zip(topk_weights[token], topk_ids[token].tolist(), strict=True):
            if expert < 0:
                continue
            up = (
                _real(w1, scales[0], zeros[0], expert=expert, dtype=dtype, block=block)
                @ rows[token]
            )
            row = _activated(up.to(x.dtype).float(), activation).to(x.dtype)[None]
            assert row.shape[1] == w2.shape[2] * (2 if dtype == "int4_w4a16" else 1)
            row = _as_quantised(row, dtype, per_channel, row_scales[1], block)[0]
            down = _real(w2, scales[1], zeros[1], expert=expert, dtype=dtype, block=block) @ row
            out[token] += (down * weight).to(x.dtype).float()
    return out.to(x.dtype)


def _activated(up: Tensor, activation: str) -> Tensor:
    if activation == "relu2":
        return torch.where(up > 0, up * up, 0)
    assert activation == "silu", activation
    gate, value = up.chunk(2)
    return torch.nn.functional.silu(gate) * value


def check_keys(config: dict[str, object] | None, allowed: set[str], needed: set[str]) -> None:
    """What a launch does with a key that its kernel does not have, or lacks."""
    if config is None:
        return
    if set(config) - allowed or needed - set(config):
        raise TypeError(f"got {sorted(config)}, allowed {sorted(allowed)}, needed {sorted(needed)}")


def _as_quantised(
    rows: Tensor,
    dtype: str | None,
    per_channel: bool,
    given: Tensor | None,
    block: list[int] | None,
) -> Tensor:
    if dtype not in ("fp8_w8a8", "int8_w8a8"):
        return rows.float()
    most = 448.0 if dtype == "fp8_w8a8" else 127.0
    width = block[1] if block else rows.shape[1]
    groups = rows.float().split(width, dim=1)
    if given is not None:
        assert given.numel() == 1
        assert not per_channel
        steps = [given.reshape(1, 1).expand(len(rows), 1)] * len(groups)
    else:
        assert per_channel or block, "dynamic scales of a whole tensor"
        steps = [group.abs().amax(dim=1, keepdim=True) / most for group in groups]
    rounded = (
        _rounded(group / step, dtype, most) * step
        for group, step in zip(groups, steps, strict=True)
    )
    return torch.cat(list(rounded), dim=1)


def _rounded(values: Tensor, dtype: str, most: float) -> Tensor:
    values = values.clamp(-most, most)
    return values.to(torch.float8_e4m3fn).float() if dtype == "fp8_w8a8" else values.round()


def _real(
    w: Tensor,
    scale: Tensor | None,
    zero: Tensor | None,
    *,
    expert: int,
    dtype: str | None,
    block: list[int] | None,
) -> Tensor:
    values = w[expert]
    if dtype is None:
        assert scale is None
        return values.float()
    assert scale is not None
    if dtype in ("int4_w4a16", "int8_w8a16") and block:
        return _real_groups(
            values, scale[expert], None if zero is None else zero[expert], dtype, block[1]
        )
    s = scale[expert].float()
    if block:
        return values.float() * _repeat(_repeat(s, 0, block[0]), 1, block[1])[: len(values)]
    return values.float() * (s.reshape(-1, 1) if s.numel() > 1 else s.reshape(()))


def _real_groups(
    values: Tensor, scale: Tensor, zero: Tensor | None, dtype: str, group: int
) -> Tensor:
    assert values.dtype == torch.uint8
    centre = 8 if dtype == "int4_w4a16" else 128
    steps = values.int()
    if dtype == "int4_w4a16":
        steps = torch.stack((steps & 15, steps >> 4), dim=-1).flatten(1)
    zeros = torch.full(scale.shape, float(centre))
    if zero is not None:
        packed = zero.int()
        if dtype == "int4_w4a16":  # even columns in the low half
            packed = torch.stack((packed & 15, packed >> 4), dim=1).flatten(0, 1)
        zeros = packed[: len(scale)].float()
    return (steps - _repeat(zeros, 1, group)) * _repeat(scale.float(), 1, group)


def _repeat(values: Tensor, dim: int, count: int) -> Tensor:
    return values.repeat_interleave(count, dim)
