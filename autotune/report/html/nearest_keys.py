"""The loss of a batch size if the engine file had no key for it: its neighbour's config decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autotune.backends.estimate.model import model_us
from autotune.backends.hardware import known_spec
from autotune.backends.routed_rows import routed_rows
from autotune.errors import DeviceError
from autotune.report.layers import TunedLayer, TunedSize, result_for, time_of
from autotune.routing.draw import drawable
from autotune.spec.config import AnyConfig, Config
from autotune.tuning.engine_output import Result

_ROUTINGS, _SEED = 3, 0
"""Instances for the model's guess; its error is larger than what more of them would change."""


@dataclass(frozen=True, slots=True)
class KeyLoss:
    """The loss of a tuned batch size if the engine file had no key for it."""

    tokens: int
    neighbour: int
    """The nearest other key, as both engines look it up: ties go to the smaller."""
    loss: float | None
    """Time of its config over the best's, less 1; None where neither measured nor modelled."""
    is_measured: bool
    """False where the static time model guessed ``loss``."""


def nearest_losses(layer: TunedLayer, engine: str) -> list[KeyLoss]:
    """Return a row for each batch size with a winner, where there are at least two."""
    winners = [
        (size, result, result.winner.config)
        for size in layer.sizes
        if (result := result_for(size, engine)) is not None and result.winner
    ]
    losses = []
    for size, result, own in winners if len(winners) > 1 else ():
        others = [(other, config) for other, _, config in winners if other is not size]
        other, foreign = min(others, key=lambda o: (abs(o[0].tokens - size.tokens), o[0].tokens))
        measured = _measured(result, own, foreign)
        loss = _modelled(size, own, foreign) if measured is None else measured
        losses.append(KeyLoss(size.tokens, other.tokens, loss, is_measured=measured is not None))
    return losses


def _measured(result: Result, own: AnyConfig, foreign: AnyConfig) -> float | None:
    if own == foreign:
        return 0.0
    ours, theirs = time_of(result, own), time_of(result, foreign)
    return None if ours is None or theirs is None else theirs / ours - 1


def _modelled(size: TunedSize, own: AnyConfig, foreign: AnyConfig) -> float | None:
    spec = known_spec(size.study.key.device.name)
    if spec is None or not isinstance(own, Config) or not isinstance(foreign, Config):
        return None
    if size.problem != drawable(size.problem):
        return None
    rows = [routed_rows(size.problem, instance, _SEED) for instance in range(_ROUTINGS)]
    try:
        ours, theirs = np.median(model_us(size.problem, [own, foreign], spec, rows), axis=0)
    except DeviceError:
        return None
    return float(theirs / ours - 1)
