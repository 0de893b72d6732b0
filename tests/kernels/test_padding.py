"""The statistics of padding against the alignment kernel's real output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from autotune.kernels.align import Alignment, align
from autotune.report import routing_stats
from autotune.report.routing_stats import BLOCKS
from autotune.routing.draw import most_loaded_rank, topk_ids
from autotune.routing.trace import LayerRows, RoutingTrace
from autotune.spec.problem import Problem, padded_slots

EXPERTS, TOP_K, INSTANCES = 8, 2, 2


def _recording() -> RoutingTrace:
    """The lower an expert's id, the more popular."""
    gates = -0.4 * np.arange(EXPERTS) + np.random.default_rng(0).gumbel(size=(300, EXPERTS))
    ids = np.argsort(-gates, axis=1)[:, :TOP_K].astype(np.int32)
    return RoutingTrace({1: LayerRows(ids, (np.arange(300) // 50).astype(np.int32))}, "test")


def _rows(ids: torch.Tensor, problem: Problem, block: int) -> int:
    """Rows after padding, as the kernel counts them."""
    size = padded_slots(problem, block)
    counts = (size, size // block, 1, problem.experts)
    out = Alignment(*(torch.empty(n, dtype=torch.int32, device=ids.device) for n in counts))
    align(ids, block, out)
    return int(out.num_tokens_post_padded)


@pytest.mark.parametrize("ep_size", [1, 2])
def test_padding_is_what_the_alignment_kernel_does(
    ep_size: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing_stats, "_INSTANCES", INSTANCES)
    _, paddings = routing_stats.routing_stats(_recording(), EXPERTS, TOP_K, ep_size, [70])
    for padding in paddings:
        problem = Problem(EXPERTS // ep_size, TOP_K, 16, 16, padding.tokens, ep_size=ep_size)
        problem = replace(problem, routing=padding.routing)
        problem = replace(problem, ep_rank=most_loaded_rank(problem))
        tables = [torch.from_numpy(topk_ids(problem, i)).to(device) for i in range(INSTANCES)]
        before = sum(int((ids >= 0).sum()) for ids in tables)
        for block, factor in zip(BLOCKS, padding.factors, strict=True):
            after = sum(_rows(ids, problem, block) for ids in tables)
            assert factor == pytest.approx(after / before)
