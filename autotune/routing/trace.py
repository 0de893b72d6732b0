"""Expert ids that a model chose, per layer, and how batches are drawn from them.

A recording is known by the digest of its content, wherever its files lie: a problem says
``recorded:DIGEST``, and each process that draws routings makes the recording known first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autotune.errors import UsageError
from autotune.routing.distributions import Size

RECORDED = "recorded"
DECODE_TOKENS = 256
"""Up to so many tokens a batch is taken for decoding, one token of each of many sequences; above,
for prefill, consecutive tokens. A convention: the size of a batch does not say which it is."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerRows:
    """The choices of one layer's router, in the order of the tokens."""

    ids: NDArray[np.int32]
    """[rows, top_k] global expert ids."""
    sequences: NDArray[np.int32]
    """[rows] which sequence, or file, each row is from."""


@dataclass(frozen=True, eq=False)
class RoutingTrace:
    """Layer number → its rows. ``origin`` is what messages call it, ``notes`` what the files say
    of themselves (model, hash of the prompts)."""

    layers: Mapping[int, LayerRows]
    origin: str
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> int:
        return int(next(iter(self.layers.values())).ids.shape[1])

    @property
    def fewest_rows(self) -> int:
        return min(len(rows.ids) for rows in self.layers.values())

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits over every id, layer and sequence."""
        found = hashlib.sha256()
        for layer, rows in sorted(self.layers.items()):
            found.update(f"{layer} {rows.ids.shape}".encode())
            found.update(np.ascontiguousarray(rows.ids, dtype="<i4").tobytes())
            found.update(np.ascontiguousarray(rows.sequences, dtype="<i4").tobytes())
        return found.hexdigest()[:12]

    @cached_property
    def routing(self) -> str:
        """The name under which a problem asks for it."""
        return f"{RECORDED}:{self.digest}"

    def check(self, experts: int, top_k: int) -> None:
        """Raises UsageError where it is not of a layer that routes to ``top_k`` of ``experts``.

        Columns beyond ``top_k`` may only name fused shared experts, which come after the routed.
        """
        if self.columns < top_k:
            raise UsageError(
                f"{self.origin} has {self.columns} experts a token; the model has top-k {top_k}. "
                "Was it recorded from another model?"
            )
        for layer, rows in self.layers.items():
            routed, more = rows.ids[:, :top_k], rows.ids[:, top_k:]
            if routed.max(initial=0) >= experts:
                raise UsageError(
                    f"{self.origin}: layer {layer} names expert {routed.max()}; the model has "
                    f"experts 0 to {experts - 1}. Was it recorded from another model?"
                )
            if more.min(initial=experts) < experts:
                raise UsageError(
                    f"{self.origin} has {self.columns} experts a token; the model has top-k "
                    f"{top_k}, and the last columns are no fused shared experts. "
                    "Was it recorded from another model?"
                )

    def draw(self, size: Size, instance: int, seed: int) -> NDArray[np.int32]:
        """[M, top_k] ids of one batch. Instances go through the layers in a seeded order.

        A decode batch takes each row from another sequence as far as they go, a prefill batch
        consecutive rows; both repeat rows where the layer has too few. Raises UsageError where
        the recording is not of this layer's size.
        """
        self.check(size.experts, size.top_k)
        order = np.random.default_rng(seed).permutation(sorted(self.layers))
        rows = self.layers[int(order[instance % len(order)])]
        rng = np.random.default_rng((seed, instance))
        places = (
            _across_sequences(rows.sequences, size.tokens, rng)
            if size.tokens <= DECODE_TOKENS
            else _consecutive(len(rows.ids), size.tokens, rng)
        )
        return np.ascontiguousarray(rows.ids[places, : size.top_k])


def _across_sequences(
    sequences: NDArray[np.int32], tokens: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return rows in rounds, each of one random row of every sequence that has one left."""
    order = rng.permutation(len(sequences))
    order = order[np.argsort(sequences[order], kind="stable")]
    _, starts, counts = np.unique(sequences[order], return_index=True, return_counts=True)
    rounds = np.arange(len(order)) - np.repeat(starts, counts)
    places = order[np.lexsort((rng.random(len(order)), rounds))]
    return np.resize(places, tokens).astype(np.int64)


def _consecutive(rows: int, tokens: int, rng: np.random.Generator) -> NDArray[np.int64]:
    start = int(rng.integers(rows - tokens + 1 if rows >= tokens else rows))
    return (start + np.arange(tokens, dtype=np.int64)) % rows


_known: dict[str, RoutingTrace] = {}
"""Traces of this process by name. A problem crosses processes and storages as text, and ids are
drawn from it in many places (kernel inputs, time model, expert loads), so the trace is found by its
name. The name is a digest of the content: whoever fills this in, and in which order, a name stands
for the same ids. A process that lacks a trace is told so by ``known_trace``."""


def make_known(recording: RoutingTrace) -> None:
    """Let this process draw from ``recording``."""
    _known[recording.routing] = recording


def is_known(routing: str) -> bool:
    """False where the recording's files were not read in this process."""
    return routing in _known


def known_trace(routing: str) -> RoutingTrace:
    """Raises UsageError where it was not made known."""
    if routing not in _known:
        raise UsageError(
            f"routing {routing!r} is not at hand. Give --topk-ids-dir with the folder of that "
            "recording"
        )
    return _known[routing]


@dataclass(frozen=True, slots=True, eq=False)
class ExpertLoad:
    """The load of one layer's experts, over all recorded tokens."""

    layer: int
    tokens: int
    rows: NDArray[np.int64]
    """[experts] how many tokens visited each routed expert."""

    @property
    def busiest(self) -> float:
        """Rows of the busiest expert over the mean."""
        return float(self.rows.max() / self.rows.mean())

    @property
    def idle(self) -> int:
        """Experts that no token visited."""
        return int(np.count_nonzero(self.rows == 0))

    @property
    def entropy(self) -> float:
        """Entropy of a token's expert, as a share of log E: 1 is quite even, 0 is one expert."""
        if len(self.rows) == 1:
            return 1.0
        shares = self.rows[self.rows > 0] / self.rows.sum()
        return float(-(shares * np.log(shares)).sum() / np.log(len(self.rows)))

    def slowest_rank(self, ep_size: int) -> tuple[int, float]:
        """Return the expert-parallel rank with the most rows, and its rows over the mean."""
        ranks = self.rows.reshape(ep_size, -1).sum(axis=1)
        slowest = int(np.argmax(ranks))
        return slowest, float(ranks[slowest] / ranks.mean())


def expert_loads(recording: RoutingTrace, experts: int, top_k: int) -> list[ExpertLoad]:
    """Return one for each layer, in order. Raises UsageError where the recording does not fit."""
    recording.check(experts, top_k)
    return [
        ExpertLoad(
            layer, len(rows.ids), np.bincount(rows.ids[:, :top_k].ravel(), minlength=experts)
        )
        for layer, rows in sorted(recording.layers.items())
    ]
