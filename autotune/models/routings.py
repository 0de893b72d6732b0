"""The meaning of ``--routing`` for a model: its own groups, and a recorded trace that fits it."""

from __future__ import annotations

import logging
from functools import cache
from itertools import pairwise
from pathlib import Path

from autotune.errors import UsageError
from autotune.models.shape import ModelShape
from autotune.routing.distributions import Size, check
from autotune.routing.trace import (
    RECORDED,
    RoutingTrace,
    is_known,
    known_trace,
    make_known,
)
from autotune.routing.trace_files import read_trace

logger = logging.getLogger(__name__)

GROUPED = "grouped"


def routing_of(shape: ModelShape, routing: str, folder: str | None, tokens: int) -> str:
    """``routing`` as a problem of this model with ``tokens`` rows says it; the recording in
    ``folder`` is made known.

    Raises UsageError for an unknown name or numbers that do not suit the model, where it has no
    groups, and where the recording is another one than ``routing`` names or is not of this model.
    """
    names = [_grouped(shape, name) if name == GROUPED else name for name in routing.split(",")]
    for name in names:
        if name.startswith(RECORDED):
            recording = _recording(name, folder)
            check_recording(shape, recording)
            _say_if_short(recording, tokens)
        else:
            check(name, Size(tokens, shape.experts, shape.top_k))
    return ",".join(names)


def check_recording(shape: ModelShape, recording: RoutingTrace) -> None:
    """Raises UsageError where the recording cannot be of this model; says what it lacks."""
    recording.check(shape.experts, shape.top_k)
    layers = sorted(recording.layers)
    first, last = shape.first_dense_layers, shape.layers - 1
    if layers[0] < first:
        raise UsageError(
            f"{recording.origin} has layer {layers[0]}, but the first {first} layers of "
            f"{shape.name} are dense. Was it recorded from another model?"
        )
    if shape.layers and layers[-1] > last:
        raise UsageError(
            f"{recording.origin} has layer {layers[-1]}, but {shape.name} has layers 0 to {last}. "
            "Was it recorded from another model?"
        )
    missing = sorted(set(shape.moe_layers) - set(layers))
    unless = ""
    if not shape.moe_layers:
        missing = missing_layers(layers, first, last if shape.layers else layers[-1])
        unless = "unless they are dense, "
    if missing:
        _say(
            f"{recording.origin} lacks layers {', '.join(map(str, missing))} of {shape.name}: "
            f"{unless}the others stand for them"
        )


def missing_layers(layers: list[int], first: int, last: int) -> list[int]:
    """Layers that a model with experts in every n-th layer would have too, n being the smallest
    distance of two recorded ones; 1 where there is one alone."""
    step = min((b - a for a, b in pairwise(layers)), default=1)
    expected = {
        *range(layers[0], first - 1, -step),
        *range(layers[0], last + 1, step),
    }
    return sorted(expected - set(layers))


def _recording(routing: str, folder: str | None) -> RoutingTrace:
    """Return the one that ``routing`` names; read where this process does not know it yet."""
    if folder is not None and not is_known(routing):
        found = read_trace(Path(folder))
        if found.routing != routing:
            raise UsageError(
                f"--topk-ids-dir {folder} holds {found.routing}, but this was started with "
                f"{routing}. Bring that recording back, or start anew with this one"
            )
        make_known(found)
    return known_trace(routing)


def _say_if_short(recording: RoutingTrace, tokens: int) -> None:
    if tokens > recording.fewest_rows:
        _say(
            f"{recording.origin} has {recording.fewest_rows} tokens: larger batch sizes repeat "
            "some of them"
        )


@cache
def _say(text: str) -> None:
    logger.warning(text)


def _grouped(shape: ModelShape, name: str) -> str:
    if shape.expert_groups < 1 or shape.top_k_groups < 1:
        raise UsageError(
            f"--routing {name}: the config of {shape.name} has no n_group and topk_group. "
            "Say how many groups and how many a token keeps: --routing grouped:8:4"
        )
    return f"{GROUPED}:{shape.expert_groups}:{shape.top_k_groups}"
