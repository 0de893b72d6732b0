"""Statistics of a recorded routing: load of experts and ranks, and the cost of padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autotune.backends.routed_rows import routed_rows
from autotune.documents.routing import LoadRow, PaddingRow
from autotune.errors import UsageError
from autotune.report.style import BLUE, GREY, ORANGE, Picture, axes_row, token_axis
from autotune.routing.draw import most_loaded_rank
from autotune.routing.trace import ExpertLoad, RoutingTrace, expert_loads, make_known
from autotune.spec.problem import Problem

BLOCKS = (16, 32, 64, 128, 256)
_INSTANCES, _SEED = 10, 0
"""The routing instances that a measurement is made of."""


@dataclass(frozen=True, slots=True)
class Padding:
    """The cost of padding at one batch size under one routing, mean over the instances; under
    expert parallelism for the most loaded rank."""

    tokens: int
    routing: str
    factors: tuple[float, ...]
    """Rows after padding over rows before, for each of BLOCKS."""


def routing_stats(
    recording: RoutingTrace, experts: int, top_k: int, ep_size: int, batch_sizes: Sequence[int]
) -> tuple[list[ExpertLoad], list[Padding]]:
    """Return the loads and the cost of padding; the recording is made known. Raises UsageError
    where it is of another number of experts, or the ranks do not divide them."""
    if ep_size < 1 or experts % ep_size:
        raise UsageError(f"--ep-size {ep_size} does not divide {experts} experts. Try --ep-size 1")
    loads = expert_loads(recording, experts, top_k)
    make_known(recording)
    layer = Problem(experts // ep_size, top_k, 1, 1, tokens=1, ep_size=ep_size)
    paddings = [
        _padding(replace(layer, tokens=tokens, routing=name))
        for tokens in batch_sizes
        for name in ("uniform", recording.routing)
    ]
    return loads, paddings


def _padding(problem: Problem) -> Padding:
    """Count rows as the alignment kernel pads them: each expert's are rounded up."""
    problem = replace(problem, ep_rank=most_loaded_rank(problem))
    instances = [routed_rows(problem, instance, _SEED) for instance in range(_INSTANCES)]
    blocks = np.array(BLOCKS, dtype=float)
    padded = sum(instance.blocks(blocks) * blocks for instance in instances)
    rows = sum(instance.total for instance in instances)
    return Padding(problem.tokens, problem.routing, tuple((padded / max(rows, 1)).tolist()))


def load_row(load: ExpertLoad, ep_size: int) -> LoadRow:
    """Return how evenly a layer loads its experts, and of several ranks the slowest."""
    rank, share = load.slowest_rank(ep_size) if ep_size > 1 else (None, None)
    return LoadRow(
        layer=load.layer,
        tokens=load.tokens,
        busiest_over_mean=load.busiest,
        idle_experts=load.idle,
        entropy=load.entropy,
        slowest_rank=rank,
        slowest_over_mean=share,
    )


def padding_row(padding: Padding) -> PaddingRow:
    """Return rows after padding over rows before, at one batch size under one routing."""
    factors = dict(zip(map(str, BLOCKS), padding.factors, strict=True))
    return PaddingRow(batch_size=padding.tokens, routing=padding.routing, factors=factors)


def padding_words(row: PaddingRow) -> dict[str, Any]:
    """Return a row as a table for people has it."""
    said = row.as_json()
    factors = {f"BLOCK_SIZE_M={block}": factor for block, factor in said.pop("factors").items()}
    return {name: said[name] for name in ("batch_size", "routing")} | factors


def stats_picture(loads: Sequence[ExpertLoad], paddings: Sequence[Padding]) -> Picture:
    """Draw the loads of every layer, sorted, and the padding of every batch size."""
    figure, [left, right] = axes_row(2)
    shares = np.array([np.sort(load.rows)[::-1] / load.rows.mean() for load in loads])
    places = np.arange(1, shares.shape[1] + 1)
    left.plot(places, shares.T, color=BLUE, alpha=0.25, linewidth=0.8)
    left.plot(places, shares.mean(axis=0), color=BLUE, label="mean over layers")
    left.axhline(1, color=GREY, linestyle="--", label="even")
    left.set_title("Load of experts, the busiest first")
    left.set_xlabel("expert, by rank within its layer")
    left.set_ylabel("rows over the mean")
    left.legend(loc="upper right")
    sizes = [each.tokens for each in paddings if each.routing == "uniform"]
    for colour, is_uniform in ((BLUE, False), (ORANGE, True)):
        found = [p for p in paddings if (p.routing == "uniform") == is_uniform]
        for place, block in enumerate(BLOCKS):
            shade = 1 - 0.17 * (len(BLOCKS) - 1 - place)
            label = "uniform" if is_uniform else "recorded"
            factors = [each.factors[place] for each in found]
            right.plot(sizes, factors, color=colour, alpha=shade, label=f"{label}, {block}")
    token_axis(right, sizes)
    right.set_yscale("log", base=2)
    right.yaxis.set_major_formatter("{x:g}")
    right.set_title("Rows after padding over rows before")
    right.legend(ncols=2, title="routing, BLOCK_SIZE_M", fontsize=7)
    return Picture(
        "routing",
        "Recorded routing",
        "How unevenly experts are loaded, and what padding to BLOCK_SIZE_M costs.",
        figure,
    )
